"""Figures 1 to 3 of the IoU-balanced losses (Wu and Li 2020)."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from detlab.losses.iou_balanced import W_LOC
from detlab.metrics.by_iou import best_iou, mean_score_by_iou, share_reaching
from detlab.reporting.figures.drawing import Drawing, Figures, Runs, beside_and_change, seeds
from detlab.reporting.figures.evaluated import evaluated
from detlab.reporting.study.table import Run
from detlab.visualization.panels import Panel, Series

from .figure_gradient_norm import DELTA, gradient_bound, gradient_of_loss

BASELINE = "iou_balanced/table2/baseline"
CLASSIFICATION = "iou_balanced/table2/cls"
LOCALIZATION = "iou_balanced/table2/loc"
BOTH = "iou_balanced/table2/both"
NAMES = {
    BASELINE: "baseline",
    CLASSIFICATION: "IoU-balanced classification",
    LOCALIZATION: "IoU-balanced localisation",
    BOTH: "both",
}

EDGES = np.linspace(0, 1, 11)  # bins of Fig. 2
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of Fig. 3, COCO's
LAMBDA = 1.5  # whose single boxes Fig. 1 shows


def figure1(runs: Runs) -> Drawing:  # noqa: ARG001
    """Gradient norm over an offset: the bounds for the paper's five λ, and real boxes through the loss beside one."""
    d = np.linspace(0, 1, 101)
    panels = []
    for title, axis, size in (("centre, Eq. 11", "|d| of cx or cy", False), ("size, Eq. 12", "|d| of w or h", True)):
        lines = [
            Series(f"λ = {value:g}", d, gradient_bound(d, value, weight, size), colour=None if value == 0 else number)
            for number, (value, weight) in enumerate(W_LOC.items())
        ]
        panels.append(Panel(title, axis, "gradient norm", [*lines, *_real_boxes(size)], limits=(0, 3.2)))
    caption = (
        f"Lines: upper bound for w_t = w_s and δ = {DELTA}. Dots: autograd through the loss for λ = {LAMBDA:g}, of "
        "boxes that are off in this coordinate alone, and of random ones, off in all four; Eq. 7 bounds boxes of the "
        "object's width: wider ones may lie above the line at the left."
    )
    return Drawing(panels, caption, from_runs=False)


def _real_boxes(size: bool) -> list[Series]:
    rng = np.random.default_rng(0)
    coordinate = 2 if size else 0
    measure = partial(gradient_of_loss, coordinate=coordinate, lambda_=LAMBDA, weight=W_LOC[LAMBDA])
    alone = np.zeros((21, 4))
    alone[:, coordinate] = np.linspace(0, 1, 21) * (-1) ** np.arange(21)
    free = rng.uniform(-1, 1, (250, 4)) * rng.uniform(0, 1, (250, 1)) ** 2
    position = list(W_LOC).index(LAMBDA)
    return [
        Series(f"loss, λ = {LAMBDA:g}: off in d alone", np.abs(alone[:, coordinate]), measure(alone),
               colour=position, style="dots"),
        Series(f"loss, λ = {LAMBDA:g}: off in all four", np.abs(free[:, coordinate]), measure(free),
               colour=5, style="dots"),
    ]  # fmt: skip


def figure2(runs: Runs) -> Drawing:
    """Mean score by IoU, and how far IoU-balanced classification moves it."""
    rows = [BASELINE, CLASSIFICATION]
    found = runs.of(rows)
    middles = (EDGES[:-1] + EDGES[1:]) / 2
    means = {row: np.array([_scores(run) for run in found[row]]) for row in rows}
    panels = beside_and_change(
        found, NAMES, middles, means,
        ("Mean score by IoU", "Change from the baseline"),
        ("IoU with the best ground truth", "mean score", "difference of mean scores"),
    )  # fmt: skip
    return Drawing(panels, f"All detections of the test pictures, {seeds(found)}.")


def figure3(runs: Runs) -> Drawing:
    """Which share of the detections reaches each IoU, and the gain of IoU-balanced localization.

    The paper does not say of which detections; here of those that are on an object, so that the many boxes of low score
    beside all objects, which say nothing of localization, do not enter.
    """
    rows = [BASELINE, LOCALIZATION]
    found = runs.of(rows)
    shares = {row: np.array([_shares(run) for run in found[row]]) for row in rows}
    panels = beside_and_change(
        found, NAMES, THRESHOLDS, shares,
        ("Detections that reach an IoU", "Change from the baseline"),
        ("IoU threshold", "share of detections, %", "difference, percentage points"),
    )  # fmt: skip
    return Drawing(panels, f"Detections with an IoU of at least 0.5 on the test pictures, {seeds(found)}.")


def _scores(run: Run) -> NDArray[np.float64]:
    found, truth = evaluated(run)
    return mean_score_by_iou(best_iou(found, truth), found.score, EDGES)[0]


def _shares(run: Run) -> NDArray[np.float64]:
    """In per cent of the detections that are on an object."""
    iou = best_iou(*evaluated(run))
    return 100 * share_reaching(iou[iou >= THRESHOLDS[0]], THRESHOLDS)


FIGURES: Figures = {"figure1": figure1, "figure2": figure2, "figure3": figure3}
