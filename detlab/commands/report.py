"""`detlab report`: the page of a run, or the comparison of a table's runs."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detlab.config.launch import CONFIG_DIR, launch
from detlab.data.files import write_atomic
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.reporting.pages.run import write_report
from detlab.reporting.pages.sources import find_source
from detlab.reporting.study.table import Table

__all__ = ["report", "write_report"]

log = logging.getLogger(__name__)


class Comparison(NamedTuple):
    """A table and where it is written: `page` without its suffix, `record` (without too) where it is to be kept."""

    table: Table
    page: Path
    record: Path | None = None


def report(cfg: Any) -> int:
    """What `detlab report` does with conf/report.yaml composed; the exit status is 1 where a run has failed.

    Everything is read, judged and drawn before anything is written.
    """
    from detlab.config.schema import validate

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
        comparisons = _of_studies(cfg, source.paths, output)
    elif source.kind == "record":
        comparisons = [_of_record(cfg, source.paths[0], output)]
    else:
        comparisons = [_of_folder(source.paths[0], output)]
    _publish(comparisons)
    return int(any(comparison.table.failures for comparison in comparisons))


def _of_studies(cfg: Any, paths: Sequence[Path], output: Path | None) -> list[Comparison]:
    from detlab.reporting.study.collect import table_of_study
    from detlab.reporting.study.definition import read_study
    from detlab.reporting.study.record import table_of_record

    result = []
    for study in [read_study(path) for path in paths]:
        seeds = None if cfg.seeds is None else [cfg.seeds] if isinstance(cfg.seeds, int) else list(cfg.seeds)
        kept = study.path.resolve().parent / "results" / f"{study.path.stem}-{cfg.setting}" if cfg.record else None
        earlier = kept.with_name(f"{kept.name}.json") if kept and cfg.record == "add" else None
        recorded = table_of_record(earlier) if earlier and earlier.is_file() else None
        table = table_of_study(study, cfg.runs, cfg.setting, seeds, recorded)
        result.append(Comparison(table, _page(table, cfg.runs, output, "report"), kept))
    return result


def _of_record(cfg: Any, path: Path, output: Path | None) -> Comparison:
    from detlab.reporting.study.record import table_of_record

    table = table_of_record(path)
    return Comparison(table, _page(table, cfg.runs, output, "recorded"))


def _page(table: Table, runs: str, output: Path | None, kind: str) -> Path:
    """Without its suffix: `output` may take several tables, so that the table's name is in the file's there."""
    if output:
        return output / f"{table.name.rpartition('/')[2]}-{table.setting}"
    return Path(runs) / table.name / f"{kind}-{table.setting}"


def _of_folder(folder: Path, output: Path | None) -> Comparison:
    from detlab.reporting.study.collect import table_of_folder

    return Comparison(table_of_folder(folder), (output or folder) / "report")


def _publish(comparisons: Sequence[Comparison]) -> None:
    """Write and print; of several, an index of their pages comes last."""
    from detlab.reporting.pages.comparison import comparison_page
    from detlab.reporting.pages.markdown import comparison_markdown
    from detlab.reporting.pages.terminal import print_comparison, print_index
    from detlab.reporting.study.record import record_text

    files: dict[Path, str] = {}
    for table, page, record in comparisons:
        markdown = comparison_markdown(table)
        files |= {
            page.with_name(f"{page.name}.html"): comparison_page(table),
            page.with_name(f"{page.name}.md"): markdown,
        }
        if record:
            files |= {
                record.with_name(f"{record.name}.json"): record_text(table),
                record.with_name(f"{record.name}.md"): markdown,
            }
    for path, text in files.items():
        write_atomic(path, text)
    for comparison in comparisons:
        print_comparison(comparison.table)
    if len(comparisons) > 1:
        print_index([comparison.table for comparison in comparisons])
    for path in files:
        log.info("%s: %s", "Report" if path.suffix == ".html" else "Written", path)


def named(arguments: Sequence[str]) -> list[str]:
    """The command line with its bare word named: ``runs/x/seed=0`` becomes ``source=runs/x/seed=0``."""
    result = list(arguments)
    for position, (before, argument) in enumerate(zip(["", *arguments], arguments)):
        setting = re.match(r"[+~]|[\w.@]+=", argument) and not Path(argument).exists()
        if not argument.startswith("-") and not before.startswith("-") and not setting:
            result[position] = f"source={argument}"
            break
    return result


def main() -> None:
    sys.argv[1:] = named(sys.argv[1:])
    launch("report", report)


if __name__ == "__main__":
    main()
