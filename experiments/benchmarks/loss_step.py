"""Training steps with other losses beside focal loss + smooth-L1, in alternating runs of one process.

    python experiments/benchmarks/loss_step.py [--threads 2] [--rounds 9]

One detector and one batch, forward and backward; only the criterion differs. Weights are and stay those of the start
of a training, where all scores are within the ramp of each other: ranking losses are slowest there. A ratio is the
median over rounds of the step's time over that of focal + smooth-L1 in the same round.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from training_step import Step, alternate, batch, detlab_detector

from detlab.assigners.max_iou import MaxIoU
from detlab.losses.alrp import ALRPCriterion
from detlab.losses.classification import Focal
from detlab.losses.criterion import Criterion
from detlab.losses.iou_balanced import IoUBalancedClassification, IoUBalancedLocalization
from detlab.losses.rank_sort import RankSortCriterion
from detlab.losses.ranking_classification import APLoss
from detlab.losses.regression import SmoothL1
from detlab.models.backbones.resnet import ResNet, SmallBackbone
from detlab.models.detectors.dense import DenseDetector
from detlab.ops.matching import gather
from detlab.structures import Targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    small = partial(detlab_detector, SmallBackbone(), 12, channels=64, convs=2, levels=(3, 4, 5), norm="gn")
    compare("small detector, 128 px, batch 16, 12 classes", small(), *batch(16, 128, 5, 12), args.rounds)
    large = detlab_detector(ResNet("resnet50", frozen_stages=1), 80)
    compare("RetinaNet R50, 320 px, batch 2, 80 classes", large, *batch(2, 320, 7, 80), args.rounds)


def compare(title: str, detector: DenseDetector, images: Tensor, targets: list[Targets], rounds: int) -> None:
    smooth_l1 = SmoothL1(detector.coder)
    criteria: dict[str, nn.Module] = {
        "focal + smooth-L1": Criterion(Focal(), smooth_l1),
        "IoU-balanced": Criterion(IoUBalancedClassification(Focal()), IoUBalancedLocalization(smooth_l1)),
        "AP + smooth-L1": Criterion(APLoss(), smooth_l1),
        "aLRP": ALRPCriterion(),
        "Rank & Sort": RankSortCriterion(),
    }
    times = alternate([step_of(detector, images, targets, criterion) for criterion in criteria.values()], rounds)
    print(f"{title}: {statistics.median(times[0]) * 1000:.0f} ms with focal + smooth-L1")
    for name, seconds in list(zip(criteria, times))[1:]:
        ratio = statistics.median(a / b for a, b in zip(seconds, times[0]))
        print(f"  {name:<16} {ratio:.3f} of that")


def step_of(
    detector: DenseDetector, images: Tensor, targets: list[Targets], criterion: Callable[..., dict[str, Tensor]]
) -> Step:
    assigner = MaxIoU()

    def step() -> None:
        predictions, anchors = detector(images)
        matched = gather(anchors, targets, assigner(anchors, targets, predictions.detach()), predictions)
        detector.zero_grad()
        sum(criterion(matched).values(), torch.zeros(())).backward()

    return step


if __name__ == "__main__":
    main()
