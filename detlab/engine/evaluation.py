"""Validation and test: detections in pixels of the files, and what is measured of them over all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from detlab.losses.normalizer import process_count
from detlab.losses.quality import predicted_iou
from detlab.metrics.iou_error import IoUError
from detlab.metrics.mean_ap import DetectionMetrics
from detlab.ops.matching import gather
from detlab.postprocess import Postprocess
from detlab.postprocess.tta import Testing
from detlab.structures import Anchors, Assignment, Batch, Detections, Predictions, Targets

STAGES = ("val", "test")


class Evaluation(nn.Module):
    """The metrics of each stage (val, test) and the detections of the last evaluation.

    Attributes:
        metrics: AP and its kin (``val_metrics``, ``test_metrics``) and, where the head predicts the IoU of its boxes,
            by how much it is off (``val_iou_error``, ``test_iou_error``).
        detections: of the last evaluation, by image id, in pixels of the original files, whichever process found them.
        pr_curves: precision over recall per class, by stage.
    """

    def __init__(self, classes: Sequence[str], *, predicts_iou: bool = False) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict({f"{stage}_metrics": DetectionMetrics(classes) for stage in STAGES})
        if predicts_iou:
            self.metrics.update({f"{stage}_iou_error": IoUError() for stage in STAGES})
        self.detections: dict[int, Detections] = {}
        self.pr_curves: dict[str, Any] = {}

    def reset(self) -> None:
        self.detections = {}

    def update(self, stage: str, batch: Batch, detections: Sequence[Detections]) -> None:
        """Add the detections of a batch, in pixels of the original files."""
        assert batch.originals is not None, "evaluation batches carry the original annotations"
        metrics: Any = self.metrics[f"{stage}_metrics"]
        metrics.update(detections, batch.originals, batch.areas, batch.image_ids)
        for image_id, found in zip(batch.image_ids.tolist(), detections, strict=True):
            self.detections[image_id] = Detections(
                *(t.float().cpu() if t.is_floating_point() else t.cpu() for t in found)
            )

    def update_iou_error(
        self,
        stage: str,
        batch: Batch,
        predictions: Predictions,
        anchors: Anchors,
        assigner: Callable[[Anchors, list[Targets], Predictions], Assignment],
    ) -> None:
        """Add the predicted IoU of the anchors that the assigner would train as positive, if the head predicts it."""
        if f"{stage}_iou_error" in self.metrics:
            matched = gather(anchors, batch.targets, assigner(anchors, batch.targets, predictions), predictions)
            assert matched.quality is not None, "a criterion that predicts IoU needs a head with a quality branch"
            error: Any = self.metrics[f"{stage}_iou_error"]
            error.update(matched.quality.sigmoid(), predicted_iou(matched))

    def compute(self, stage: str) -> dict[str, float]:
        """Return the metrics of all processes by name, and begin anew. Collects `detections` of all processes."""
        metrics: Any = self.metrics[f"{stage}_metrics"]
        values = metrics.compute()
        if f"{stage}_iou_error" in self.metrics:
            error: Any = self.metrics[f"{stage}_iou_error"]
            if error.update_called or process_count() > 1:
                values["IoU_error"] = error.compute()
            error.reset()
        self.pr_curves[stage] = metrics.pr_curves()
        metrics.reset()
        self.detections = gather_detections(self.detections)
        return {name: float(value) for name, value in values.items()}


def detect(
    detector: Callable[[Tensor], tuple[Predictions, Anchors]], batch: Batch, testing: Testing, postprocess: Postprocess
) -> list[Detections]:
    """Return the final boxes of each image of the batch, in pixels of the original files."""
    found = testing(detector, batch, postprocess)
    return [
        Detections(d.boxes / scale.repeat(2), d.scores, d.labels) for d, scale in zip(found, batch.scales, strict=True)
    ]


def gather_detections(found: dict[int, Detections]) -> dict[int, Detections]:
    """Return the detections of every process, by image id."""
    if process_count() == 1:
        return found
    parts: list[Any] = [None] * process_count()
    dist.all_gather_object(parts, {image: [t.numpy() for t in values] for image, values in found.items()})
    return {image: Detections(*map(torch.from_numpy, values)) for part in parts for image, values in part.items()}
