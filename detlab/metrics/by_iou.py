"""Detections by how well they sit: their scores, and how many there are (Wu and Li 2020, Figs. 2 and 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detlab.metrics.columns import Found, Truth, pairs


def best_iou(found: Found, truth: Truth) -> NDArray[np.float64]:
    """IoU of each detection with the ground truth of its image and class that it overlaps most ``[N]``.

    0 without overlap; nan where that one is ignored (crowd, difficult): such a detection is neither good nor bad. Of
    equal overlaps an ignored one counts only if all are. Several detections may have the same best ground truth.
    """
    best = np.zeros(len(found.score))
    for block in pairs(found, truth):
        if not len(block.iou):
            continue
        starts = np.flatnonzero(np.diff(block.found, prepend=-1))
        rows = block.found[starts]
        highest = np.maximum.reduceat(block.iou, starts)
        counted = np.where(truth.ignore[block.truth], -1.0, block.iou)
        known = np.maximum.reduceat(counted, starts) == highest
        best[rows] = np.where(known | (highest == 0), highest, np.nan)
    return best


def mean_score_by_iou(
    iou: ArrayLike, score: ArrayLike, edges: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean of ``score [N]`` over each bin of ``iou [N]``, and how many fall into it: both ``[E − 1]``.

    A bin holds its lower edge (of ``edges [E]``, rising) but not its upper one, which only the last does. Empty bins
    are nan; detections with nan as IoU are left out.
    """
    values, scores, limits = np.asarray(iou, float), np.asarray(score, float), np.asarray(edges, float)
    if len(limits) < 2 or (np.diff(limits) <= 0).any():
        raise ValueError(f"Expected at least two edges in rising order, got {limits.tolist()}.")
    known = np.isfinite(values)
    count, _ = np.histogram(values[known], limits)
    total, _ = np.histogram(values[known], limits, weights=scores[known])
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0), count


def share_reaching(iou: ArrayLike, thresholds: ArrayLike) -> NDArray[np.float64]:
    """Which share of the detections, nan left out, has an IoU of at least each of ``thresholds [T]``: ``[T]``; nan
    without detections."""
    values, limits = np.asarray(iou, float), np.asarray(thresholds, float)
    known = values[np.isfinite(values)]
    return (known[:, None] >= limits).mean(0) if len(known) else np.full(len(limits), np.nan)
