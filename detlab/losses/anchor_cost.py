"""What an anchor's prediction would cost if it answered for an object: minus the log of PAA's anchor score."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from detlab.losses.criterion import LocalizationLoss
from detlab.structures import Matched


class OfPositives(Protocol):
    """A classification loss that says what each anchor costs as a positive: `Focal`, `CrossEntropy`."""

    def of_positives(self, logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor: ...


class AnchorCost(nn.Module):
    """L_cls + λ1 · L_loc of every positive, −log S of Eq. 3: each as if it were the only one.

    classification: any loss that can be taken anchor by anchor, summed over the classes (those without weight
    left out, soft targets not looked at); localization: any box loss that is the less, the better the box (an
    IoU-balanced one is not: it is 0 for a box that misses its object). localization_weight: λ1, for scoring 1 whatever
    it is in training.
    Raises ValueError for a negative weight and for a classification loss that only exists for all anchors together
    (the ranking losses).
    """

    def __init__(
        self, classification: OfPositives, localization: LocalizationLoss, localization_weight: float = 1.0
    ) -> None:
        super().__init__()
        if localization_weight < 0:
            raise ValueError(f"Expected localization_weight of at least 0, got {localization_weight}.")
        if not hasattr(classification, "of_positives"):
            raise ValueError(
                "Expected a classification loss that can be taken anchor by anchor (Focal, CrossEntropy), got "
                f"{type(classification).__name__}."
            )
        self.classification = classification
        self.localization = localization
        self.localization_weight = localization_weight

    @torch.no_grad()
    def forward(self, matched: Matched) -> Tensor:
        """One cost per positive ``[P]``, float32 or wider, 0 at best."""
        labels, classes = matched.labels.flatten()[matched.positive], matched.class_weights.shape[-1]
        weights = matched.class_weights.expand(*matched.labels.shape, classes).flatten(0, 1)[matched.positive]
        logits = matched.logits.flatten(0, 1)[matched.positive]
        classification = self.classification.of_positives(logits, labels, weights)
        return classification + self.localization_weight * self.localization(matched)

    def extra_repr(self) -> str:
        return f"localization_weight={self.localization_weight}"
