"""The LightningModule: the training step lives here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from detlab.errors import UserError
from detlab.matching import gather
from detlab.metrics.mean_ap import DetectionMetrics
from detlab.schedule import Schedule
from detlab.structures import Anchors, Assignment, Batch, Detections, Matched, Predictions, Targets


class LitDetector(LightningModule):
    """A detector with its assigner, criterion and post-processing, each swappable.

    `total_batch`: images per optimiser step over all processes, for linear scaling of the learning rate.
    Evaluation is in pixels of the original files. `detections` holds what the last evaluation found, by image
    id, in those pixels; `pr_curves` its precision over recall per class, by stage.
    """

    def __init__(
        self,
        detector: nn.Module,
        assigner: Callable[[Anchors, list[Targets], Predictions], Assignment],
        criterion: Callable[[Matched], dict[str, Tensor]],
        postprocess: Callable[[Predictions, Anchors, Tensor], list[Detections]],
        classes: Sequence[str],
        schedule: Schedule | None = None,
        total_batch: int = 16,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.assigner = assigner
        self.criterion = criterion
        self.postprocess = postprocess
        self.classes = list(classes)
        self.schedule = schedule
        self.total_batch = total_batch
        self.metrics = nn.ModuleDict({f"{stage}_metrics": DetectionMetrics(classes) for stage in ("val", "test")})
        self.detections: dict[int, Detections] = {}
        self.pr_curves: dict[str, Any] = {}

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        """``[B, 3, H, W]`` normalised pictures → predictions for every anchor, and the anchors."""
        return self.detector(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:  # noqa: ARG002
        self.log("train/skipped_images", float(batch.skipped), batch_size=1, reduce_fx="sum", on_epoch=False)
        if len(batch) == 0:
            return None
        predictions, anchors = self(batch.images)
        assignment = self.assigner(anchors, batch.targets, predictions.detach())
        matched = gather(anchors, batch.targets, assignment, predictions)
        losses = self.criterion(matched)
        total = torch.stack(list(losses.values())).sum()
        refuse_non_finite(total, losses, batch)
        self.log("train/loss", total, prog_bar=True, batch_size=len(batch))
        self.log_dict({f"train/loss_{name}": loss for name, loss in losses.items()}, batch_size=len(batch))
        return total

    def detect(self, batch: Batch) -> list[Detections]:
        """Final boxes of each image of the batch, in pixels of the original files."""
        predictions, anchors = self(batch.images)
        found = self.postprocess(predictions, anchors, batch.sizes)
        return [
            Detections(d.boxes / scale.repeat(2), d.scores, d.labels)
            for d, scale in zip(found, batch.scales, strict=True)
        ]

    def _evaluate(self, batch: Batch, stage: str) -> None:
        if len(batch) == 0:
            return
        detections = self.detect(batch)
        assert batch.originals is not None, "evaluation batches carry the original annotations"
        metrics: Any = self.metrics[f"{stage}_metrics"]
        metrics.update(detections, batch.originals, batch.areas, batch.image_ids)
        for image_id, found in zip(batch.image_ids.tolist(), detections, strict=True):
            self.detections[image_id] = Detections(
                *(t.float().cpu() if t.is_floating_point() else t.cpu() for t in found)
            )

    def _finish_evaluation(self, stage: str) -> None:
        metrics: Any = self.metrics[f"{stage}_metrics"]
        values = metrics.compute()
        self.log_dict({f"{stage}/{name}": float(value) for name, value in values.items()}, sync_dist=False)
        self.pr_curves[stage] = metrics.pr_curves()
        metrics.reset()

    def on_validation_epoch_start(self) -> None:
        self.detections = {}

    def on_test_epoch_start(self) -> None:
        self.detections = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def configure_optimizers(self) -> Any:
        assert self.schedule is not None, "training needs a schedule"
        return self.schedule.build(self.detector, self.total_batch)


def refuse_non_finite(total: Tensor, losses: dict[str, Tensor], batch: Batch) -> None:
    """Raise UserError naming the terms and the batch's image ids when the loss is not finite."""
    if bool(torch.isfinite(total)):
        return
    terms = ", ".join(f"{name} = {float(loss.detach()):g}" for name, loss in losses.items())
    raise UserError(
        f"The loss is not finite ({terms}) on the batch of image ids {batch.image_ids.tolist()}: "
        "lower schedule.lr, set schedule.clip_norm or train in 32-bit; checkpoints already written are kept."
    )
