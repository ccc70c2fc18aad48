"""What AP would be if true positives scored exactly as well, or as badly, as they lie (Oksuz et al., NeurIPS 2020,
§5.2 and Table 3)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from detlab.metrics.coco_ap import IOU_THRESHOLDS, RECALL_THRESHOLDS
from detlab.metrics.coco_match import Ranked, match, ranked_classes
from detlab.metrics.columns import Found, Truth, mean_of_known
from detlab.metrics.rank_correlation import rank_correlations


def bounds_of(found: Found, truth: Truth, num_classes: int) -> dict[str, dict[str, float]]:
    """Table 3: ``as it is, matched once``, ``lower bound`` and ``upper bound`` → ``rho``, ``AP``, ``AP50``, ``AP75``,
    ``AP90``, means over the classes with objects (ρ: with two true positives to rank); nan where there are none."""
    classes = list(ranked_classes(found, truth, match(found, truth)))
    deals = {"as it is, matched once": lambda ranked: ranked, "lower bound": lower_bound, "upper bound": upper_bound}
    rows = {}
    for name, deal in deals.items():
        dealt = [deal(ranked) for ranked in classes]
        precision = average_precisions(dealt, num_classes)
        values = {"rho": rank_correlations(dealt, num_classes), "AP": precision}
        values |= {f"AP{iou}": precision[np.argmin(np.abs(IOU_THRESHOLDS - iou / 100))] for iou in (50, 75, 90)}
        rows[name] = {key: mean_of_known(value) for key, value in values.items()}
    return rows


def upper_bound(ranked: Ranked) -> Ranked:
    """The true positives' overlaps dealt out anew: the best-scored one lies best (ρ = 1)."""
    return _dealt(ranked, np.sort(ranked.iou[ranked.correct])[::-1])


def lower_bound(ranked: Ranked) -> Ranked:
    """The true positives' overlaps dealt out anew: the best-scored one lies worst (ρ = −1)."""
    return _dealt(ranked, np.sort(ranked.iou[ranked.correct]))


def _dealt(ranked: Ranked, iou: NDArray[np.float64]) -> Ranked:
    """Only the pairing of score and overlap within the class changes: scores, true and false positives at IoU 0.5 and
    the overlaps as a set stay, so AP50 does, too. `rows` still names the detections whose scores these are."""
    whole = ranked.iou.copy()
    whole[ranked.correct] = iou
    return ranked._replace(iou=whole)


def average_precisions(classes: Iterable[Ranked], num_classes: int) -> NDArray[np.float64]:
    """COCO's 101-point AP at IoU 0.50:0.05:0.95, ``[10, C]``, of classes matched once, at 0.5; nan without objects.

    COCO matches anew at each IoU: there a second detection of an object may be right where the first lies too
    badly. Here it stays wrong, as no overlap that is dealt out belongs to it. At 0.5 both are the same; above, this
    AP is a little lower.
    """
    result = np.full((len(IOU_THRESHOLDS), num_classes), np.nan)
    for ranked in classes:
        for row, threshold in enumerate(IOU_THRESHOLDS):
            result[row, ranked.label] = _coco_ap(ranked.correct & (ranked.iou >= threshold), ranked.positives)
    return result


def _coco_ap(correct: NDArray[np.bool_], positives: int) -> float:
    """Mean over recall 0, 0.01, …, 1 of the highest precision at that recall or more; 0 beyond what is reached."""
    hits = np.cumsum(correct)
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.append(envelope, 0.0)[np.searchsorted(hits / positives, RECALL_THRESHOLDS)].mean())
