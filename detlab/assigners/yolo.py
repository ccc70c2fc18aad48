"""YOLO's assignment: in each cell of each grid the anchor whose shape fits best (Appendix A of the proxy paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from detlab.assigners.overlap import PaddedTargets, image_chunks, overlaps_crowd, pad_targets, pairwise_iou
from detlab.ops.boxes import aligned_iou
from detlab.structures import BACKGROUND, IGNORED, Anchors, Assignment, Predictions, Targets


class YOLO:
    """Of the anchors of a cell, the one with the largest IoU with a ground truth is its, where that exceeds `threshold`
    (τ); the others are background. An anchor that several ground truths claim goes to the one of highest IoU, at equal
    IoU to the first.

    center_only: only the cell that holds the centre of the ground truth, one on each level, is asked, as in the YOLO
    papers; the proxy paper asks every cell. low_quality: of the anchors that were asked, those with the ground truth's
    highest IoU are its whatever the threshold says (if above 0); without, small objects may have none.
    ignore_iou: other anchors whose *predicted* box has an IoU of more than this with any ground truth are ignored
    (YOLOv3); None: background, as in the proxy paper.
    Ground truths flagged `ignore` are never matched; an anchor that is not positive and has at least `ignore_ioa`
    of its own area inside one is ignored.

    Anchors of a cell stand together and have one centre, the first cell of a level the centre stride / 2; as many per
    cell as there are, so RetinaNet's and ATSS's will do. Ground truths without area, or not a number, match none.
    Raises ValueError for a threshold outside [0, 1), `ignore_iou` outside [0, 1] or `ignore_ioa` outside (0, 1].
    """

    def __init__(
        self,
        threshold: float = 0.5,
        center_only: bool = False,
        low_quality: bool = True,
        ignore_iou: float | None = None,
        ignore_ioa: float = 0.5,
    ) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"Expected a threshold in [0, 1), got {threshold}.")
        if ignore_iou is not None and not 0 <= ignore_iou <= 1:
            raise ValueError(f"Expected ignore_iou in [0, 1] or None, got {ignore_iou}.")
        if not 0 < ignore_ioa <= 1:
            raise ValueError(f"Expected ignore_ioa in (0, 1], got {ignore_ioa}.")
        self.threshold = threshold
        self.center_only = center_only
        self.low_quality = low_quality
        self.ignore_iou = ignore_iou
        self.ignore_ioa = ignore_ioa
        self._per_cell: dict[tuple[int, ...], list[int]] = {}

    @torch.no_grad()
    def __call__(self, anchors: Anchors, targets: list[Targets], predictions: Predictions | None = None) -> Assignment:
        """``anchors [A]``, B images' targets, and their predictions (for `ignore_iou`) → gt_index int64 ``[B, A]``."""
        boxes, padded = anchors.boxes.float(), pad_targets(targets)
        index = torch.full((len(targets), len(boxes)), BACKGROUND, device=boxes.device)
        if not len(boxes):
            return Assignment(index)
        ignored = overlaps_crowd(padded, boxes, self.ignore_ioa)
        for images in image_chunks(padded, len(boxes)):
            iou = pairwise_iou(padded.boxes[images], boxes).masked_fill_(~padded.matchable[images, :, None], -1.0)
            index[images] = self._match(iou, padded.boxes[images], anchors)
        if self.ignore_iou is not None:
            if predictions is None:
                raise ValueError("Expected predictions for ignore_iou, got none.")
            ignored |= highest_iou(predictions.boxes, padded) > self.ignore_iou
        return Assignment(index.masked_fill_(ignored & (index < 0), IGNORED))

    def _match(self, iou: Tensor, objects: Tensor, anchors: Anchors) -> Tensor:
        """``iou [b, G, A]`` (overwritten) of ``objects [b, G, 4]`` with the anchors → ``[b, A]``."""
        start = 0
        for size, count in zip(anchors.level_sizes, self._anchors_per_cell(anchors)):
            level = iou[..., start : start + size].unflatten(-1, (size // count, count))  # [b, G, cells, K], a view
            best = level.argmax(-1, keepdim=True)
            level.masked_fill_(torch.arange(count, device=iou.device) != best, -1.0)
            if self.center_only and size:
                cells = anchors.boxes[start : start + size : count]
                level.masked_fill_(~holds_center(cells, objects)[..., None], -1.0)
            start += size
        claims = iou > self.threshold
        if self.low_quality:
            highest = iou.amax(2, keepdim=True)
            claims |= (iou == highest) & (highest > 0)
        best, winner = iou.masked_fill_(~claims, -1.0).max(1)  # at a tie the first
        return torch.where(best >= 0, winner, BACKGROUND)

    def _anchors_per_cell(self, anchors: Anchors) -> list[int]:
        """How many anchors the cells of each level have. The host waits for the device once per picture size."""
        if anchors.level_sizes not in self._per_cell:
            self._per_cell[anchors.level_sizes] = [
                _with_first_center(boxes.float()) for boxes in anchors.boxes.split(anchors.level_sizes)
            ]
        return self._per_cell[anchors.level_sizes]


def _with_first_center(boxes: Tensor) -> int:
    """How many of the first of ``boxes [N, 4]`` have the same centre, at least 1."""
    center = boxes[:, :2] + boxes[:, 2:]
    other = ((center - center[:1]).abs() > 0.02).any(1).nonzero()  # centres of large anchors are rounded
    return int(other[0]) if len(other) else max(1, len(boxes))


def holds_center(cells: Tensor, objects: Tensor) -> Tensor:
    """Whether each of a level's cells, given by an anchor ``[N, 4]`` in its middle, the first one in the picture's
    corner, holds the centre of ``objects [b, G, 4]`` → bool ``[b, G, N]``."""
    middle = (cells[:, :2] + cells[:, 2:]).float() / 2
    stride = 2 * middle[:1]
    place = ((objects[..., :2] + objects[..., 2:]) / 2 / stride).floor()  # [b, G, 2] column, row
    return (place[:, :, None] == (middle / stride).floor()).all(-1)


def highest_iou(boxes: Tensor, padded: PaddedTargets) -> Tensor:
    """Of each predicted box ``[B, A, 4]`` with any ground truth of its image that may have positives → ``[B, A]``."""
    result = boxes.new_zeros(boxes.shape[:2], dtype=torch.float32)
    for images in image_chunks(padded, 4 * boxes.shape[1]):
        iou = aligned_iou(padded.boxes[images, :, None], boxes[images, None].float())  # [b, G, A]
        result[images] = iou.nan_to_num_(nan=0.0).mul_(padded.matchable[images, :, None]).amax(1)
    return result
