"""Pseudo-labels that belong to predictions, written into what the losses see, or among the targets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from detlab.structures import Matched, PseudoLabels, Targets


def apply_to_matches(matched: Matched, labels: PseudoLabels | None) -> Matched:
    """`matched` with p̃(c) as the soft class target and p̃(O) as the target of the objectness of each labelled
    prediction, in place of background; no box loss. Predictions that are spared get no signal at all.

    Anchors that an object was assigned to keep that object, ignored ones stay ignored, and where that is so of the
    prediction that the classifier looked at, its neighbours stay as they are, too. Nothing is changed in place.
    """
    if labels is None or not (labels.size or len(labels.ignored)):
        return matched
    anchors, classes = matched.logits.shape[1:]
    free = matched.labels.flatten() < 0  # [B · A]
    if matched.ignored is not None:
        free = free & ~matched.ignored.flatten()
    flat = labels.image * anchors + labels.anchor
    kept = free[flat] & free[labels.image * anchors + labels.source_anchor]
    flat, probs, objectness = flat[kept], labels.probs[kept], labels.objectness[kept]
    image, anchor, owner = labels.ignored.unbind(1)
    spared = (image * anchors + anchor)[free[image * anchors + anchor] & free[image * anchors + owner]]

    weights = matched.class_weights.reshape(-1, matched.class_weights.shape[-1]).clone()
    weights[spared] = 0.0
    weights[flat] = 1.0  # what the proxy says holds for every class
    targets = matched.class_targets
    rows = _own_classes(matched, classes) if targets is None else targets.reshape(-1, classes).clone()
    rows[flat] = probs.to(rows.dtype)
    changes: dict[str, Tensor] = {
        "pseudo": rows.new_tensor(len(flat)),
        "class_weights": weights.view(matched.class_weights.shape),
        "class_targets": rows.view(matched.logits.shape),
    }
    if matched.object_targets is not None and matched.object_weights is not None:
        object_targets, object_weights = matched.object_targets.flatten().clone(), matched.object_weights.flatten()
        object_weights = object_weights.clone()
        object_weights[spared] = 0.0
        object_targets[flat] = objectness.to(object_targets.dtype)
        object_weights[flat] = 1.0
        changes["object_targets"] = object_targets.view(matched.object_targets.shape)
        changes["object_weights"] = object_weights.view(matched.object_targets.shape)
    return matched._replace(**changes)


def with_boxes(targets: list[Targets], labels: PseudoLabels | None) -> list[Targets]:
    """`targets` and behind them a box for each labelled prediction, with p̃(c) as its soft classes and p̃(O) as its
    weight; its corners are not learnt. Neighbours, labelled or spared, are not asked: whoever overlaps the box enough
    will learn from it, or be ignored, as with any other."""
    if labels is None or not labels.size:
        return targets
    rows = labels.anchor == labels.source_anchor
    image = labels.image[rows]
    fields = [field[rows] for field in (labels.boxes, labels.probs, labels.objectness)]
    return [_with_boxes(t, *(field[image == at] for field in fields)) for at, t in enumerate(targets)]


def _with_boxes(t: Targets, boxes: Tensor, probs: Tensor, weights: Tensor) -> Targets:
    if not len(boxes):
        return t
    own = one_hot(t.labels, len(t.annotated)).to(probs.dtype) if t.probs is None else t.probs
    return Targets(
        boxes=torch.cat([t.boxes, boxes.to(t.boxes)]),
        labels=torch.cat([t.labels, probs.argmax(1)]),
        weights=torch.cat([t.weights, weights.to(t.weights)]),
        ignore=torch.cat([t.ignore, t.ignore.new_zeros(len(boxes))]),
        annotated=t.annotated,
        probs=torch.cat([own, probs]),
        box_weights=torch.cat([t.weights if t.box_weights is None else t.box_weights, t.weights.new_zeros(len(boxes))]),
    )


def _own_classes(matched: Matched, classes: int) -> Tensor:
    """One-hot rows of the positives, zeros elsewhere: float32 ``[B · A, C]``."""
    rows = torch.zeros(matched.labels.numel(), classes, device=matched.logits.device)
    rows[matched.positive, matched.labels.flatten()[matched.positive]] = 1.0
    return rows
