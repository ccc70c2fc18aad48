"""Optimal Localization-Recall-Precision error (Oksuz et al., ECCV 2018; here by Oksuz et al., NeurIPS 2020, Eq. 6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.detection.helpers import _input_validator

from detlab.metrics.coco_match import Ranked, match, ranked_classes
from detlab.metrics.columns import mean_of_known
from detlab.metrics.states import ColumnMetric


class LRPCurve(NamedTuple):
    """LRP of one class over score thresholds: threshold ``[T]``, the different scores in falling order; of the
    detections with that score or more: lrp ``[T]`` in 0..1, localization ``[T]`` the mean 1 − IoU of the true
    positives (nan without any), false_positive ``[T]`` 1 − precision, false_negative ``[T]`` 1 − recall."""

    threshold: NDArray[np.float64]
    lrp: NDArray[np.float64]
    localization: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    false_negative: NDArray[np.float64]


def lrp_curve(
    score: NDArray[np.float64], correct: NDArray[np.bool_], iou: NDArray[np.float64], positives: int, tau: float = 0.5
) -> LRPCurve:
    """Eq. 6 at every score s that some detection has.

        LRP(s) = (N_FP + N_FN + Σ_TP (1 − IoU) / (1 − τ)) / (N_FP + N_FN + N_TP)

    score, correct, iou ``[N]``: the detections of a class in falling order of score, whether each is a true
    positive, and its IoU (read of true positives only). positives: how many objects there are, at least one. Above
    the highest score nothing is detected and LRP is 1.
    """
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)[: len(score)])  # a threshold takes all equal scores
    hits = np.cumsum(correct)[last]
    error = np.cumsum(np.where(correct, 1 - iou, 0.0))[last]
    taken = last + 1
    missed = positives - hits
    return LRPCurve(
        score[last],
        (taken - hits + missed + error / (1 - tau)) / (taken + missed),
        np.divide(error, hits, out=np.full(len(last), np.nan), where=hits > 0),
        (taken - hits) / taken,
        missed / positives,
    )


class OLRP(NamedTuple):
    """The optimal LRP error and its components, each ``[C]``, in the order of `lrp_curve`; nan where a class has
    none."""

    olrp: NDArray[np.float64]
    localization: NDArray[np.float64]
    false_positive: NDArray[np.float64]
    false_negative: NDArray[np.float64]

    def means(self) -> dict[str, float]:
        """``oLRP``, ``oLRP_Loc``, ``oLRP_FP``, ``oLRP_FN`` over the classes that have them; nan where none has."""
        names = ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")
        return {name: mean_of_known(column) for name, column in zip(names, self)}


def optimal_lrp(classes: Iterable[Ranked], num_classes: int, tau: float = 0.5) -> OLRP:
    """oLRP = min over s of LRP(s) (§2.2), and its components at that threshold (the highest of equally good ones).

    The localisation component is the mean of 1 − IoU, not divided by 1 − τ. A class without true positives has
    oLRP = FN = 1 and neither localisation nor FP; one without objects has nothing at all (nan).
    """
    result = OLRP(*(np.full(num_classes, np.nan) for _ in OLRP._fields))
    for ranked in classes:
        curve = lrp_curve(ranked.score, ranked.correct, ranked.iou, ranked.positives, tau)
        useful = np.flatnonzero(~np.isnan(curve.localization))
        if not len(useful):
            result.olrp[ranked.label] = result.false_negative[ranked.label] = 1.0
            continue
        best = useful[np.argmin(curve.lrp[useful])]
        for column, values in zip(result, curve[1:]):
            column[ranked.label] = values[best]
    return result


class OptimalLRP(ColumnMetric):
    """oLRP over everything seen since the last `reset`, with the inputs of torchmetrics' `MeanAveragePrecision`.

    `compute` returns ``oLRP``, ``oLRP_Loc``, ``oLRP_FP``, ``oLRP_FN`` (means over the classes that have them, lower
    is better, nan where none has), the same four with ``_per_class`` at the end, ``[C]``, and ``classes`` int64
    ``[C]``, the labels seen. Matching and limits are COCO's (`detlab.metrics.coco_match.match`): 100 detections of
    an image and class, all areas. See `optimal_lrp` for classes that lack true positives or objects.

    tau: the IoU from which a detection is a true positive; the paper's is 0.5.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False

    def __init__(self, tau: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < tau < 1:
            raise ValueError(f"Expected 0 < tau < 1, got {tau}.")
        self.tau = tau

    def update(self, preds: list[dict[str, Tensor]], target: list[dict[str, Tensor]]) -> None:
        """Add images. preds: ``boxes [N, 4]`` xyxy pixels, ``scores [N]``, ``labels [N]``; target: ``boxes [M, 4]``,
        ``labels [M]`` and, if there are any, ``iscrowd [M]`` (1 for a crowd)."""
        _input_validator(preds, target)
        for number, truth in enumerate(target):
            if "iscrowd" in truth and len(truth["iscrowd"]) != len(truth["labels"]):
                raise ValueError(
                    f"Expected iscrowd for each of {len(truth['labels'])} boxes of target {number}, got "
                    f"{len(truth['iscrowd'])}."
                )
        if not target:
            return
        self.add(
            [(p["boxes"].reshape(-1, 4), p["scores"], p["labels"]) for p in preds],
            [(t["boxes"].reshape(-1, 4), t["labels"], t.get("iscrowd", torch.zeros_like(t["labels"]))) for t in target],
        )

    def compute(self) -> dict[str, Tensor]:
        """All values by name; see the class."""
        found, truth = self.columns()
        classes = np.unique(np.concatenate([found.label, truth.label]))
        found = found._replace(label=np.searchsorted(classes, found.label))
        truth = truth._replace(label=np.searchsorted(classes, truth.label))
        ranked = ranked_classes(found, truth, match(found, truth, self.tau))
        result = optimal_lrp(ranked, len(classes), self.tau)
        means = result.means()
        values = {name: torch.tensor(value) for name, value in means.items()}
        values |= {f"{name}_per_class": torch.from_numpy(column).float() for name, column in zip(means, result)}
        return values | {"classes": torch.from_numpy(classes)}
