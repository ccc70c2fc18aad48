"""The papers whose figures can be drawn: each has a file `figures.py` beside its experiments."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from detlab.data.files import write_atomic
from detlab.errors import UserError, nearest
from detlab.reporting.figures.drawing import Figures, Runs
from detlab.reporting.study.definition import EXPERIMENTS
from detlab.visualization.output import png_bytes

log = logging.getLogger(__name__)

FILE = "figures.py"


def papers(experiments: Path = EXPERIMENTS) -> list[str]:
    """The folders of `experiments` that hold a `figures.py`, sorted."""
    return sorted(file.parent.name for file in experiments.glob(f"*/{FILE}"))


def load_figures(paper: str, experiments: Path = EXPERIMENTS) -> Figures:
    """Load ``FIGURES``, a mapping from names to functions of `Runs`, of ``<experiments>/<paper>/figures.py``.

    The file is loaded by its path, so that it also works from an installed wheel, where the experiments lie among the
    configs. It may import the files beside it: ``from .figure_counts import figure4b``.

    Raises:
        UserError: The paper has no `figures.py`, or that file defines no ``FIGURES``.
    """
    known = papers(experiments)
    if paper not in known:
        raise UserError(f"There are no figures of '{paper}'{nearest(paper, known)}.")
    folder = (experiments / paper).resolve()
    spec = spec_from_file_location(
        f"detlab_figures_{paper}", folder / FILE, submodule_search_locations=[str(folder)]
    )  # the folder as the package's, and figures.py as its __init__
    assert spec is not None, "the file ends in .py"
    assert spec.loader is not None, "it is a file"
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, "FIGURES"):
        raise UserError(f"{folder / FILE} defines no FIGURES, a mapping from names of figures to functions.")
    figures: Figures = module.FIGURES
    return figures


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
