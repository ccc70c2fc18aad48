"""Anchors that may answer for an object, with the cost of each: what PAA and its rivals choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from detlab.structures import Anchors, Matched, Predictions, Targets

AnchorCost = Callable[[Matched], Tensor]


class Candidates(NamedTuple):
    """Pairs of an anchor and the object it would answer for, objects of a batch in order, N pairs.

    anchor int64 ``[N]`` into the flattened (B, A); object int64 ``[N]`` into the flattened (B, padded G); level int64
    ``[N]``; cost float32 ``[N]``, rising within each (object, level).
    """

    anchor: Tensor
    object: Tensor
    level: Tensor
    cost: Tensor

    def select(self, keep: Tensor) -> Candidates:
        return Candidates(*(field[keep] for field in self))


def find_candidates(
    index: Tensor, anchors: Anchors, targets: list[Targets], predictions: Predictions, cost: AnchorCost
) -> Candidates:
    """Every anchor that ``index [B, A]`` gives to an object (≥ 0), with its cost, in order of (object, level, cost)."""
    anchor_count, per_image = index.shape[1], objects_per_image(targets)
    anchor = (index >= 0).flatten().nonzero()[:, 0]
    image = anchor.div(max(1, anchor_count), rounding_mode="floor")
    number = index.flatten()[anchor]
    pairs = pairs_as_matched(anchor, image, number, anchors, targets, predictions)
    found = Candidates(anchor, image * per_image + number, pairs.level, cost(pairs).float())
    order = found.cost.argsort(stable=True)
    group = found.object * len(anchors.level_sizes) + found.level
    return found.select(order[group[order].argsort(stable=True)])


def objects_per_image(targets: list[Targets]) -> int:
    """G of the padded ground truths of a batch, at least 1."""
    return max([1, *(len(t) for t in targets)])


def pairs_as_matched(
    anchor: Tensor, image: Tensor, number: Tensor, anchors: Anchors, targets: list[Targets], predictions: Predictions
) -> Matched:
    """N pairs as the losses know them: one image of N anchors, all of them positive.

    ``anchor [N]`` into the flattened (B, A), ``image [N]``, ``number [N]`` of the object within its image. Classes
    that nobody looked for have no weight, save the object's own.
    """
    count, num_classes = len(anchor), predictions.logits.shape[-1]
    start = torch.tensor([0, *(len(t) for t in targets)], device=anchor.device).cumsum(0)
    source = start[image] + number
    labels = torch.cat([t.labels for t in targets])[source]
    annotated = torch.stack([t.annotated for t in targets])
    if annotated.shape[1] != num_classes:
        raise ValueError(f"Expected `annotated` for {num_classes} classes, got {annotated.shape[1]}.")
    if annotated.all():
        class_weights = predictions.boxes.new_ones(1, count, 1)
    else:
        class_weights = (annotated[image] | one_hot(labels, num_classes).bool()).float()[None]
    place = anchor - image * anchors.boxes.shape[0]
    quality = predictions.quality
    return Matched(
        logits=predictions.logits.flatten(0, 1)[anchor][None],
        labels=labels[None],
        class_weights=class_weights,
        class_targets=None,
        positive=torch.arange(count, device=anchor.device),
        boxes=predictions.boxes.flatten(0, 1)[anchor],
        deltas=predictions.deltas.flatten(0, 1)[anchor],
        anchor_boxes=anchors.boxes[place],
        target_boxes=torch.cat([t.boxes for t in targets])[source],
        quality=None if quality is None else quality.flatten()[anchor],
        box_weights=torch.ones(count, device=anchor.device),
        level=anchors.level[place],
    )


def rank_within(groups: Tensor) -> Tensor:
    """Place of every element among those of its group, from 0; ``groups [N]`` sorted → int64 ``[N]``."""
    position = torch.arange(len(groups), device=groups.device)
    first = torch.ones_like(groups, dtype=torch.bool)
    first[1:] = groups[1:] != groups[:-1]
    return position - torch.where(first, position, 0).cummax(0).values if len(groups) else position


def cheapest_per_level(candidates: Candidates, topk: int, levels: int) -> Tensor:
    """Whether a candidate is among the `topk` cheapest of its object on its level, bool ``[N]`` (lines 5–11)."""
    return rank_within(candidates.object * levels + candidates.level) < topk


def as_rows(candidates: Candidates, keep: Tensor, objects: int, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """The candidates to `keep` (bool ``[N]``), one row per object with `slots` places: costs ``[objects, slots]``, the
    mask of what is a candidate, and where each of the N stands in the flattened rows (those not kept anywhere)."""
    slot = keep.long().cumsum(0) - 1  # among all that are kept
    first = torch.full((objects,), len(keep), device=keep.device)
    first = first.scatter_reduce(0, candidates.object, torch.where(keep, slot, len(keep)), "amin")
    place = candidates.object * slots + slot - first[candidates.object]
    place = torch.where(keep, place, objects * slots)
    costs = candidates.cost.new_zeros(objects * slots + 1)
    mask = torch.zeros(objects * slots + 1, dtype=torch.bool, device=costs.device)
    costs[place] = candidates.cost
    mask[place] = True
    return costs[:-1].view(objects, slots), mask[:-1].view(objects, slots), place.clamp(max=max(0, objects * slots - 1))
