"""Whether detections that score higher lie better: ρ of Oksuz et al., NeurIPS 2020 (§5, Tables 2 and 3)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, rankdata

from detlab.metrics.coco_match import Ranked


def rank_correlation(score: NDArray[np.float64], iou: NDArray[np.float64]) -> float:
    """Pearson correlation of two rankings, by score ``[N]`` and by IoU ``[N]``, in −1..1 (Spearman's coefficient).

    Equal values share the mean of their ranks. nan for fewer than two, or where all scores or all overlaps are equal.
    """
    if len(score) < 2 or np.ptp(score) == 0 or np.ptp(iou) == 0:
        return float("nan")
    return float(pearsonr(rankdata(score), rankdata(iou)).statistic)


def rank_correlations(classes: Iterable[Ranked], num_classes: int) -> NDArray[np.float64]:
    """ρ of the true positives of each class, ``[C]``; nan for a class without two that can be ranked."""
    result = np.full(num_classes, np.nan)
    for ranked in classes:
        result[ranked.label] = rank_correlation(ranked.score[ranked.correct], ranked.iou[ranked.correct])
    return result
