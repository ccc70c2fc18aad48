"""Faster R-CNN with a feature pyramid (Ren et al. 2015; Lin et al. 2017a): proposals, and a second look at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detlab.assigners.counts import count_matches
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import Backbone
from detlab.models.detectors.base import Assigner, Detector, Losses, LossOutput, PseudoLabelHooks
from detlab.models.detectors.loss_groups import losses_by_group
from detlab.models.heads.box import BoxOutput, Head
from detlab.models.heads.rpn import RPN, Proposals, regions_as_anchors
from detlab.models.necks.fpn import FPN
from detlab.models.roi_sampler import RoIs, RoISampler, draws_of
from detlab.ops.boxes import BoxCoder
from detlab.ops.matching import gather_objects, of_one_class
from detlab.structures import Anchors, Assignment, Batch, Predictions, Targets


class FirstStage(NamedTuple):
    """Of B images: features, maps ``[B, channels, h, w]`` of every pyramid level; predictions for every anchor, of one
    class, and these anchors; the proposals that come of them."""

    features: list[Tensor]
    predictions: Predictions
    anchors: Anchors
    proposals: Proposals

    def of_images(self, rows: Tensor) -> FirstStage:
        """That of some images of the batch, int64 ``[n]``."""
        boxes, scores = ([field[row] for row in rows.tolist()] for field in self.proposals)
        features = [x[rows] for x in self.features]
        return FirstStage(features, self.predictions.of_images(rows), self.anchors, Proposals(boxes, scores))


class SecondStage(NamedTuple):
    """Of R sampled regions: what the box head says, what it should say, and the unweighted box loss of each of the P
    on an object, ``[P]``."""

    output: BoxOutput
    rois: RoIs
    localization: Tensor


class FasterRCNN(Detector):
    """Backbone → feature pyramid → region proposal network → box head on what is sampled (training) or all of it.

    fpn is called with `in_channels` and `in_levels`; rpn with `in_channels` and `anchors_per_location`; head with
    `in_channels`, `num_classes` and `levels`: what is missing in a config is known only here. coder: of the proposals.
    sampler: of the regions that the head learns from. The head sees the pyramid's levels that are also the backbone's.
    channels_last: weights and activations in that memory format.

    The parts can be asked one by one, so that a picture goes through the backbone only once: `features`, `propose` and
    the head itself, which is called with features and regions.
    Raises ValueError if anchors and pyramid have different levels.
    """

    provides = frozenset({"two_stages"})
    requires = frozenset({"softmax"})

    def __init__(
        self,
        num_classes: int,
        backbone: Backbone,
        fpn: Callable[..., FPN],
        anchors: AnchorGenerator,
        rpn: Callable[..., RPN],
        head: Callable[..., Head],
        coder: BoxCoder,
        sampler: RoISampler,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = fpn(in_channels=backbone.out_channels, in_levels=backbone.out_levels)
        if self.fpn.levels != anchors.levels:
            raise ValueError(f"Expected anchors for the pyramid levels {self.fpn.levels}, got {anchors.levels}.")
        pooled = [level for level in self.fpn.levels if level <= backbone.out_levels[-1]]
        channels = self.fpn.out_channels
        self.rpn = rpn(in_channels=channels, anchors_per_location=anchors.per_location)
        self.head: Any = head(in_channels=channels, num_classes=num_classes, levels=pooled)
        self.pooled = len(pooled)
        self.num_classes = num_classes
        self.anchors, self.coder, self.sampler = anchors, coder, sampler
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def features(self, images: Tensor) -> list[Tensor]:
        """``[B, 3, H, W]`` normalised → maps ``[B, channels, h, w]``, one per level, finest first."""
        return self.fpn(self.backbone(images.contiguous(memory_format=self.memory_format)))

    def propose(self, features: list[Tensor], sizes: list[tuple[int, int]]) -> FirstStage:
        """sizes: (height, width) of each picture's content, to which proposals are clipped."""
        anchors = self.anchors([(x.shape[-2], x.shape[-1]) for x in features], features[0].device)
        predictions, proposals = self.rpn(features, anchors, self.coder, sizes)
        return FirstStage(features, predictions, anchors, proposals)

    def losses(
        self,
        batch: Batch,
        assigner: Assigner,
        criterion: Callable[..., Losses],
        pseudo_labels: PseudoLabelHooks,
        iteration: int,
    ) -> LossOutput:
        """The assigner is that of the first stage's anchors, which are counted, too; the criterion takes the first
        stage's `Matched` and a `SecondStage`. Pseudo-labels are boxes in both stages, found among the proposals."""
        groups = pseudo_labels.loss_groups(batch)
        batch = pseudo_labels.before_forward(batch, iteration)
        first = self._propose(batch.images, batch.sizes)
        pseudo_labels.as_boxes = True
        with torch.no_grad():
            regions, anchors = first.proposals.as_predictions(self.num_classes)
            labels = pseudo_labels.predict_pseudo_labels(batch, anchors, regions, iteration)
        targets = pseudo_labels.append_pseudo_boxes(pseudo_labels.transform_targets(batch.targets), labels)
        objects = [of_one_class(t) for t in targets]
        assignment = assigner(first.anchors, objects, first.predictions.detach())

        def compute_losses(first: FirstStage, targets: list[Targets], assignment: Assignment) -> Losses:
            matched = gather_objects(first.anchors, targets, assignment, first.predictions)
            return criterion(matched, self.second_stage(first, targets))

        with draws_of(iteration, batch.images.device):
            losses = losses_by_group(groups, compute_losses, first, targets, assignment)
        return LossOutput(losses, count_matches(targets, assignment))

    def predict_regions(self, images: Tensor, sizes: Tensor) -> tuple[Predictions, Anchors]:
        """The proposals, with an objectness and no class."""
        return self._propose(images, sizes).proposals.as_predictions(self.num_classes)

    def _propose(self, images: Tensor, sizes: Tensor) -> FirstStage:
        contents = [(int(height), int(width)) for height, width in sizes.tolist()]
        return self.propose(self.features(images), contents)

    def second_stage(self, first: FirstStage, targets: list[Targets]) -> SecondStage:
        """The second stage on regions sampled from the proposals of the first, by what the B `targets` say."""
        rois = self.sampler(first.proposals.boxes, targets)
        output = self.look(first.features, rois.boxes)
        of_objects = BoxOutput(output.logits[rois.positive], output.places[rois.positive])
        regions, labels = torch.cat(rois.boxes)[rois.positive], rois.labels[rois.positive]
        return SecondStage(output, rois, self.head.localization(of_objects, regions, labels, rois.target_boxes))

    def look(self, features: list[Tensor], regions: list[Tensor]) -> BoxOutput:
        """The box head on ``regions``, B of ``[R_i, 4]`` xyxy pixels."""
        return self.head(features[: self.pooled], regions)

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        """images: float ``[B, 3, H, W]``, normalised → final predictions of all proposals, padded to R of each image,
        and the regions of the first image in the role of anchors.

        The softmax over background and classes is told as an objectness, log odds of not being background, and logits
        of the classes: p(class) = sigmoid(objectness) · softmax(logits), as of a YOLO. That of the padding is 0.
        """
        size = (images.shape[-2], images.shape[-1])
        features = self.features(images)
        regions = self.propose(features, [size] * len(images)).proposals.boxes
        output = self.look(features, regions)
        decoded = self.head.decode(output, torch.cat(regions))
        background, classes = output.logits[:, 0], output.logits[:, 1:]
        counts = [len(each) for each in regions]

        def padded(values: Tensor, empty: float = 0.0) -> Tensor:
            return pad_sequence(list(values.split(counts)), batch_first=True, padding_value=empty)

        predictions = Predictions(
            logits=padded(classes),
            boxes=padded(decoded.boxes),
            deltas=padded(decoded.deltas),
            quality=None if decoded.quality is None else padded(decoded.quality),
            objectness=padded(classes.logsumexp(-1) - background, -torch.inf),
        )
        return predictions, regions_as_anchors(padded(torch.cat(regions)))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Backbone and pyramid alone: what follows has other shapes in every step."""
        self.backbone.compile(*args, **kwargs)
        self.fpn.compile(*args, **kwargs)
