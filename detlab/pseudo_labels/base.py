"""The strategy for missing labels as a Lightning callback with hooks into a training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lightning import Callback
from torch import Tensor, nn

from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex
from detlab.postprocess import Candidates, Postprocess
from detlab.structures import Anchors, Batch, Detections, LossGroup, Matched, Predictions, PseudoLabels, Targets


class LoadedDetector(Protocol):
    """A trained detector with its post-processing."""

    classes: list[str]
    detector: nn.Module
    postprocess: Postprocess

    def to(self, device: Any) -> Any: ...

    def candidates(self, images: Tensor, sizes: Tensor) -> Candidates:
        """Detections in ``images [B, 3, H, W]`` of content ``sizes [B, 2]`` (height, width), before any suppression."""
        ...


class DetectorRun(Protocol):
    """A finished run of a detector. name: as the config has it. labeled_classes: those that its data had labels of."""

    @property
    def name(self) -> str: ...

    @property
    def labeled_classes(self) -> tuple[str, ...]: ...

    def load(self) -> LoadedDetector:
        """Load the detector: on the CPU, in evaluation mode, without gradients."""
        ...

    def detect(
        self, index: AnnotationIndex, data: DetectionDataModule, accelerator: str
    ) -> tuple[list[str], dict[int, Detections]]:
        """Detect the objects in the images of an index, which belongs to `data`.

        Returns:
            The detector's classes, and the detections by image id, in pixels of the files.
        """
        ...


OpenRun = Callable[[str, str], DetectorRun]
"""(key of the config, name) → the run. Raises UserError where the run is missing or unfinished."""


class PseudoLabelCallback(Callback):
    """Mask classes that an image is not labeled for: its background gives them no signal.

    See `detlab.ops.matching.gather` (in a first stage, which knows one class, less: `gather_objects`). Other strategies
    override some of the hooks. What one needs from outside is handed to it: an argument `open_run` is a function that
    opens finished runs (`OpenRun`), an argument `load_classifier` one that loads proxy classifiers.

    Order of calls: `bind`, `prepare` and `initialize` before training; in each step `loss_groups`, `before_forward`,
    `predict_pseudo_labels`, `transform_targets` and then `append_pseudo_boxes` or `apply_to_matches`. Hooks of
    Lightning's `Callback` come as usual; `state_dict` is part of checkpoints.

    Attributes:
        finds_labels: whether it labels predictions, from iteration `start` on, and `label_batch` can be asked.
        as_boxes: whether detectors take its labels by `append_pseudo_boxes`.
        when_none, when_many: what to do where it finds no labels or far too many, the end of a sentence.
        log_metrics: what training logs beside the losses, by name.
        summary: lines for the log about what was done before training.
    """

    finds_labels = False
    as_boxes = False
    start: float = 0
    when_none = when_many = ""

    def __init__(self) -> None:
        self.log_metrics: dict[str, Tensor] = {}
        self.summary: list[str] = []

    @property
    def state_key(self) -> str:
        return "pseudo_labels"

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Read the state where earlier versions kept it."""
        if "pseudo" in checkpoint:
            self.load_state_dict(checkpoint["pseudo"])

    def bind(self, classes: Sequence[str], iterations: int | None = None) -> None:
        """Take the detector's class names, in the order of its labels, and the length of a training."""

    def prepare(self, data: DetectionDataModule) -> None:
        """Look at the data, in each process, after `bind`: annotations are read, images are not."""

    def initialize(self, detector: nn.Module) -> None:
        """Initialize the detector, after `prepare`, before a training begins or a checkpoint is loaded."""

    def loss_groups(self, batch: Batch) -> list[LossGroup]:  # noqa: ARG002
        """Group the images of a batch as it was loaded; no group: all are normalized together. As many groups in every
        process and step, though perhaps without images."""
        return []

    def before_forward(self, batch: Batch, iteration: int) -> Batch:  # noqa: ARG002
        """Return the batch to train on, in the place of the one that was loaded."""
        return batch

    def predict_pseudo_labels(
        self,
        batch: Batch,  # noqa: ARG002
        anchors: Anchors,  # noqa: ARG002
        predictions: Predictions,  # noqa: ARG002
        iteration: int,  # noqa: ARG002
    ) -> PseudoLabels | None:
        """Label predictions (detached) of the very forward pass that is trained, without gradients.

        Args:
            batch: with the annotators' targets.
            iteration: optimizer steps so far.
        """
        return None

    def label_batch(self, batch: Batch, predictions: Predictions) -> PseudoLabels:
        """Label predictions outside of a training step, one label per object, in pixels of the batch."""
        raise NotImplementedError(f"{type(self).__name__} labels no predictions.")

    def by_class(self) -> dict[str, Tensor]:
        """Return values of each class ``[C]`` by name (thresholds, weights), to be logged."""
        return {}

    def transform_targets(self, targets: list[Targets]) -> list[Targets]:
        """Return the targets for assigner and losses, from those of the annotators."""
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
        """Return what the losses see, with the labels of predictions in it."""
        return matched
