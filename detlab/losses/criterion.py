"""The criterion of dense detectors: classification + localisation + quality under one normaliser."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from detlab.losses.normalizer import normalizer
from detlab.losses.quality import QualityLoss
from detlab.structures import Matched


@runtime_checkable
class ClassificationLoss(Protocol):
    """`Matched` → weighted sum over anchors and classes, unnormalised."""

    def __call__(self, matched: Matched) -> Tensor: ...


@runtime_checkable
class LocalizationLoss(Protocol):
    """`Matched` → one loss per positive ``[P]``, unweighted."""

    def __call__(self, matched: Matched) -> Tensor: ...


class Criterion(nn.Module):
    """Weighted losses, each divided by the number of positives (the sum of their box weights).

    The class losses' number counts predictions with a pseudo-label, too, each as 1.
    The numbers are those of all processes and at least 1, shared equally; without positives the terms are zeros that
    still reach every output of the head. `box_weighting="quality"` weights each positive's box loss by its quality
    target and divides by the sum of those weights instead (ATSS with centerness, PAA with predicted IoU).

    Raises ValueError for negative weights, for quality weighting without a quality loss, and in the call when the
    head has a quality branch without a loss or the other way round.
    """

    requires = frozenset({"one_stage"})

    def __init__(
        self,
        classification: ClassificationLoss,
        localization: LocalizationLoss,
        quality: QualityLoss | None = None,
        classification_weight: float = 1.0,
        localization_weight: float = 1.0,
        quality_weight: float = 1.0,
        box_weighting: Literal["none", "quality"] = "none",
    ) -> None:
        super().__init__()
        weights = (classification_weight, localization_weight, quality_weight)
        if min(weights) < 0:
            raise ValueError(f"Expected loss weights of at least 0, got {weights}.")
        if box_weighting not in ("none", "quality"):
            raise ValueError(f"Expected box_weighting none or quality, got {box_weighting!r}.")
        if box_weighting == "quality" and quality is None:
            raise ValueError("Expected a quality loss for box_weighting=quality, got none.")
        self.classification = classification
        self.localization = localization
        self.quality = quality
        self.classification_weight, self.localization_weight, self.quality_weight = weights
        self.box_weighting = box_weighting

    def forward(self, matched: Matched) -> dict[str, Tensor]:
        """The terms by name, normalised and weighted scalars: classification, localization and perhaps quality."""
        if self.quality is None and matched.quality is not None:
            raise ValueError("Expected a quality loss for a head with a quality branch, got none.")
        labelled, positives = labelled_and_positives(matched)
        losses = {
            "classification": self.classification_weight * self.classification(matched) / labelled,
            "localization": self.localization_weight * self._localization(matched, positives),
        }
        if self.quality is not None:
            quality = (self.quality(matched) * matched.box_weights).sum()
            losses["quality"] = self.quality_weight * quality / positives
        return losses

    def _localization(self, matched: Matched, positives: Tensor) -> Tensor:
        weights = matched.box_weights
        if self.box_weighting == "quality" and self.quality is not None:
            weights = weights * self.quality.target(matched)
            positives = normalizer(weights.sum(), at_least=1e-6)
        return (self.localization(matched) * weights).sum() / positives

    def extra_repr(self) -> str:
        weights = (self.classification_weight, self.localization_weight, self.quality_weight)
        return f"weights={weights}, box_weighting={self.box_weighting}"


def labelled_and_positives(matched: Matched) -> tuple[Tensor, Tensor]:
    """What the class losses and what the box losses are divided by: the positives' box weights, and for the former one
    more for each prediction with a pseudo-label; of all processes, at least 1, shared equally."""
    positives = matched.box_weights.sum()
    pseudo = torch.zeros_like(positives) if matched.pseudo is None else matched.pseudo.to(positives)
    labelled, boxes = normalizer(torch.stack([positives + pseudo, positives]), at_least=1)
    return labelled, boxes
