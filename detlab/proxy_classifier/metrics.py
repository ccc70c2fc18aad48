"""How good the classifier's probabilities are: accuracy, the reject class, calibration."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, multiclass_calibration_error

from detlab.proxy_classifier.crops import KINDS, OBJECT

BINS = 15  # of confidence


def judge(probs: Tensor, labels: Tensor, kinds: Tensor, threshold: float = 0.8) -> dict[str, float]:
    """``probs [N, K + 1]`` of crops with labels ``[N]`` (K: reject) and kinds ``[N]`` (`KINDS`), nan where there is
    nothing to measure:

    accuracy: over all K + 1 classes; accuracy_K: of the crops of objects, as if reject were no answer;
    reject_AUROC: of 1 − p(reject) as the score of there being an object of any class; ECE: expected calibration error
    of the likeliest class, in 15 bins; kept_precision, kept_recall: of the crops that Algorithm 1 would keep (likeliest
    class not reject, with at least `threshold`) the share that is right, and of the objects the share kept and right;
    rejected_<kind>: of each kind of crop but objects the share whose likeliest class is reject.
    """
    reject = probs.shape[1] - 1
    confidence, found = probs.max(1)
    right = found == labels
    objects = kinds == OBJECT
    kept = (found != reject) & (confidence >= threshold)
    values = {
        "accuracy": _share(right),
        "accuracy_K": _share(probs[objects, :reject].argmax(1) == labels[objects]),
        "reject_AUROC": math.nan,
        "ECE": math.nan,
        "kept_precision": _share(right[kept]),
        "kept_recall": _share((kept & right)[objects]),
    }
    if objects.any() and not objects.all():
        values["reject_AUROC"] = float(binary_auroc(1 - probs[:, reject], (labels != reject).long()))
    if len(labels):
        values["ECE"] = float(multiclass_calibration_error(probs, labels, reject + 1, n_bins=BINS, norm="l1"))
    rejected = {f"rejected_{name}": _share(found[kinds == k] == reject) for k, name in enumerate(KINDS) if k != OBJECT}
    return values | rejected


def _share(values: Tensor) -> float:
    return float(values.float().mean()) if len(values) else math.nan


def reliability(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the likeliest classes of ``probs [N, K + 1]``, in 15 equal bins of confidence: mean confidence, accuracy (nan
    where a bin is empty) and number of crops, each ``[15]``."""
    confidence, found = probs.double().max(1)
    bins = (confidence * BINS).ceil().long().sub_(1).clamp_(0, BINS - 1)  # (low, high], as torchmetrics has them
    count = torch.bincount(bins, minlength=BINS)
    right = torch.bincount(bins, (found == labels).double(), minlength=BINS)
    return torch.bincount(bins, confidence, minlength=BINS) / count, right / count, count


def confusion(probs: Tensor, labels: Tensor) -> Tensor:
    """How many crops of each class (row) were taken for each (column): int64 ``[K + 1, K + 1]``."""
    side = probs.shape[1]
    return torch.bincount(labels * side + probs.argmax(1), minlength=side**2).view(side, side)
