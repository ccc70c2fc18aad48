"""Figures 2 to 4 of certainty-aware pseudo-labels (Li et al. 2021)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detlab.metrics.coco_ap import IOU_THRESHOLDS, coco_curves
from detlab.reporting.figures.drawing import Drawing, Figures, Runs, beside_and_change, seeds
from detlab.reporting.figures.evaluated import evaluated
from detlab.reporting.study.table import Run

from .figure_boxes import OURS, PLAIN, figure4
from .figure_teachers import figure3

NAMES = {PLAIN: "plain pseudo-labels", OURS: "certainty-aware"}


def figure2(runs: Runs) -> Drawing:
    """AP at each of COCO's IoU thresholds, and the gain over plain pseudo-labels."""
    rows = [PLAIN, OURS]
    found = runs.of(rows)
    values = {row: np.array([ap_by_iou(run) for run in found[row]]) for row in rows}
    panels = beside_and_change(
        found, NAMES, IOU_THRESHOLDS, values,
        ("AP at an IoU", "Change from plain pseudo-labels"), ("IoU threshold", "AP, %", "difference of AP"),
    )  # fmt: skip
    return Drawing(panels, f"Students on the test pictures, {seeds(found)}.")


def ap_by_iou(run: Run) -> NDArray[np.float64]:
    """In per cent, at each of `IOU_THRESHOLDS`: the mean over classes with objects."""
    found, truth = evaluated(run)
    classes = int(truth.label.max(initial=-1)) + 1
    return 100 * np.nanmean(coco_curves(found, truth, classes).precision[..., 0].mean(1), axis=1)


FIGURES: Figures = {"figure2": figure2, "figure3": figure3, "figure4": figure4}
