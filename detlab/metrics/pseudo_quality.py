"""How good pseudo-labels are, where the labels that were withheld are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detlab.metrics.coco_match import match
from detlab.metrics.columns import Found, Truth
from detlab.ops.boxes import aligned_iou


def pseudo_quality(found: Found, withheld: Truth, classes: Sequence[str], iou: float = 0.5) -> dict[str, float]:
    """``precision``, ``recall`` and ``iou`` over all pseudo-labels and the same with ``/<class>``; nan where there is
    nothing to divide by. iou: the mean of the right ones with what they were matched to.

    A pseudo-label is right if it is matched, by COCO's rule at `iou`, to a withheld label of its image and class; one
    on a withheld label flagged `ignore` counts neither way. A second label of the same object is wrong, and so is one
    of a class of which nothing was withheld in its image.
    """
    matches = match(found, withheld, iou)
    right = matches.truth >= 0
    number = len(classes)
    labels = np.bincount(found.label[matches.counted], minlength=number)
    rights = np.bincount(found.label[right], minlength=number)
    objects = np.bincount(withheld.label[~withheld.ignore], minlength=number)
    boxes, truths = (torch.from_numpy(box) for box in (found.box[right], withheld.box[matches.truth[right]]))
    overlaps = np.bincount(found.label[right], aligned_iou(boxes, truths).numpy(), minlength=number)
    values = {
        "precision": _share(rights.sum(), labels.sum()),
        "recall": _share(rights.sum(), objects.sum()),
        "iou": _share(overlaps.sum(), rights.sum()),
    }
    for name, r, n, m, overlap in zip(classes, rights, labels, objects, overlaps, strict=True):
        values[f"precision/{name}"] = _share(r, n)
        values[f"recall/{name}"] = _share(r, m)
        values[f"iou/{name}"] = _share(overlap, r)
    return values


def _share(part: NDArray[np.int64] | NDArray[np.float64], whole: NDArray[np.int64]) -> float:
    return float(part) / float(whole) if whole else float("nan")
