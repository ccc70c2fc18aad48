"""`detlab report`: the page of a run, or the comparison of a table's runs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from detlab.config.groups import CONFIG_DIR
from detlab.config.launch import launch
from detlab.config.overrides import name_source
from detlab.config.schema import validate
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.reporting.pages.publish import compare_folder, compare_record, compare_study, publish
from detlab.reporting.pages.run import write_report
from detlab.reporting.pages.sources import find_source
from detlab.reporting.study.definition import read_study

log = logging.getLogger(__name__)


def report(cfg: DictConfig) -> int:
    """What `detlab report` does with conf/report.yaml composed; the exit status is 1 where a run has failed.

    Everything is read, judged and drawn before anything is written.
    """
    validate(cfg, "report")
    source = find_source(cfg.source, [Path("experiments"), CONFIG_DIR / "experiment"])
    output = Path(cfg.output) if cfg.output else None
    if cfg.record and source.kind != "studies":
        raise UserError(f"record=true keeps the results of a table beside its file; {cfg.source} is none.")
    if source.kind == "run":
        log.info("Report: %s", write_report(source.paths[0], output))
        run = RunFolder(source.paths[0])
        return int(run.failure.is_file() and run.state() != "finished")
    if source.kind == "studies":
        seeds = None if cfg.seeds is None else [cfg.seeds] if isinstance(cfg.seeds, int) else list(cfg.seeds)
        studies = [read_study(path) for path in source.paths]
        comparisons = [compare_study(study, cfg.runs, cfg.setting, seeds, output, cfg.record) for study in studies]
    elif source.kind == "record":
        comparisons = [compare_record(source.paths[0], cfg.runs, output)]
    else:
        comparisons = [compare_folder(source.paths[0], output)]
    publish(comparisons)
    return int(any(comparison.table.failures for comparison in comparisons))


def main() -> None:
    sys.argv[1:] = name_source(sys.argv[1:])
    launch("report", report)


if __name__ == "__main__":
    main()
