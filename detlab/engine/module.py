"""The LightningModule: the training step lives here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch import distributed as dist

from detlab.assigners.counts import Counts, count_matches
from detlab.engine.optim import Schedule
from detlab.errors import ElsewhereError, UserError
from detlab.losses.normalizer import process_count, reduce_mean
from detlab.losses.quality import PredictedIoU, predicted_iou
from detlab.metrics.iou_error import IoUError
from detlab.metrics.mean_ap import DetectionMetrics
from detlab.models.detectors.faster_rcnn import FasterRCNN, FirstStage
from detlab.models.roi_sampler import draws_of
from detlab.ops.matching import gather, gather_objects, of_one_class
from detlab.postprocess import Candidates, Postprocess
from detlab.postprocess.tta import Single, Testing
from detlab.pseudo_labels.base import Part, Treatment
from detlab.structures import BACKGROUND, Anchors, Assignment, Batch, Detections, Predictions, Targets


class LitDetector(LightningModule):
    """A detector with its assigner, criterion and post-processing, each swappable.

    criterion: of one stage, called with a `Matched`; of two (Faster R-CNN), with that of the anchors and a
    `SecondStage`; the assigner is then that of the anchors.

    `total_batch`: images per optimiser step over all processes, for linear scaling of the learning rate. `testing`: how
    pictures are looked at outside validation, which, coming often, looks at each once; None: once. `pseudo`: what is
    done about objects that nobody labelled; None: see `Treatment`.
    Evaluation is in pixels of the original files. `detections` holds what the last evaluation found, by image
    id, in those pixels, on whichever process; `pr_curves` its precision over recall per class, by stage; `counts` how
    many anchors the objects of the last training step got, the mean over processes.
    """

    def __init__(
        self,
        detector: nn.Module,
        assigner: Callable[[Anchors, list[Targets], Predictions], Assignment],
        criterion: Callable[..., dict[str, Tensor]],
        postprocess: Postprocess,
        classes: Sequence[str],
        schedule: Schedule | None = None,
        total_batch: int = 16,
        testing: Testing | None = None,
        pseudo: Treatment | None = None,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.assigner = assigner
        self.criterion = criterion
        self.postprocess = postprocess
        self.classes = list(classes)
        self.schedule = schedule
        self.total_batch = total_batch
        self.testing = Single() if testing is None else testing
        if (begin := getattr(self.testing, "begin", None)) is not None:
            begin(self.classes)
        self.pseudo = Treatment() if pseudo is None else pseudo
        self.pseudo.begin(self.classes, None if schedule is None else schedule.iterations)
        self.metrics = nn.ModuleDict({f"{stage}_metrics": DetectionMetrics(classes) for stage in ("val", "test")})
        if isinstance(getattr(criterion, "quality", None), PredictedIoU):
            self.metrics.update({f"{stage}_iou_error": IoUError() for stage in ("val", "test")})
        self.detections: dict[int, Detections] = {}
        self.pr_curves: dict[str, Any] = {}
        self.counts: Counts | None = None

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        """``[B, 3, H, W]`` normalised pictures → predictions for every anchor, and the anchors."""
        return self.detector(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:  # noqa: ARG002
        if len(batch) == 0:
            if process_count() == 1:
                self.counts = None
                self._say(batch.skipped)
                return None
            batch = without_signal(batch, len(self.classes))  # the others wait for this process in every reduction
        parts = self.pseudo.parts(batch)
        batch = self.pseudo.before_forward(batch, self.global_step)
        two = isinstance(self.detector, FasterRCNN)
        losses, counts = self._two_stages(batch, parts) if two else self._one_stage(batch, parts)
        total = torch.stack(list(losses.values())).sum()
        refuse_non_finite(total, losses, batch)
        watched = {**getattr(self.criterion, "watched", {}), **self.pseudo.watched}
        named = {f"loss_{name}": loss for name, loss in losses.items()}
        self._say(batch.skipped, counts, loss=total, **named, **watched)
        return total

    def _one_stage(self, batch: Batch, parts: list[Part]) -> tuple[dict[str, Tensor], Counts]:
        predictions, anchors = self(batch.images)
        with torch.no_grad():
            labels = self.pseudo.after_forward(batch, anchors, predictions.detach(), self.global_step)
        targets = self.pseudo.treat(batch.targets)
        if self.pseudo.by_boxes:
            targets, labels = self.pseudo.add_boxes(targets, labels), None
        assignment = self.assigner(anchors, targets, predictions.detach())

        def learn(predictions: Predictions, targets: list[Targets], assignment: Assignment) -> dict[str, Tensor]:
            matched = gather(anchors, targets, assignment, predictions)
            return self.criterion(self.pseudo.amend(matched, anchors, targets, labels))

        losses = by_part(parts, learn, predictions, targets, assignment)
        return losses, count_matches(targets, assignment)

    def _two_stages(self, batch: Batch, parts: list[Part]) -> tuple[dict[str, Tensor], Counts]:
        """As one stage, and after it another on what the first proposes. Counted are anchors of the first."""
        assert isinstance(self.detector, FasterRCNN)
        first = self._propose(batch)
        self.pseudo.by_boxes = True
        with torch.no_grad():
            regions, anchors = first.proposals.as_predictions(len(self.classes))
            labels = self.pseudo.after_forward(batch, anchors, regions, self.global_step)
        targets = self.pseudo.add_boxes(self.pseudo.treat(batch.targets), labels)
        objects = [of_one_class(t) for t in targets]
        assignment = self.assigner(first.anchors, objects, first.predictions.detach())
        detector = self.detector

        def learn(first: FirstStage, targets: list[Targets], assignment: Assignment) -> dict[str, Tensor]:
            matched = gather_objects(first.anchors, targets, assignment, first.predictions)
            return self.criterion(matched, detector.learn(first, targets))

        with draws_of(self.global_step, self.device):
            losses = by_part(parts, learn, first, targets, assignment)
        return losses, count_matches(targets, assignment)

    def _propose(self, batch: Batch) -> FirstStage:
        assert isinstance(self.detector, FasterRCNN)
        sizes = [(int(height), int(width)) for height, width in batch.sizes.tolist()]
        return self.detector.propose(self.detector.features(batch.images), sizes)

    def show(self, batch: Batch) -> tuple[Predictions, Anchors]:
        """What a treatment of missing labels is shown of a batch: predictions for the anchors, or the proposals."""
        if isinstance(self.detector, FasterRCNN):
            return self._propose(batch).proposals.as_predictions(len(self.classes))
        return self(batch.images)

    def _say(self, skipped: int, counts: Counts | None = None, **losses: Tensor) -> None:
        """Log a training step: losses, what the criterion watches, how many anchors the objects got, skipped pictures,
        of all processes together."""
        local = torch.stack([torch.full((), float(skipped), device=self.device), *losses.values(), *(counts or ())])
        mean = reduce_mean(local)
        self.log("train/skipped_images", mean[0] * process_count(), batch_size=1, reduce_fx="sum", on_epoch=False)
        logged = {f"train/{name}": value for name, value in zip(losses, mean[1 : len(losses) + 1], strict=True)}
        if counts is not None:
            self.counts = Counts(*mean[-3:])
            objects, positives, unmatched = self.counts
            objects = objects.clamp(min=1e-6)
            logged |= {
                "train/positives_per_object": positives / objects,
                "train/unmatched_objects": unmatched / objects,
            }
        self.log_dict(logged, batch_size=1)
        if process_count() > 1 and not bool(torch.isfinite(mean).all()):
            raise ElsewhereError("The loss is not finite in another process.")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.pseudo.after_step(self.detector)  # before any callback saves a checkpoint
        if (after_step := getattr(self.criterion, "after_step", None)) is not None:
            after_step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if state := self.pseudo.state_dict():
            checkpoint["pseudo"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "pseudo" in checkpoint:
            self.pseudo.load_state_dict(checkpoint["pseudo"])

    def on_train_start(self) -> None:
        """A criterion may go by time (self-balancing of aLRP): its `begin` is told how many optimizer steps an epoch
        and the whole training have, and its `after_step` when one is over. To Lightning the training is one epoch."""
        begin, data = getattr(self.criterion, "begin", None), getattr(self.trainer, "datamodule", None)
        if begin is not None and data is not None:
            assert self.schedule is not None
            epoch = math.ceil(data.batches_per_epoch / self.trainer.accumulate_grad_batches)
            begin(epoch, self.schedule.iterations)

    def candidates(self, images: Tensor, sizes: Tensor) -> Candidates:
        """What is found in ``images [B, 3, H, W]`` of content ``sizes [B, 2]`` (height, width), in their pixels, before
        any suppression."""
        predictions, anchors = self(images)
        return self.postprocess.candidates(predictions, anchors, sizes)

    def detect(self, batch: Batch, stage: str | None = None) -> list[Detections]:
        """Final boxes of each image of the batch, in pixels of the original files. stage: of an evaluation (val, test),
        which judges the predicted IoU on the way."""

        def look(images: Tensor) -> tuple[Predictions, Anchors]:
            predictions, anchors = self(images)
            if stage is not None and images is batch.images:  # of several views the pictures as they are
                self._judge_iou(batch, predictions, anchors, stage)
            return predictions, anchors

        testing = Single() if stage == "val" else self.testing
        found = testing(look, batch, self.postprocess)
        return [
            Detections(d.boxes / scale.repeat(2), d.scores, d.labels)
            for d, scale in zip(found, batch.scales, strict=True)
        ]

    def _judge_iou(self, batch: Batch, predictions: Predictions, anchors: Anchors, stage: str) -> None:
        """Where the head predicts the IoU of its boxes: by how much it is off, of the anchors that the assigner would
        train as positive."""
        if f"{stage}_iou_error" in self.metrics:
            matched = gather(anchors, batch.targets, self.assigner(anchors, batch.targets, predictions), predictions)
            assert matched.quality is not None, "a criterion that predicts IoU needs a head with a quality branch"
            error: Any = self.metrics[f"{stage}_iou_error"]
            error.update(matched.quality.sigmoid(), predicted_iou(matched))

    def _evaluate(self, batch: Batch, stage: str) -> None:
        if len(batch) == 0:
            return
        detections = self.detect(batch, stage)
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
        if f"{stage}_iou_error" in self.metrics:
            error: Any = self.metrics[f"{stage}_iou_error"]
            if error.update_called or process_count() > 1:
                values["IoU_error"] = error.compute()
            error.reset()
        self.log_dict({f"{stage}/{name}": float(value) for name, value in values.items()}, sync_dist=False)
        self.pr_curves[stage] = metrics.pr_curves()
        metrics.reset()
        self.detections = of_all_processes(self.detections)

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


_Said = TypeVar("_Said", Predictions, FirstStage)


def by_part(
    parts: list[Part],
    learn: Callable[[_Said, list[Targets], Assignment], dict[str, Tensor]],
    said: _Said,
    targets: list[Targets],
    assignment: Assignment,
) -> dict[str, Tensor]:
    """The losses of what the detector said of B images, or, where there are parts, their weighted sum over these. A
    part without pictures takes part in every reduction all the same, with a picture that no annotator looked at."""
    if not parts:
        return learn(said, targets, assignment)
    total: dict[str, Tensor] = {}
    for rows, weight in parts:
        mine, index = [targets[row] for row in rows.tolist()], assignment.gt_index[rows]
        if not mine:
            rows, mine = rows.new_zeros(1), [nobody_looked(len(targets[0].annotated), rows.device)]
            index = torch.full_like(assignment.gt_index[:1], BACKGROUND)
        losses = learn(said.of_images(rows), mine, Assignment(index))
        total = {name: total.get(name, 0.0) + weight * loss for name, loss in losses.items()}
    return total


def without_signal(batch: Batch, num_classes: int) -> Batch:
    """`batch`, whose pictures could all not be read, with an empty picture that no annotator looked at: its losses
    are zeros that reach every parameter."""
    device, side = batch.images.device, 128
    size = torch.tensor([[side, side]], device=device)
    images, targets = batch.images.new_zeros(1, 3, side, side), [nobody_looked(num_classes, device)]
    return replace(batch, images=images, targets=targets, sizes=size)


def nobody_looked(num_classes: int, device: torch.device) -> Targets:
    """The targets of a picture that no annotator looked at."""
    return Targets.of(
        torch.zeros(0, 4, device=device),
        torch.zeros(0, dtype=torch.int64, device=device),
        num_classes,
        annotated=torch.zeros(num_classes, dtype=torch.bool, device=device),
    )


def of_all_processes(found: dict[int, Detections]) -> dict[int, Detections]:
    """The detections of every process by image id."""
    if process_count() == 1:
        return found
    parts: list[Any] = [None] * process_count()
    dist.all_gather_object(parts, {image: [t.numpy() for t in values] for image, values in found.items()})
    return {image: Detections(*map(torch.from_numpy, values)) for part in parts for image, values in part.items()}


def refuse_non_finite(total: Tensor, losses: dict[str, Tensor], batch: Batch) -> None:
    """Raise UserError naming the terms and the batch's image ids when the loss is not finite."""
    if bool(torch.isfinite(total)):
        return
    terms = ", ".join(f"{name} = {float(loss.detach()):g}" for name, loss in losses.items())
    raise UserError(
        f"The loss is not finite ({terms}) on the batch of image ids {batch.image_ids.tolist()}: "
        "lower schedule.lr, set schedule.clip_norm or train in 32-bit; checkpoints already written are kept."
    )
