"""The papers that have figures, and how these are drawn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from detlab.data.files import write_atomic
from detlab.errors import UserError, nearest
from detlab.reporting.figures.drawing import Figures, Runs
from detlab.visualization.output import png_bytes

log = logging.getLogger(__name__)

PAPERS = ("alrp", "certainty", "iou_balanced", "paa", "proxy")  # modules of detlab.reporting.figures


def figures_of(paper: str) -> Figures:
    """The figures of a paper by name. Raises UserError for a paper without figures."""
    if paper not in PAPERS:
        raise UserError(f"There are no figures of '{paper}'{nearest(paper, PAPERS)}.")
    return import_module(f"detlab.reporting.figures.{paper}").FIGURES


def draw_figures(paper: str, figures: Figures, names: Sequence[str], runs: Runs, place: Callable[[str], Path]) -> int:
    """Write each figure as PNG and CSV; returns how many could not be drawn.

    Args:
        paper: Whose figures.
        figures: All of them.
        names: Those to draw.
        runs: What they are drawn from.
        place: Name of a file without suffix → its path.

    Raises:
        UserError: The paper has no figure of that name. One that lacks its runs is named in a warning and leaves the
            others alone.
    """
    for name in names:
        if name not in figures:
            raise UserError(f"{paper} has no figure '{name}'{nearest(name, figures)}.")
    failures = 0
    for name in names:
        try:
            drawing = figures[name](runs)
        except UserError as error:
            log.warning("%s cannot be drawn: %s", name, error)
            failures += 1
            continue
        path = place(f"{name}-{runs.setting}" if drawing.from_runs else name)
        write_atomic(path.with_name(f"{path.name}.csv"), drawing.csv())
        write_atomic(path.with_name(f"{path.name}.png"), png_bytes(drawing.picture()))
        log.info("%s.png and .csv: %s", path, drawing.caption)
    return failures
