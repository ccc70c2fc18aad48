"""Faster R-CNN beside torchvision's `fasterrcnn_resnet50_fpn`: a training step and a look, in alternating runs.

    python experiments/benchmarks/two_stage_step.py [--size 320] [--batch 2] [--threads 2] [--classes 80] [--rounds 9]

The same network on both sides (ResNet-50 with batch norm, all of it trained; P2-P6, three anchors each; 2,000 boxes
into the first NMS in training and 1,000 in a look; 256 and 512 samples; the same losses, tests/models/test_faster_rcnn
shows), random weights, SGD with momentum; the same images and boxes. A ratio is the median of the rounds' ratios,
torchvision's time over ours: above 1 we are faster. channels_last is what detlab takes unless told otherwise.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from training_step import Step, alternate, batch, sgd, torchvision_step, trainable

from detlab.assigners.max_iou import MaxIoU
from detlab.losses.regression import SmoothL1
from detlab.losses.two_stage import TwoStageCriterion
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import ResNet
from detlab.models.detectors.faster_rcnn import FasterRCNN
from detlab.models.heads.box import BoxHead
from detlab.models.heads.rpn import RPN
from detlab.models.necks.fpn import FPN
from detlab.models.roi_sampler import RoISampler
from detlab.ops.boxes import BoxCoder
from detlab.ops.matching import gather_objects, of_one_class
from detlab.postprocess import Postprocess
from detlab.structures import Targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    images, targets = batch(args.batch, args.size, 7, args.classes)
    own = detlab_faster_rcnn(args.classes)
    other = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=1 + args.classes, min_size=args.size, max_size=args.size
    )
    counts = trainable(own), trainable(other)
    assert counts[0] == counts[1], f"not the same network: {counts} trainable parameters"
    print(f"Faster R-CNN R50, {args.size} px, batch {args.batch}, {args.threads} threads, {args.classes} classes")
    for name in ("torchvision", "torchvision channels_last"):
        if name != "torchvision":
            other.to(memory_format=torch.channels_last)
        report(f"training step, {name}", detlab_step(own, images, targets), training_of(other, images, targets), args)
        report(f"look, {name}", detlab_look(own, images), torchvision_look(other, images), args)


def report(name: str, ours: Step, theirs: Step, args: argparse.Namespace) -> None:
    times = alternate([ours, theirs], args.rounds)
    seconds = [statistics.median(each) for each in times]
    ratio = statistics.median(b / a for a, b in zip(*times))
    print(f"  {name}: detlab {seconds[0]:.3f} s, torchvision {seconds[1]:.3f} s, ratio {ratio:.3f}")


def detlab_faster_rcnn(classes: int) -> FasterRCNN:
    return FasterRCNN(
        classes,
        ResNet("resnet50", frozen_stages=0, norm="bn", out_levels=(2, 3, 4, 5)),
        partial(FPN, levels=(2, 3, 4, 5, 6), extra="pool"),
        AnchorGenerator((2, 3, 4, 5, 6), scale=8, octaves=1, center=0, whole=True),
        RPN,
        partial(BoxHead, coder=BoxCoder((10.0, 10.0, 5.0, 5.0))),
        BoxCoder(),
        RoISampler(MaxIoU(0.5, 0.5, low_quality=False)),
    )


def detlab_step(model: FasterRCNN, images: Tensor, targets: list[Targets]) -> Step:
    """As `LitDetector` takes it."""
    assigner, criterion, optimiser = MaxIoU(0.7, 0.3), TwoStageCriterion(SmoothL1(BoxCoder())), sgd(model)
    sizes = [(images.shape[-2], images.shape[-1])] * len(images)

    def step() -> None:
        model.train()
        first = model.propose(model.features(images), sizes)
        assignment = assigner(first.anchors, [of_one_class(t) for t in targets])
        matched = gather_objects(first.anchors, targets, assignment, first.predictions)
        losses = criterion(matched, model.second_stage(first, targets))
        optimiser.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimiser.step()

    return step


def training_of(model: nn.Module, images: Tensor, targets: list[Targets]) -> Step:
    step = torchvision_step(model, images, [_from_one(t) for t in targets])

    def training() -> None:
        model.train()
        step()

    return training


def _from_one(targets: Targets) -> Targets:
    """torchvision's label 0 is background."""
    return Targets.of(targets.boxes, targets.labels + 1, len(targets.annotated) + 1)


def detlab_look(model: FasterRCNN, images: Tensor) -> Step:
    postprocess = Postprocess(score_threshold=0.05, topk_per_level=100_000)
    sizes = torch.full((len(images), 2), images.shape[-1])

    @torch.no_grad()
    def look() -> None:
        model.eval()
        predictions, anchors = model(images)
        postprocess(predictions, anchors, sizes)

    return look


def torchvision_look(model: nn.Module, images: Tensor) -> Step:
    @torch.no_grad()
    def look() -> None:
        model.eval()
        model(list(images))

    return look


if __name__ == "__main__":
    main()
