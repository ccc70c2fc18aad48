"""The frame of assigners that go by what the model makes of an anchor: candidates by IoU, then a choice by cost."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from detlab.assigners.candidates import AnchorCost, Candidates, find_candidates, objects_per_image
from detlab.assigners.max_iou import MaxIoU
from detlab.assigners.overlap import overlaps_crowd, pad_targets
from detlab.structures import BACKGROUND, IGNORED, Anchors, Assignment, Predictions, Targets


class ScoredAssigner(ABC):
    """Every anchor is a candidate of the ground truth it overlaps most, if by `min_iou` or more (Procedure 1, line 3);
    with `low_quality`, so are the anchors that a ground truth overlaps most (see `MaxIoU`). `choose` says which
    candidates become positive or are ignored; all other anchors are background, except those with `ignore_ioa` of
    their area inside a ground truth flagged `ignore`: they are ignored.

    cost: a callable from candidates (as a `Matched` in which every row is positive) to one number each, such as
    `detlab.losses.anchor_cost.AnchorCost`. A ground truth without candidates, since all its anchors overlap another
    more, gets no anchor. Raises ValueError for `min_iou` or `ignore_ioa` out of range, and in the call without
    predictions.
    """

    def __init__(
        self, cost: AnchorCost, min_iou: float = 0.1, low_quality: bool = True, ignore_ioa: float = 0.5
    ) -> None:
        self.nearest = MaxIoU(min_iou, min_iou, low_quality, ignore_ioa)
        self.cost = cost

    @abstractmethod
    def choose(self, candidates: Candidates, objects: int, level_sizes: tuple[int, ...]) -> Tensor:
        """What becomes of each candidate, int64 ``[N]``: 1 positive, 0 negative, −1 ignored. `objects` is B times the
        padded G."""

    @torch.no_grad()
    def __call__(self, anchors: Anchors, targets: list[Targets], predictions: Predictions | None = None) -> Assignment:
        """``anchors [A]`` and B images' targets and predictions → gt_index int64 ``[B, A]``."""
        if predictions is None:
            raise ValueError(f"Expected predictions for {type(self).__name__}, which goes by what they cost; got none.")
        boxes, padded = anchors.boxes.float(), pad_targets(targets)
        index = self.nearest.match(boxes, padded)
        found = find_candidates(index, anchors, targets, predictions, self.cost)
        verdict = self.choose(found, len(targets) * objects_per_image(targets), anchors.level_sizes)
        flat = index.flatten()
        unmatched = torch.where(verdict < 0, IGNORED, BACKGROUND)
        flat[found.anchor] = torch.where(verdict > 0, flat[found.anchor], unmatched)
        index = flat.view_as(index)
        crowd = overlaps_crowd(padded, boxes, self.nearest.ignore_ioa)
        return Assignment(index.masked_fill_(crowd & (index < 0), IGNORED))
