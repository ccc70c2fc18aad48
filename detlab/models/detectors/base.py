"""What the training loop asks of a detector: its losses on a batch, and its predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from detlab.assigners.counts import Counts
from detlab.structures import (
    Anchors,
    Assignment,
    Batch,
    LossGroup,
    Matched,
    Predictions,
    PseudoLabels,
    Targets,
)

Assigner = Callable[[Anchors, list[Targets], Predictions], Assignment]
Losses = dict[str, Tensor]


class LossOutput(NamedTuple):
    """The losses of a training step by name, weighted scalars, and how many anchors the objects were matched to."""

    losses: Losses
    counts: Counts


class PseudoLabelHooks(Protocol):
    """The hooks of a strategy for missing labels that a detector calls in a training step, in this order.

    `detlab.pseudo_labels.base.PseudoLabelCallback` has them all and says what each does. A detector calls either
    `append_pseudo_boxes` or `apply_to_matches`: the former where `as_boxes` is set, be it by the strategy or, before
    `predict_pseudo_labels`, by a detector that takes labels as boxes only.
    """

    as_boxes: bool

    def loss_groups(self, batch: Batch) -> list[LossGroup]: ...

    def before_forward(self, batch: Batch, iteration: int) -> Batch: ...

    def predict_pseudo_labels(
        self, batch: Batch, anchors: Anchors, predictions: Predictions, iteration: int
    ) -> PseudoLabels | None: ...

    def transform_targets(self, targets: list[Targets]) -> list[Targets]: ...

    def append_pseudo_boxes(self, targets: list[Targets], labels: PseudoLabels | None) -> list[Targets]: ...

    def apply_to_matches(
        self, matched: Matched, anchors: Anchors, targets: list[Targets], labels: PseudoLabels | None
    ) -> Matched: ...


class Detector(nn.Module, ABC):
    """From images to predictions, and from a batch to its losses.

    A new detector derives from this class, or from `DenseDetector` where one head predicts for every anchor. Nothing
    outside its own file needs to know its class.
    """

    num_classes: int

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        """Predict, before any suppression.

        Args:
            images: float ``[B, 3, H, W]``, normalized.

        Returns:
            Predictions for A anchors (or regions) of each image, and these anchors.
        """

    @abstractmethod
    def losses(
        self,
        batch: Batch,
        assigner: Assigner,
        criterion: Callable[..., Losses],
        pseudo_labels: PseudoLabelHooks,
        iteration: int,
    ) -> LossOutput:
        """Compute the losses of a training step.

        Args:
            batch: as the data module loads it; at least one image.
            assigner: anchors, targets and detached predictions → the ground truth of each anchor.
            criterion: matched targets → losses by name. What a detector passes to it is between the two.
            pseudo_labels: the strategy for missing labels.
            iteration: optimizer steps so far.
        """

    def predict_regions(self, images: Tensor, sizes: Tensor) -> tuple[Predictions, Anchors]:  # noqa: ARG002
        """Predict the regions that a strategy for missing labels may label, outside of a training step.

        Args:
            images: float ``[B, 3, H, W]``, normalized.
            sizes: int64 ``[B, 2]`` (height, width) of each image's content inside the padding.
        """
        return self(images)

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Predictions, Anchors]:
        return super().__call__(*args, **kwargs)
