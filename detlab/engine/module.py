"""The LightningModule: one training step of any detector, and its evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from detlab.assigners.counts import Counts
from detlab.engine.evaluation import Evaluation, detect
from detlab.engine.optim import Schedule
from detlab.engine.step import (
    empty_batch,
    match_ratios,
    mean_over_processes,
    refuse_non_finite,
    refuse_non_finite_elsewhere,
)
from detlab.losses.normalizer import process_count
from detlab.models.detectors.base import Assigner, Detector
from detlab.postprocess import Candidates, Postprocess
from detlab.postprocess.tta import Single, Testing
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.structures import Anchors, Batch, Detections, Predictions


class LitDetector(LightningModule):
    """A detector with its assigner, criterion and post-processing, each swappable.

    Args:
        assigner, criterion: what the detector's `losses` takes.
        classes: names in the order of the labels.
        total_batch: images per optimizer step over all processes, for linear scaling of the learning rate.
        testing: test-time augmentation of test and prediction; validation, coming often, goes without. None: none.
        pseudo_labels: the strategy for missing labels; None: that of `PseudoLabelCallback`.

    `counts`: how many anchors the objects of the last training step got, the mean over processes.
    """

    def __init__(
        self,
        detector: Detector,
        assigner: Assigner,
        criterion: Callable[..., dict[str, Tensor]],
        postprocess: Postprocess,
        classes: Sequence[str],
        schedule: Schedule | None = None,
        total_batch: int = 16,
        testing: Testing | None = None,
        pseudo_labels: PseudoLabelCallback | None = None,
    ) -> None:
        super().__init__()
        self.detector, self.assigner, self.criterion, self.postprocess = detector, assigner, criterion, postprocess
        self.classes = list(classes)
        self.schedule, self.total_batch = schedule, total_batch
        self.testing = Single() if testing is None else testing
        if (begin := getattr(self.testing, "begin", None)) is not None:
            begin(self.classes)
        self.pseudo_labels = PseudoLabelCallback() if pseudo_labels is None else pseudo_labels
        self.pseudo_labels.bind(self.classes, None if schedule is None else schedule.iterations)
        quality = getattr(criterion, "quality", None)
        self.evaluation = Evaluation(classes, predicts_iou=getattr(quality, "predicts_iou", False))
        self.counts: Counts | None = None

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        """``[B, 3, H, W]`` normalized images → predictions for every anchor, and the anchors."""
        return self.detector(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:  # noqa: ARG002
        if len(batch) == 0 and process_count() == 1:
            self._log_step(batch.skipped)
            return None
        batch = batch if len(batch) else empty_batch(batch, len(self.classes))
        parts = (self.assigner, self.criterion, self.pseudo_labels)
        losses, counts = self.detector.losses(batch, *parts, self.global_step)
        total = torch.stack(list(losses.values())).sum()
        refuse_non_finite(total, losses, batch)
        watched = getattr(self.criterion, "watched", {}) | self.pseudo_labels.log_metrics
        self._log_step(batch.skipped, counts, loss=total, **{f"loss_{k}": v for k, v in losses.items()}, **watched)
        return total

    def _log_step(self, skipped: int, counts: Counts | None = None, **values: Tensor) -> None:
        """Log the values of a step, its matches and its skipped images, of all processes together."""
        means, self.counts, total_skipped = mean_over_processes(values, counts, skipped, self.device)
        self.log("train/skipped_images", total_skipped, batch_size=1, reduce_fx="sum", on_epoch=False)
        means |= {} if self.counts is None else match_ratios(self.counts)
        self.log_dict({f"train/{name}": value for name, value in means.items()}, batch_size=1)
        refuse_non_finite_elsewhere(means)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.pseudo_labels.after_step(self.detector)  # before any callback saves a checkpoint
        if (after_step := getattr(self.criterion, "after_step", None)) is not None:
            after_step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if state := self.pseudo_labels.state_dict():
            checkpoint["pseudo"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "pseudo" in checkpoint:
            self.pseudo_labels.load_state_dict(checkpoint["pseudo"])

    def on_train_start(self) -> None:
        """Tell a criterion that goes by time (self-balancing of aLRP) by its `begin` how many optimizer steps an epoch
        and the whole training have. To Lightning the training is one epoch."""
        begin, data = getattr(self.criterion, "begin", None), getattr(self.trainer, "datamodule", None)
        if begin is not None and data is not None:
            assert self.schedule is not None
            epoch = math.ceil(data.batches_per_epoch / self.trainer.accumulate_grad_batches)
            begin(epoch, self.schedule.iterations)

    def candidates(self, images: Tensor, sizes: Tensor) -> Candidates:
        """Detections before any suppression, in pixels of ``images [B, 3, H, W]`` of content ``sizes [B, 2]``."""
        predictions, anchors = self(images)
        return self.postprocess.candidates(predictions, anchors, sizes)

    def detect(self, batch: Batch, stage: str | None = None) -> list[Detections]:
        """Final boxes of each image of the batch, in pixels of the original files.

        Args:
            stage: of an evaluation (val, test), which measures the predicted IoU of the images as they are.
        """

        def predict(images: Tensor) -> tuple[Predictions, Anchors]:
            predictions, anchors = self(images)
            if stage is not None and images is batch.images:
                self.evaluation.update_iou_error(stage, batch, predictions, anchors, self.assigner)
            return predictions, anchors

        return detect(predict, batch, Single() if stage == "val" else self.testing, self.postprocess)

    def _evaluate(self, batch: Batch, stage: str) -> None:
        if len(batch):
            self.evaluation.update(stage, batch, self.detect(batch, stage))

    def _log_evaluation(self, stage: str) -> None:
        values = self.evaluation.compute(stage)
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, sync_dist=False)

    def on_validation_epoch_start(self) -> None:
        self.evaluation.reset()

    def on_test_epoch_start(self) -> None:
        self.evaluation.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def configure_optimizers(self) -> Any:
        assert self.schedule is not None, "training needs a schedule"
        return self.schedule.build(self.detector, self.total_batch)
