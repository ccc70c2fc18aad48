"""Training steps per second beside torchvision's RetinaNet, in alternating runs of one process.

    python experiments/benchmarks/training_step.py [--size 320] [--batch 2] [--threads 2] [--classes 80] [--rounds 9]

Both sides are `retinanet_resnet50_fpn`: ResNet-50 with frozen batch norm, stem and first stage frozen, P3-P7 with P6
from P5, nine anchors, focal and box-regression loss, SGD with momentum; the same images and boxes. Images/s are
medians; the ratio is the median of the rounds' ratios, so that a neighbour on the machine disturbs it little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator as TorchvisionAnchors
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detlab.assigners.max_iou import MaxIoU
from detlab.losses.classification import Focal
from detlab.losses.criterion import Criterion
from detlab.losses.regression import SmoothL1
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import Backbone, ResNet, SmallBackbone
from detlab.models.detectors.dense import DenseDetector
from detlab.models.heads.dense import DenseHead
from detlab.models.necks.fpn import FPN
from detlab.ops.boxes import BoxCoder
from detlab.ops.matching import gather
from detlab.structures import Targets

Step = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--objects", type=int, default=7, help="boxes per image (COCO's mean)")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    images, targets = batch(args.batch, args.size, args.objects, args.classes)
    detector = detlab_detector(ResNet("resnet50", frozen_stages=1), args.classes)
    ours = detlab_step(detector, images, targets)
    reference = torchvision_retinanet(args.size, args.classes)
    theirs = torchvision_step(reference, images, targets)
    counts = trainable(detector), trainable(reference)
    assert counts[0] == counts[1], f"not the same network: {counts} trainable parameters"
    print(f"RetinaNet R50, {args.size} px, batch {args.batch}, {args.threads} threads, {args.classes} classes")
    for name in ("torchvision", "torchvision channels_last"):
        if name != "torchvision":
            reference.to(memory_format=torch.channels_last)
        times = alternate([ours, theirs], args.rounds)
        speed = [args.batch / statistics.median(seconds) for seconds in times]
        ratio = statistics.median(b / a for a, b in zip(*times))
        print(f"  detlab {speed[0]:.2f} images/s, {name} {speed[1]:.2f}, ratio {ratio:.3f}")

    images, targets = batch(16, 128, 5, 12)
    small = detlab_detector(SmallBackbone(), 12, channels=64, convs=2, levels=(3, 4, 5, 6), norm="gn")
    (seconds,) = alternate([detlab_step(small, images, targets)], args.rounds)
    speed_small = 16 / statistics.median(seconds)
    print(f"Small detector, 128 px, batch 16: {speed_small:.0f} images/s ({trainable(small):,} parameters)")


def batch(count: int, size: int, objects: int, classes: int) -> tuple[Tensor, list[Targets]]:
    """Noise images and boxes of a tenth to two thirds of the image's side."""
    targets = []
    for _ in range(count):
        extent = size * torch.empty(objects, 2).uniform_(0.1, 0.65)
        corner = torch.rand(objects, 2) * (size - extent)
        labels = torch.randint(classes, (objects,))
        targets.append(Targets.of(torch.cat([corner, corner + extent], 1), labels, classes))
    return torch.randn(count, 3, size, size), targets


def detlab_detector(
    backbone: Backbone,
    classes: int,
    channels: int = 256,
    convs: int = 4,
    levels: tuple[int, ...] = (3, 4, 5, 6, 7),
    norm: Literal["gn"] | None = None,
) -> DenseDetector:
    return DenseDetector(
        classes,
        backbone,
        partial(FPN, out_channels=channels, levels=levels, norm=norm, extra="p5"),
        AnchorGenerator(levels),
        partial(DenseHead, channels=channels, convs=convs, norm=norm),
        BoxCoder(),
    ).train()


def detlab_step(detector: DenseDetector, images: Tensor, targets: list[Targets]) -> Step:
    assigner, criterion, optimiser = MaxIoU(), Criterion(Focal(), SmoothL1(detector.coder)), sgd(detector)

    def step() -> None:
        predictions, anchors = detector(images)
        assignment = assigner(anchors, targets, predictions.detach())
        losses = criterion(gather(anchors, targets, assignment, predictions))
        optimiser.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimiser.step()

    return step


def torchvision_retinanet(size: int, classes: int) -> RetinaNet:
    backbone = _resnet_fpn_extractor(
        resnet50(norm_layer=FrozenBatchNorm2d),
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    sides = tuple(tuple(int(4 * stride * 2 ** (octave / 3)) for octave in range(3)) for stride in (8, 16, 32, 64, 128))
    anchors = TorchvisionAnchors(sides, ((0.5, 1.0, 2.0),) * 5)
    return RetinaNet(backbone, classes, min_size=size, max_size=size, anchor_generator=anchors).train()


def torchvision_step(model: RetinaNet, images: Tensor, targets: list[Targets]) -> Step:
    optimiser = sgd(model)
    dicts = [{"boxes": target.boxes, "labels": target.labels} for target in targets]

    def step() -> None:
        losses = model(list(images), dicts)
        optimiser.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimiser.step()

    return step


def sgd(model: nn.Module) -> torch.optim.SGD:
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(parameters, lr=1e-5, momentum=0.9, weight_decay=1e-4)


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def alternate(steps: list[Step], rounds: int) -> list[list[float]]:
    """Seconds of each step in every round, the steps taking turns after one unmeasured round."""
    times: list[list[float]] = [[] for _ in steps]
    for index in range(rounds + 1):
        for step, seconds in zip(steps, times):
            start = time.perf_counter()
            step()
            if index:
                seconds.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
