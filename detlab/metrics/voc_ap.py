"""Average precision as PASCAL VOC defines it (Everingham et al. 2010, §4.2; development kit 2010)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detlab.metrics.columns import Found, Truth, pairs

Points = Literal["area", "11"]


def average_precision(recall: NDArray[np.float64], precision: NDArray[np.float64], points: Points = "area") -> float:
    """Summarise a curve, recall ``[N]`` rising, precision ``[N]`` → AP.

    "area" (VOC 2010 on): the area under the smallest falling curve above the points; "11" (VOC 2007): the
    mean of its values at recall 0, 0.1, …, 1.
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "11":
        at = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-12)  # 0.30000000000000004 is 0.3
        return float(np.append(envelope, 0.0)[at].mean())
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def judge(found: Found, truth: Truth, iou: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections are right: (true positive ``[N]``, counted ``[N]``).

    A detection is held against the ground truth of its image and class that it overlaps most, by plain IoU,
    and against no other. If that one is difficult the detection is not counted, however many there are; else
    the best-scored detection of each ground truth is right and the rest are false. `found` must stand in
    falling order of score.
    """
    best = np.full(len(found.score), -1)
    for block in pairs(found, truth):
        if not len(block.iou):
            continue
        starts = np.flatnonzero(np.diff(block.found, prepend=-1))
        highest = np.maximum.reduceat(block.iou, starts)
        lengths = np.diff(starts, append=len(block.iou))
        chosen = np.flatnonzero((block.iou == np.repeat(highest, lengths)) & (block.iou >= iou))
        rows, first = np.unique(block.found[chosen], return_index=True)
        best[rows] = block.truth[chosen[first]]
    hit = best >= 0
    counted = ~hit
    counted[hit] = ~truth.ignore[best[hit]]
    right = np.zeros(len(best), dtype=bool)
    candidates = np.flatnonzero(hit & counted)
    right[candidates[np.unique(best[candidates], return_index=True)[1]]] = True
    return right, counted


def voc_ap(
    found: Found, truth: Truth, num_classes: int, iou: float = 0.5, points: Points = "area"
) -> NDArray[np.float64]:
    """AP per class ``[C]``; nan for a class without ground truth that counts. There is no cap on detections."""
    found = found.rows(np.argsort(-found.score, kind="stable"))
    right, counted = judge(found, truth, iou)
    result = np.full(num_classes, np.nan)
    for label in np.unique(truth.label[~truth.ignore]):
        positives = int((truth.label == label)[~truth.ignore].sum())
        mine = right[(found.label == label) & counted]
        hits = np.cumsum(mine)
        result[label] = average_precision(hits / positives, hits / np.arange(1, len(mine) + 1), points)
    return result
