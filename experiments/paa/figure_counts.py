"""Figure 4b of PAA: how many anchors answer for an object as training proceeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detlab.reporting.figures.drawing import Drawing, Runs, seeds
from detlab.visualization.curves import running_mean
from detlab.visualization.panels import Panel, Series
from detlab.visualization.seeds import Curve, band

from .figure_runs import PAA

FIXED = {number: f"paa/table1_left/fnp_{number}" for number in (5, 10, 20)}
COLUMN = "train/positives_per_object"
MOST = 50  # positives with which the falling rule begins


def figure4b(runs: Runs) -> Drawing:
    """PAA beside fixed numbers of positives, and beside a number that falls linearly (a rule, no run)."""
    rows = [PAA, *FIXED.values()]
    found = {row: columns[0] for row, columns in runs.curves(rows, [COLUMN]).items()}
    lines = [_mean("PAA", found[PAA], 0)]
    lines += [_mean(f"the {n} best", found[row], k + 1) for k, (n, row) in enumerate(FIXED.items())]
    end = max(float(x[-1]) for x, _ in found[PAA])
    rule = Series(
        "falling linearly (a rule, no run)", np.array([0.0, end]), np.array([float(MOST), 1.0]), colour=None,
        style="dashed",
    )  # fmt: skip
    top = 1.05 * max(MOST, *(float(line.high.max()) for line in lines if line.high is not None))
    panel = Panel("Positive anchors per object", "iteration", "positives per object", [*lines, rule], limits=(0, top))
    caption = (
        f"Mean over the objects of a batch, running means, {seeds(found)}. Fixed numbers: fewer where an object has "
        f"fewer candidates. Dashed: a number of positives that falls linearly from {MOST} to 1, as that of MAL (Ke et "
        f"al. 2019) falls; it is the rule, {MOST} is our choice, and nothing was trained with it."
    )
    return Drawing([panel], caption)


def _mean(name: str, curves: list[Curve], colour: int) -> Series:
    steps, mean, low, high = band([(x, _smooth(y)) for x, y in curves])
    return Series(name, steps, mean, low, high, colour=colour)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A running mean of what was logged; nan stays where nothing was."""
    result, logged = values.copy(), np.isfinite(values)
    result[logged] = running_mean(values[logged]) if logged.sum() > 60 else values[logged]
    return result
