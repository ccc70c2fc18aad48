"""YOLO's three losses: is there an object, which, and where (Eqs. 7-10 of the proxy paper)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detlab.losses.classification import cross_entropy_elementwise
from detlab.losses.criterion import LocalizationLoss, labelled_and_positives
from detlab.losses.normalizer import normalizer
from detlab.structures import Matched


class YOLOCriterion(nn.Module):
    """Weighted sums of the objectness, class and coordinate losses, each divided by one number.

    Objectness (Eq. 9): binary cross-entropy over all anchors, each with its target and weight. Class (Eq. 7, with the
    minus sign it lacks): of anchors with a label, and of those that have a pseudo-label instead (label −1, a row of
    `class_targets` that is not all zero); see `class_losses`. Coordinates: any localisation loss, over the anchors with
    a label, by their box weights; `SquaredError` is Eq. 8.

    normalize: "positives" divides by the sum of box weights (and, but for boxes, pseudo-labels), as `Criterion` does;
    "images" by the number of images that have any weight at all, which is the paper's sum, but for images beside each
    other. Both are of all processes and at least 1, shared equally. Without positives the terms are zeros that still
    reach every output of the head.

    Raises ValueError for negative weights and unknown options, in the call for predictions without objectness.
    """

    provides = frozenset({"soft_weights"})

    @staticmethod
    def requires(options: Mapping[str, Any]) -> set[str]:
        return {"one_stage", "objectness", str(options.get("classes", "softmax"))}

    def __init__(
        self,
        localization: LocalizationLoss,
        classes: Literal["softmax", "sigmoid"] = "softmax",
        exclusive: bool = True,
        objectness_weight: float = 1.0,
        classification_weight: float = 1.0,
        localization_weight: float = 1.0,
        normalize: Literal["positives", "images"] = "positives",
    ) -> None:
        super().__init__()
        weights = (objectness_weight, classification_weight, localization_weight)
        if min(weights) < 0:
            raise ValueError(f"Expected loss weights of at least 0, got {weights}.")
        if classes not in ("softmax", "sigmoid"):
            raise ValueError(f"Expected classes softmax or sigmoid, got {classes!r}.")
        if normalize not in ("positives", "images"):
            raise ValueError(f"Expected normalize positives or images, got {normalize!r}.")
        self.localization = localization
        self.classes: Literal["softmax", "sigmoid"] = classes
        self.exclusive = exclusive
        self.objectness_weight, self.classification_weight, self.localization_weight = weights
        self.normalize = normalize

    def forward(self, matched: Matched) -> dict[str, Tensor]:
        """The terms by name, normalised and weighted scalars: objectness, classification, localization."""
        if matched.objectness is None or matched.object_targets is None or matched.object_weights is None:
            raise ValueError("Expected predictions with objectness for YOLOCriterion, got a detector without one.")
        weights = matched.object_weights
        objectness = cross_entropy_elementwise(matched.objectness, matched.object_targets) * weights
        if self.normalize == "images":
            labelled = positives = normalizer((weights > 0).any(1).float().sum(), at_least=1)
        else:
            labelled, positives = labelled_and_positives(matched)
        coordinates = self.localization(matched) * matched.box_weights
        return {
            "objectness": self.objectness_weight * objectness.sum() / labelled,
            "classification": self.classification_weight * self._classification(matched) / labelled,
            "localization": self.localization_weight * coordinates.sum() / positives,
        }

    def _classification(self, matched: Matched) -> Tensor:
        rows, targets = labelled_rows(matched)
        logits = matched.logits.flatten(0, 1)[rows]
        weights = matched.class_weights.flatten(0, 1)[rows].to(targets.dtype)
        if self.exclusive:
            weights = weights.amax(1, keepdim=True)
        return class_losses(logits, targets, weights, self.classes).sum()

    def extra_repr(self) -> str:
        weights = (self.objectness_weight, self.classification_weight, self.localization_weight)
        return f"classes={self.classes}, exclusive={self.exclusive}, weights={weights}, normalize={self.normalize}"


def labelled_rows(matched: Matched) -> tuple[Tensor, Tensor]:
    """The anchors that have a class to learn, N of them: int64 ``[N]`` into the flattened (B, A), and what they should
    say, ``[N, C]`` probabilities that need not sum to 1, float32 or wider."""
    num_classes = matched.logits.shape[-1]
    dtype = torch.promote_types(matched.logits.dtype, torch.float32)
    if matched.class_targets is None:
        rows = matched.positive
        return rows, F.one_hot(matched.labels.flatten()[rows], num_classes).to(dtype)
    targets = matched.class_targets.flatten(0, 1)
    rows = targets.any(1).nonzero()[:, 0]
    return rows, targets[rows].to(dtype)


def class_losses(
    logits: Tensor, targets: Tensor, weights: Tensor, classes: Literal["softmax", "sigmoid"] = "softmax"
) -> Tensor:
    """KL(targets ‖ predicted) of each of N anchors, weighted ``[N]``, float32 or wider: cross-entropy, for certain
    targets, and for others less their entropy, which has no gradient.

    ``logits``, ``targets [N, C]``; ``weights [N, C]`` or ``[N, 1]``. Classes of weight 0 take no part and get no
    gradient. "softmax": over the other classes, targets renormalised to sum to 1 over them (an anchor whose targets
    vanish there has no loss), times the largest weight of the row. "sigmoid": the sum over classes of weight times the
    divergence of one Bernoulli probability from the other (YOLOv3; targets are taken as they are).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets, weights = targets.to(logits.dtype), weights.to(logits.dtype)
    if classes == "sigmoid":
        entropy = torch.xlogy(targets, targets) + torch.xlogy(1 - targets, 1 - targets)
        return ((cross_entropy_elementwise(logits, targets) + entropy) * weights).sum(1)
    counts = (weights > 0).expand_as(logits)
    targets = targets * counts
    total = targets.sum(1)
    targets = targets / total.clamp(min=torch.finfo(targets.dtype).tiny)[:, None]
    # Lowest, not −∞, which would be NaN where no class counts.
    log_p = logits.masked_fill(~counts, torch.finfo(logits.dtype).min).log_softmax(1).masked_fill(~counts, 0.0)
    divergence = (torch.xlogy(targets, targets) - targets * log_p).sum(1)
    return divergence * weights.amax(1) * (total > 0)


class SquaredError(nn.Module):
    """(Δx)² + (Δy)² + (Δw)² + (Δh)² between the centre and size of predicted and true box (Eq. 8), in units of `side`.

    side: in pixels; the paper's is the image's (for pictures of one size the same for all boxes, which is a matter of
    the loss weight). None: the side √(w · h) of each positive's anchor, so that small objects count as much as large
    ones. Raises ValueError for a side of 0 or less.
    """

    def __init__(self, side: float | None = None) -> None:
        super().__init__()
        if side is not None and not side > 0:
            raise ValueError(f"Expected a side above 0 or None, got {side}.")
        self.side = side

    def forward(self, matched: Matched) -> Tensor:
        """One loss per positive ``[P]``, unweighted."""
        difference = matched.boxes - matched.target_boxes
        low, high = difference[:, :2], difference[:, 2:]
        squares = (((low + high) / 2).square() + (high - low).square()).sum(1)
        if self.side is not None:
            return squares / self.side**2
        return squares / (matched.anchor_boxes[:, 2:] - matched.anchor_boxes[:, :2]).prod(1)

    def extra_repr(self) -> str:
        return f"side={self.side}"
