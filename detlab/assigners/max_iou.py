"""Assignment by IoU thresholds (Ren et al. 2015, Sec. 3.1.2; Lin et al. 2017, Sec. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from detlab.assigners.overlap import PaddedTargets, image_chunks, overlaps_crowd, pad_targets, pairwise_iou
from detlab.structures import BACKGROUND, IGNORED, Anchors, Assignment, Predictions, Targets


class MaxIoU:
    """Each anchor goes to the ground truth it overlaps most (at equal IoU the first), if that is enough.

    IoU ≥ `positive`: matched. IoU < `negative`: background. Between: ignored.
    `low_quality`: the anchors with a ground truth's highest IoU (all of them at a tie, if above 0) are matched
    whatever the thresholds say, still to the ground truth *they* overlap most, as in Faster R-CNN's and
    RetinaNet's common implementations.
    `center_inside`: a matched anchor whose center is not strictly inside its ground truth is ignored instead, as in the
    code of ATSS' and PAA's authors where they assign by IoU: most anchors that contain a tiny object sit beside it.
    Ground truths flagged `ignore` are never matched; an anchor that is not positive and has at least `ignore_ioa`
    of its own area inside one is ignored.

    Raises ValueError for thresholds outside 0 ≤ negative ≤ positive ≤ 1 or `ignore_ioa` outside (0, 1].
    """

    def __init__(
        self,
        positive: float = 0.5,
        negative: float = 0.4,
        low_quality: bool = True,
        ignore_ioa: float = 0.5,
        center_inside: bool = False,
    ) -> None:
        if not 0 <= negative <= positive <= 1:
            raise ValueError(f"Expected 0 <= negative <= positive <= 1, got negative={negative}, positive={positive}.")
        if not 0 < ignore_ioa <= 1:
            raise ValueError(f"Expected ignore_ioa in (0, 1], got {ignore_ioa}.")
        self.positive = positive
        self.negative = negative
        self.low_quality = low_quality
        self.ignore_ioa = ignore_ioa
        self.center_inside = center_inside

    @torch.no_grad()
    def __call__(
        self,
        anchors: Anchors,
        targets: list[Targets],
        predictions: Predictions | None = None,  # noqa: ARG002
    ) -> Assignment:
        """``anchors [A]`` and B images' targets → gt_index int64 ``[B, A]``."""
        boxes, padded = anchors.boxes.float(), pad_targets(targets)
        index = self.match(boxes, padded)
        crowd = overlaps_crowd(padded, boxes, self.ignore_ioa)
        return Assignment(index.masked_fill_(crowd & (index < 0), IGNORED))

    def match(self, boxes: Tensor, padded: PaddedTargets) -> Tensor:
        """The same for ``boxes [A, 4]`` float32 of anchors, but for the crowds: they ignore nothing here."""
        index = torch.full((len(padded.boxes), len(boxes)), BACKGROUND, device=boxes.device)
        if len(boxes):
            for images in image_chunks(padded, len(boxes)):
                iou = pairwise_iou(padded.boxes[images], boxes)  # [b, G, A]
                index[images] = self._match(iou, padded.matchable[images])
        return ignore_outside(index, boxes, padded.boxes) if self.center_inside else index

    def _match(self, iou: Tensor, matchable: Tensor) -> Tensor:
        """``iou [b, G, A]`` (overwritten), ``matchable [b, G]`` → ``[b, A]``."""
        iou.masked_fill_(~matchable[..., None], -1.0)  # below every threshold
        best, winner = iou.max(1)  # at a tie the first
        matched = best >= self.positive
        if self.low_quality:
            highest = iou.amax(2, keepdim=True)
            highest.masked_fill_(highest <= 0, torch.inf)  # touches no anchor at all
            matched |= (iou == highest).any(1)
        undecided = torch.where(best >= self.negative, IGNORED, BACKGROUND)
        return torch.where(matched, winner, undecided)


def ignore_outside(index: Tensor, anchors: Tensor, boxes: Tensor) -> Tensor:
    """``index [B, A]`` with anchors ``[A, 4]`` ignored that are matched to one of ``boxes [B, G, 4]`` without having
    their center strictly inside it."""
    image, anchor = (index >= 0).nonzero(as_tuple=True)
    matched = index[image, anchor]
    center, box = (anchors[anchor, :2] + anchors[anchor, 2:]) / 2, boxes[image, matched]
    inside = ((center > box[:, :2]) & (center < box[:, 2:])).all(1)
    return index.index_put((image, anchor), torch.where(inside, matched, IGNORED))
