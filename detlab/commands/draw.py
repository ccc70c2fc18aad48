"""`detlab draw`: the figures of a paper from its runs, as pictures and as numbers."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from detlab.commands.report import named
from detlab.config.launch import CONFIG_DIR, launch
from detlab.data.files import write_atomic
from detlab.errors import UserError, nearest

log = logging.getLogger(__name__)


def draw(cfg: Any) -> int:
    """Draw what `cfg` (conf/draw.yaml composed) asks for; the exit status is 1 where a figure lacks its runs.

    Each figure becomes ``<figure>-<setting>.png`` and ``.csv`` (without the setting where it needs no runs; with the
    paper before it in a folder of the user's). One that cannot be drawn is named in a sentence, with the command that
    trains its runs, and leaves the others alone.
    Raises UserError for a paper without figures, for a figure that it does not have, and for two places to write to.
    """
    from detlab.config.schema import validate
    from detlab.reporting.figures.drawing import Runs
    from detlab.reporting.figures.papers import load_figures
    from detlab.visualization.output import png_bytes

    validate(cfg, "draw")
    if cfg.output and cfg.record:
        raise UserError("record=true writes to experiments/<paper>/results; leave out output=, or record.")
    figures = load_figures(cfg.source)
    chosen = [cfg.only] if isinstance(cfg.only, str) else list(cfg.only or figures)
    for name in chosen:
        if name not in figures:
            raise UserError(f"{cfg.source} has no figure '{name}'{nearest(name, figures)}.")
    runs = Runs(Path(cfg.runs), cfg.setting)
    failures = 0
    for name in chosen:
        try:
            drawing = figures[name](runs)
        except UserError as error:
            log.warning("%s cannot be drawn: %s", name, error)
            failures += 1
            continue
        path = _place(cfg, f"{name}-{cfg.setting}" if drawing.from_runs else name)
        write_atomic(path.with_name(f"{path.name}.csv"), drawing.csv())
        write_atomic(path.with_name(f"{path.name}.png"), png_bytes(drawing.picture()))
        log.info("%s.png and .csv: %s", path, drawing.caption)
    return int(failures > 0)


def _place(cfg: Any, name: str) -> Path:
    if cfg.record:
        return (CONFIG_DIR / "experiment").resolve() / cfg.source / "results" / name
    return Path(cfg.output) / f"{cfg.source}-{name}" if cfg.output else Path(cfg.runs) / cfg.source / name


def main() -> None:
    sys.argv[1:] = named(sys.argv[1:])
    launch("draw", draw)


if __name__ == "__main__":
    main()
