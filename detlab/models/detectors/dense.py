"""The one-stage detector: RetinaNet, ATSS, PAA and their kin are configs of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from detlab.assigners.counts import count_matches
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import Backbone
from detlab.models.detectors.base import Assigner, Detector, Losses, LossOutput, PseudoLabelHooks
from detlab.models.detectors.loss_groups import losses_by_group
from detlab.models.heads.dense import DenseHead
from detlab.models.necks.fpn import FPN
from detlab.ops.boxes import BoxCoder
from detlab.ops.interval_coder import IntervalCoder
from detlab.ops.matching import gather
from detlab.structures import Anchors, Assignment, Batch, Predictions, Targets


class DenseDetector(Detector):
    """Backbone → feature pyramid → dense head, boxes decoded.

    fpn is called with `in_channels` and `in_levels`; head with `in_channels`, `num_classes`,
    `anchors_per_location` and `num_levels`: what is missing in a config is known only here.
    coder: of offsets; or, in its place, intervals: the head then has as many outputs per anchor as these want, and in
    evaluation their certainty v (Li et al. 2021, Eq. 4) takes the place of a quality where the head has none.
    channels_last: weights and activations in that memory format, about twice as fast on CPUs and with
    mixed precision on GPUs.
    Raises ValueError if anchors and pyramid have different levels.
    """

    @staticmethod
    def provides(options: Mapping[str, Any]) -> set[str]:
        return {"one_stage", "class_scores"} | ({"intervals"} if options.get("intervals") else set())

    def __init__(
        self,
        num_classes: int,
        backbone: Backbone,
        fpn: Callable[..., FPN],
        anchors: AnchorGenerator,
        head: Callable[..., DenseHead],
        coder: BoxCoder,
        channels_last: bool = True,
        intervals: IntervalCoder | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = fpn(in_channels=backbone.out_channels, in_levels=backbone.out_levels)
        if self.fpn.levels != anchors.levels:
            raise ValueError(f"Expected anchors for the pyramid levels {self.fpn.levels}, got {anchors.levels}.")
        self.head = head(
            in_channels=self.fpn.out_channels,
            num_classes=num_classes,
            anchors_per_location=anchors.per_location,
            num_levels=len(anchors.levels),
            **({} if intervals is None else {"box_values": intervals.values}),
        )
        if intervals is not None:
            intervals.initialise(self.head.deltas.bias)  # type: ignore[arg-type]
        self.num_classes = num_classes
        self.anchors = anchors
        self.coder: BoxCoder | IntervalCoder = coder if intervals is None else intervals
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        """images: float ``[B, 3, H, W]``, normalised. Boxes, deltas and quality are float32 under autocast too."""
        features = self.fpn(self.backbone(images.contiguous(memory_format=self.memory_format)))
        anchors = self.anchors([(x.shape[-2], x.shape[-1]) for x in features], images.device)
        output = self.head(features)
        boxes = self.coder.decode(output.deltas, anchors.boxes)
        quality = None if output.quality is None else output.quality.float()
        if quality is None and isinstance(self.coder, IntervalCoder) and not self.training:
            quality = self.coder.quality(output.deltas).logit(1e-6)
        return Predictions(output.logits, boxes, output.deltas.float(), quality), anchors

    def losses(
        self,
        batch: Batch,
        assigner: Assigner,
        criterion: Callable[..., Losses],
        pseudo_labels: PseudoLabelHooks,
        iteration: int,
    ) -> LossOutput:
        """One assignment of anchors, and a criterion of `Matched`."""
        groups = pseudo_labels.loss_groups(batch)
        batch = pseudo_labels.before_forward(batch, iteration)
        predictions, anchors = self(batch.images)
        with torch.no_grad():
            labels = pseudo_labels.predict_pseudo_labels(batch, anchors, predictions.detach(), iteration)
        targets = pseudo_labels.transform_targets(batch.targets)
        if pseudo_labels.as_boxes:
            targets, labels = pseudo_labels.append_pseudo_boxes(targets, labels), None
        assignment = assigner(anchors, targets, predictions.detach())

        def compute_losses(predictions: Predictions, targets: list[Targets], assignment: Assignment) -> Losses:
            matched = gather(anchors, targets, assignment, predictions)
            return criterion(pseudo_labels.apply_to_matches(matched, anchors, targets, labels))

        losses = losses_by_group(groups, compute_losses, predictions, targets, assignment)
        return LossOutput(losses, count_matches(targets, assignment))
