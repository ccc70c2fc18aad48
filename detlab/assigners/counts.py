"""How many anchors an assignment gives to the objects of a batch, and how many objects it leaves without."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from detlab.assigners.overlap import pad_targets
from detlab.structures import Assignment, Targets


class Counts(NamedTuple):
    """Float32 scalars: ground truths that may be matched, anchors matched to them, ground truths without an anchor."""

    objects: Tensor
    positives: Tensor
    unmatched: Tensor


@torch.no_grad()
def count_matches(targets: list[Targets], assignment: Assignment) -> Counts:
    """Counts over the B images; ground truths flagged `ignore` are not counted."""
    matchable = pad_targets(targets).matchable  # [B, G]
    index = assignment.gt_index
    anchors = torch.zeros(len(index), matchable.shape[1] + 1, device=index.device)
    anchors.scatter_add_(1, index.clamp(min=-1) + 1, anchors.new_ones(1, 1).expand_as(index))  # column 0: none
    return Counts(
        objects=matchable.sum().float(),
        positives=anchors[:, 1:].sum(),
        unmatched=(matchable & (anchors[:, 1:] == 0)).sum().float(),
    )
