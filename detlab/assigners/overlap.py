"""What assigners share: ground truths of a batch in one padded tensor, and their overlap with the anchors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detlab.structures import Targets

# Pairs (image, ground truth, anchor) looked at together: a few float32 tensors of this size are alive at once.
PAIRS_AT_ONCE = 2**24


class PaddedTargets(NamedTuple):
    """Ground truths of B images, padded to the same G ≥ 1 (padding is neither matchable nor crowd).

    boxes float32 ``[B, G, 4]`` xyxy pixels; matchable, crowd bool ``[B, G]``: may have positives / flagged ignore.
    """

    boxes: Tensor
    matchable: Tensor
    crowd: Tensor


def pad_targets(targets: list[Targets]) -> PaddedTargets:
    """Stack the ground truths of a batch. G is at least 1, so that reductions over it are always defined."""
    boxes = pad_sequence([t.boxes.float() for t in targets], batch_first=True)
    crowd = pad_sequence([t.ignore for t in targets], batch_first=True)
    valid = pad_sequence([torch.ones_like(t.ignore) for t in targets], batch_first=True)
    if boxes.shape[1] == 0:
        boxes, crowd, valid = boxes.new_zeros(len(targets), 1, 4), *2 * [crowd.new_zeros(len(targets), 1)]
    return PaddedTargets(boxes, valid & ~crowd, crowd)


def image_chunks(padded: PaddedTargets, anchor_count: int) -> Iterator[slice]:
    """Slices over the images of a batch, each of at most `PAIRS_AT_ONCE` pairs (or one image)."""
    count, ground_truths = padded.matchable.shape
    step = max(1, PAIRS_AT_ONCE // max(1, ground_truths * anchor_count))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def pairwise_intersection(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Areas shared by ``boxes [B, G, 4]`` and ``anchors [A, 4]`` → ``[B, G, A]`` in square pixels."""
    x1, y1, x2, y2 = boxes[..., None].unbind(-2)  # [B, G, 1]
    a_x1, a_y1, a_x2, a_y2 = anchors.t().contiguous()  # [A]
    width = torch.minimum(x2, a_x2).sub_(torch.maximum(x1, a_x1)).clamp_(min=0)  # [B, G, A]
    return width.mul_(torch.minimum(y2, a_y2).sub_(torch.maximum(y1, a_y1)).clamp_(min=0))


def pairwise_iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of ``boxes [B, G, 4]`` with ``anchors [A, 4]`` → ``[B, G, A]`` in [0, 1]; 0 for empty unions."""
    inter = pairwise_intersection(boxes, anchors)
    union = (box_area(boxes)[..., None] + box_area(anchors)).sub_(inter)
    return inter.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def box_area(boxes: Tensor) -> Tensor:
    """``[..., 4]`` xyxy → ``[...]``; 0 for inverted boxes."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def overlaps_crowd(padded: PaddedTargets, anchors: Tensor, min_ioa: float) -> Tensor:
    """Anchors ``[A, 4]`` of which at least the share `min_ioa` lies inside one ignored ground truth → bool ``[B, A]``.

    Intersection over the *anchor's* area, since a crowd is usually far larger than an anchor inside it.
    """
    result = torch.zeros(len(padded.boxes), len(anchors), dtype=torch.bool, device=anchors.device)
    if anchors.device.type == "cpu" and not padded.crowd.any():
        return result  # the usual case; on CUDA asking would make the host wait
    least = (box_area(anchors) * min_ioa).clamp(min=torch.finfo(torch.float32).tiny)
    for images in image_chunks(padded, len(anchors)):
        inter = pairwise_intersection(padded.boxes[images], anchors).mul_(padded.crowd[images, :, None])
        result[images] = inter.amax(1) >= least
    return result
