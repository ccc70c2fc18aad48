"""From an assignment to what the losses see: one weight per (anchor, class), one row per positive."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

from detlab.structures import IGNORED, Anchors, Assignment, Matched, Predictions, Targets


def gather(anchors: Anchors, targets: list[Targets], assignment: Assignment, predictions: Predictions) -> Matched:
    """Bring anchors, targets and predictions of B images together.

    Weights of the classification loss: an ignored anchor has none; background counts 1 for the classes its
    image's annotators looked for and 0 for the others; a positive anchor counts its box's weight for those classes,
    and for every class to which the box itself gives probability (its label, or its soft `probs`), looked for or
    not. Boxes without `probs` in a batch where others have them get their label as a one-hot row. A box's own
    `box_weights` are those of the box losses alone; what they take from the positives counts as pseudo-labels.

    Weights of the objectness: an ignored anchor has none; a positive one its box's weight; background 1, unless its
    most probable class is none that its image's annotators looked for: then what is there may be an object that
    nobody labelled, and the weight is 0.

    Raises ValueError when an image's `annotated` does not have one entry per class of the logits.
    """
    batch, anchor_count, num_classes = predictions.logits.shape
    for t in targets:
        if len(t.annotated) != num_classes:
            raise ValueError(f"Expected `annotated` for {num_classes} classes, got {len(t.annotated)}.")
    gt_index = assignment.gt_index
    labels, weights, boxes = (_pad([getattr(t, name) for t in targets]) for name in ("labels", "weights", "boxes"))
    separate = any(t.box_weights is not None for t in targets)
    of_boxes = _pad([t.weights if t.box_weights is None else t.box_weights for t in targets]) if separate else weights
    annotated = torch.stack([t.annotated for t in targets])  # [B, C]
    per_image = labels.shape[1]

    positive = (gt_index >= 0).flatten().nonzero()[:, 0]
    partly_annotated = not bool(annotated.all())  # the host has just waited for `nonzero` anyway
    image = positive.div(max(anchor_count, 1), rounding_mode="floor")
    source = image * per_image + gt_index.flatten()[positive]  # [P] into the flattened (B, G)
    own_weights, box_weights = weights.flatten()[source], of_boxes.flatten()[source]
    positive_labels = labels.flatten()[source]

    anchor_labels = labels.new_full((batch * anchor_count,), -1)
    anchor_labels[positive] = positive_labels
    class_weights = (gt_index != IGNORED).to(weights.dtype)
    class_weights.view(-1)[positive] = own_weights
    class_weights = class_weights[..., None]  # [B, A, 1]

    class_targets = None
    soft = any(t.probs is not None for t in targets)
    if soft or partly_annotated:
        rows = _pad([class_rows(t) for t in targets]).flatten(0, 1)[source]  # [P, C]
        if soft:
            class_targets = rows.new_zeros(batch * anchor_count, num_classes)
            class_targets[positive] = rows
            class_targets = class_targets.view(batch, anchor_count, num_classes)
        if partly_annotated:
            class_weights = class_weights * annotated[:, None]  # [B, A, C]
            class_weights.view(-1, num_classes)[positive] = own_weights[:, None] * (annotated[image] | (rows > 0))

    object_targets = object_weights = None
    if predictions.objectness is not None:
        object_targets = (gt_index >= 0).to(weights.dtype)
        object_weights = (gt_index != IGNORED).to(weights.dtype)
        if partly_annotated:
            likeliest = predictions.logits.detach().argmax(-1)  # [B, A]
            object_weights = object_weights * annotated.gather(1, likeliest)
        object_weights.view(-1)[positive] = own_weights

    quality = predictions.quality
    anchor = positive - image * anchor_count
    return Matched(
        logits=predictions.logits,
        labels=anchor_labels.view(batch, anchor_count),
        class_weights=class_weights,
        class_targets=class_targets,
        positive=positive,
        boxes=predictions.boxes.flatten(0, 1)[positive],
        deltas=predictions.deltas.flatten(0, 1)[positive],
        anchor_boxes=anchors.boxes[anchor],
        target_boxes=boxes.flatten(0, 1)[source],
        quality=None if quality is None else quality.flatten()[positive],
        box_weights=box_weights,
        level=anchors.level[anchor],
        objectness=predictions.objectness,
        object_targets=object_targets,
        object_weights=object_weights,
        ignored=gt_index == IGNORED,
        pseudo=(own_weights - box_weights).clamp(min=0).sum() if separate else None,
    )


def gather_objects(
    anchors: Anchors, targets: list[Targets], assignment: Assignment, predictions: Predictions
) -> Matched:
    """`gather` for a first stage, which knows one class, any object; `targets` are of all classes.

    What is background to an image's annotators may be an object of a class that they did not look for. Its background
    therefore counts as much as the share of the classes that they did: 1 for all of them, exactly 0 for none. A first
    stage that saw no background at all where every source of a merge lacks a class would learn to propose everything.
    """
    matched = gather(anchors, [of_one_class(t) for t in targets], assignment, predictions)
    share = torch.stack([t.annotated.to(matched.class_weights.dtype).mean() for t in targets])[:, None, None]
    background = (matched.labels < 0)[..., None]
    return matched._replace(class_weights=torch.where(background, share, 1.0) * matched.class_weights)


def of_one_class(targets: Targets) -> Targets:
    """The same boxes as objects of one class; looked for where any class was."""
    return replace(
        targets, labels=torch.zeros_like(targets.labels), annotated=targets.annotated.any()[None], probs=None
    )


def class_rows(targets: Targets) -> Tensor:
    """Class probabilities ``[G, C]``: the soft ones, or the labels as one-hot rows."""
    if targets.probs is not None:
        return targets.probs.float()
    return one_hot(targets.labels, len(targets.annotated)).float()


def _pad(fields: list[Tensor]) -> Tensor:
    """B tensors ``[G, …]`` → ``[B, max G, …]``."""
    return pad_sequence(fields, batch_first=True)
