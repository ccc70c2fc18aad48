"""The places at which a treatment of missing labels may step into a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from detlab.structures import Anchors, Batch, LossGroup, Matched, Predictions, PseudoLabels, Targets

if TYPE_CHECKING:
    from detlab.data.datamodule import DetectionDataModule


class PseudoLabelCallback:
    """Does nothing: a class that an image's annotators did not look for gets no signal from that image's background
    (`detlab.ops.matching.gather`; in a first stage, which knows one class, less: `gather_objects`). The others override
    one or more of its methods.

    `log_metrics` holds what training logs beside the losses, by name. Those that label predictions say so by
    `finds_labels`, from which iteration by `start`, and can be asked for the labels alone (`label_batch`).
    """

    finds_labels = False
    as_boxes = False  # whether a detector of one stage, too, gets its labels by `append_pseudo_boxes`
    start: float = 0
    when_none = when_many = ""  # what to do where it finds no labels, or far too many: the end of a sentence

    def __init__(self) -> None:
        self.log_metrics: dict[str, Tensor] = {}
        self.summary: list[str] = []

    def bind(self, classes: Sequence[str], iterations: int | None = None) -> None:
        """Called once with the detector's class names, in the order of its labels, and the length of the training where
        there will be one."""

    def prepare(self, data: DetectionDataModule) -> None:
        """Called once in each process, after `bind` and before training, with the annotations read and no picture yet.
        What it did goes into `summary`, lines for the log."""

    def initialize(self, detector: nn.Module) -> None:
        """Called once after `prepare`, before a training begins anew or a checkpoint is loaded."""

    def loss_groups(self, batch: Batch) -> list[LossGroup]:  # noqa: ARG002
        """Which pictures of a batch, as it was loaded, are divided by counts of their own; none: all by the same. As
        many in every process and step, though perhaps without pictures."""
        return []

    def before_forward(self, batch: Batch, iteration: int) -> Batch:  # noqa: ARG002
        """The batch that is trained, in the place of the one that was loaded."""
        return batch

    def after_step(self, detector: nn.Module) -> None:
        """Called after each step of the optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold, if anything, for `load_state_dict` to go on from it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; called after `prepare` and `initialize`."""

    def predict_pseudo_labels(
        self,
        batch: Batch,  # noqa: ARG002
        anchors: Anchors,  # noqa: ARG002
        predictions: Predictions,  # noqa: ARG002
        iteration: int,  # noqa: ARG002
    ) -> PseudoLabels | None:
        """Labels for predictions (detached) of the same forward pass that will be trained; targets of the batch are the
        annotators'; `iteration` counts optimiser steps from 0. Called without gradients."""
        return None

    def label_batch(self, batch: Batch, predictions: Predictions) -> PseudoLabels:
        """Labels for predictions, one per object; in pixels of the batch."""
        raise NotImplementedError(f"{type(self).__name__} labels no predictions.")

    def by_class(self) -> dict[str, Tensor]:
        """What it goes by for each class, ``[C]`` by name, to be watched over a training."""
        return {}

    def transform_targets(self, targets: list[Targets]) -> list[Targets]:
        """The targets that assigner and losses go by, from those of the annotators."""
        return targets

    def append_pseudo_boxes(self, targets: list[Targets], labels: PseudoLabels | None) -> list[Targets]:  # noqa: ARG002
        """Append labels as boxes to the targets (those of `transform_targets`), whose own boxes stay the first ones.

        In place of `apply_to_matches`: for a detector of two stages, whose second stage sees other regions than those
        that `predict_pseudo_labels` was asked about, and where `as_boxes` says so.
        """
        return targets

    def apply_to_matches(
        self,
        matched: Matched,
        anchors: Anchors,  # noqa: ARG002
        targets: list[Targets],  # noqa: ARG002
        labels: PseudoLabels | None,  # noqa: ARG002
    ) -> Matched:
        """What the losses will see."""
        return matched
