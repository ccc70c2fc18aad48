"""Figures 3, 4 and A.7 of aLRP Loss (Oksuz et al. 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detlab.reporting.figures.drawing import Drawing, Figures, Runs, seeds
from detlab.visualization.curves import running_mean
from detlab.visualization.panels import Panel, Series
from detlab.visualization.seeds import Curve, band

from .figure_wrong_target import Target, descend

PLAIN, BALANCED = "alrp/table2/alrp_iou", "alrp/table2/alrp_iou_sb"
KINDS = {
    "alrp/figure4/ce": "cross-entropy",
    "alrp/figure4/focal": "focal loss",
    "alrp/figure4/alrp": "aLRP Loss",
}
LOSSES = {
    "train/loss": "aLRP Loss",
    "train/loss_classification": "its classification part",
    "train/loss_localization": "its localisation part",
}
TARGETS: dict[Target, str] = {"localization": "target of Eq. 13", "zero": "target 0"}


def figure3(runs: Runs) -> Drawing:
    """aLRP Loss and its two parts over training, without and with self-balancing."""
    found = runs.curves([PLAIN, BALANCED], list(LOSSES))
    titles = {PLAIN: "Without self-balancing", BALANCED: "With self-balancing"}
    lines = {
        row: [
            _mean(name, [(x, _smooth(y)) for x, y in curves], None if number == 0 else number - 1)
            for number, (name, curves) in enumerate(zip(LOSSES.values(), columns))
        ]
        for row, columns in found.items()
    }
    top = max(float(series.high.max()) for each in lines.values() for series in each if series.high is not None)
    panels = [Panel(titles[row], "iteration", "loss", lines[row], limits=(0, 1.05 * top)) for row in found]
    caption = f"Running means, {seeds({row: columns[0] for row, columns in found.items()})}."
    return Drawing(panels, caption)


def figure4(runs: Runs) -> Drawing:
    """Σ |∂L/∂logit| of negatives over that of positives, and the classification loss, of three losses."""
    found = runs.curves(list(KINDS), ["train/gradient_ratio", "train/loss_classification"])
    ratios, losses = (
        [_mean(KINDS[row], columns[position], number) for number, (row, columns) in enumerate(found.items())]
        for position in (0, 1)
    )
    panels = [
        Panel("Gradients: negatives / positives", "iteration", "ratio", ratios, log=True, level=1.0),
        Panel("Classification loss", "iteration", "loss", losses, log=True),
    ]
    caption = f"Not smoothed, {seeds({row: columns[0] for row, columns in found.items()})}."
    return Drawing(panels, caption)


def figure_a7(runs: Runs) -> Drawing:  # noqa: ARG001
    """What becomes of balance and loss with the right target and with zero, on scores that are learned directly."""
    ratios, losses, margins = [], [], []
    for number, (target, name) in enumerate(TARGETS.items()):
        course = descend(target)
        steps = np.arange(len(course.loss), dtype=float)
        trained = course.positives > 1e-6  # else all are ranked properly and there is no gradient left to compare
        share = np.divide(course.negatives, course.positives, out=np.full(len(steps), np.nan), where=trained)
        ratios.append(Series(name, steps, share, colour=number))
        losses.append(Series(name, steps, course.loss, colour=number))
        margins.append(Series(name, steps, course.margin, colour=number))
    panels = [
        Panel("Gradients: negatives / positives", "step", "ratio", ratios, limits=(-0.05, 1.1)),
        Panel("aLRP Loss", "step", "loss", losses),
        Panel("Positives above negatives", "step", "difference of mean scores", margins),
    ]
    caption = (
        "Gradient descent on the scores of 20 positives with fixed localization errors and 400 negatives. Both are "
        "balanced until no negative stands above a positive; then only the right target stops, where its line ends at "
        "the left."
    )
    return Drawing(panels, caption, from_runs=False)


def _mean(name: str, curves: list[Curve], colour: int | None) -> Series:
    steps, mean, low, high = band(curves)
    return Series(name, steps, mean, low, high, colour=colour)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A running mean of what was logged; nan stays where nothing was."""
    result, logged = values.copy(), np.isfinite(values)
    result[logged] = running_mean(values[logged]) if logged.sum() > 60 else values[logged]
    return result


FIGURES: Figures = {"figure3": figure3, "figure4": figure4, "figure_a7": figure_a7}
