"""`detlab check`: what is in a data set, and every problem in it."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from detlab.config.instantiate import build_source
from detlab.config.launch import launch
from detlab.config.schema import validate
from detlab.data.check_splits import check_splits
from detlab.data.checks.problems import Split
from detlab.engine.logs import quiet
from detlab.reporting.histograms import draw_histograms
from detlab.reporting.terminal.splits import print_split

log = logging.getLogger(__name__)


def check(cfg: DictConfig) -> int:
    """Read the splits of `cfg.data`, print a summary and the problems of each, write the histograms.

    Returns 1 when errors remain, else 0 (the exit status). Nothing of the user's is changed.
    """
    validate(cfg, "check")
    quiet()
    source = build_source(cfg.data)
    splits: list[Split] = ["train", "val", "test"] if cfg.split == "all" else [cfg.split]
    errors = 0
    for found in check_splits(source, splits, cfg.images):
        errors += found.errors
        print_split(found.split, found.index, found.problems, cfg.show, found.complete)
        if cfg.output:
            draw_histograms(found.index, Path(cfg.output) / source.name / found.split)
    if cfg.output:
        log.info("Histograms: %s", Path(cfg.output) / source.name)
    for note in getattr(source, "notes", list)() if "train" in splits else ():
        log.info("%s.", note)
    count = f"{errors} error{'s' * (errors > 1)}"
    log.info("%s", f"{count}: mend the files, or train with data.on_error=skip_box." if errors else "No errors.")
    return 1 if errors else 0


def main() -> None:
    launch("check", check)


if __name__ == "__main__":
    main()
