"""Greedy non-maximum suppression within each class of each image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from detlab.postprocess.candidates import Candidates


class ClassNMS:
    """Greedy non-maximum suppression within each class of each image: a box is dropped when its IoU with a kept
    box of higher score exceeds `iou`.

    Raises ValueError for `iou` outside [0, 1].
    """

    def __init__(self, iou: float = 0.5) -> None:
        if not 0 <= iou <= 1:
            raise ValueError(f"Expected an NMS IoU in [0, 1], got {iou}.")
        self.iou = iou

    def __call__(self, candidates: Candidates) -> Candidates:
        if len(candidates.scores) == 0:
            return candidates
        # On CUDA a call costs more than the pairs it compares, on the CPU it is the other way round.
        by_class = candidates.boxes.device.type == "cpu"
        return candidates.select((nms_by_class if by_class else nms_by_image)(candidates, self.iou))


def nms_by_class(candidates: Candidates, iou: float) -> Tensor:
    """One NMS call for each class of each image → kept indices in rising order, int64."""
    groups = candidates.images * (candidates.labels.max() + 1) + candidates.labels
    return _nms_of_parts(candidates.boxes, candidates.scores, groups, iou)


def nms_by_image(candidates: Candidates, iou: float) -> Tensor:
    """One NMS call for each image, its classes shifted apart → kept indices in rising order, int64.

    In float64: torchvision's `batched_nms` shifts in float32, which costs up to a tenth of a pixel once every class
    of a batch is in one call.
    """
    boxes = candidates.boxes.double()
    shifted = boxes + (candidates.labels * (boxes.max() - boxes.min() + 1))[:, None]
    return _nms_of_parts(shifted, candidates.scores.double(), candidates.images, iou)


def _nms_of_parts(boxes: Tensor, scores: Tensor, parts: Tensor, iou: float) -> Tensor:
    order = parts.argsort(stable=True)
    counts = torch.unique_consecutive(parts[order], return_counts=True)[1].tolist()
    boxes, scores = boxes[order], scores[order]
    kept, start = [], 0
    for count in counts:
        part = slice(start, start + count)
        kept.append(nms(boxes[part], scores[part], iou) + start)
        start += count
    return order[torch.cat(kept)].sort().values
