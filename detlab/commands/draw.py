"""`detlab draw`: the figures of a paper from its runs, as images and as numbers."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from detlab.config.groups import CONFIG_DIR
from detlab.config.launch import launch
from detlab.config.overrides import name_source
from detlab.config.schema import validate
from detlab.errors import UserError
from detlab.reporting.figures.drawing import Runs
from detlab.reporting.figures.papers import draw_figures, load_figures


def draw(cfg: DictConfig) -> int:
    """Draw what `cfg` (conf/draw.yaml composed) asks for; the exit status is 1 where a figure lacks its runs.

    Each figure becomes ``<figure>-<setting>.png`` and ``.csv`` (without the setting where it needs no runs; with the
    paper before it in a folder of the user's).
    """
    validate(cfg, "draw")
    figures = load_figures(cfg.source)
    if cfg.output and cfg.record:
        raise UserError("record=true writes to experiments/<paper>/results; leave out output=, or record.")
    names = [cfg.only] if isinstance(cfg.only, str) else list(cfg.only or figures)
    runs = Runs(Path(cfg.runs), cfg.setting)
    return int(draw_figures(cfg.source, figures, names, runs, partial(_place, cfg)) > 0)


def _place(cfg: DictConfig, name: str) -> Path:
    if cfg.record:
        return (CONFIG_DIR / "experiment").resolve() / cfg.source / "results" / name
    return Path(cfg.output) / f"{cfg.source}-{name}" if cfg.output else Path(cfg.runs) / cfg.source / name


def main() -> None:
    sys.argv[1:] = name_source(sys.argv[1:])
    launch("draw", draw)


if __name__ == "__main__":
    main()
