"""PAA's assignment beside a loop over the ground truths with scikit-learn, and its share of a training step.

    python experiments/benchmarks/assignment.py [--threads 2] [--rounds 5]

The loop does what the authors' code does, one mixture after the other, with the same overlaps, candidates and costs;
both have to end with the same positives. Predictions are noise around the anchors. A ratio is the median of the rounds'
ratios; a share that of the rounds' shares, with weights at the start of a training.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from functools import partial

import torch
from ranking import alternate, ratio, shown
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor
from training_step import Step, batch, sgd

from detlab.assigners.candidates import find_candidates
from detlab.assigners.max_iou import MaxIoU
from detlab.assigners.overlap import pad_targets
from detlab.assigners.paa import PAA
from detlab.losses.anchor_cost import AnchorCost
from detlab.losses.classification import Focal
from detlab.losses.criterion import Criterion
from detlab.losses.iou import IoULoss
from detlab.losses.quality import PredictedIoU
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import Backbone, ResNet, SmallBackbone
from detlab.models.detectors.dense import DenseDetector
from detlab.models.heads.dense import DenseHead
from detlab.models.necks.fpn import FPN
from detlab.ops.boxes import BoxCoder
from detlab.ops.matching import gather
from detlab.structures import Anchors, Predictions, Targets

COST = AnchorCost(Focal(), IoULoss("giou"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    warnings.simplefilter("ignore", ConvergenceWarning)

    few, many = (inputs(16, objects, args.device) for objects in (8, 64))
    assert torch.equal(PAA(COST)(*few).gt_index, loop(*few)), "the loop found other positives"
    times = alternate([lambda: PAA(COST)(*few), lambda: loop(*few), lambda: PAA(COST)(*many)], args.rounds)
    print(f"PAA's assignment: 16 images of 512 px, 80 classes, strides 8 to 128, {args.threads} threads, {args.device}")
    print(
        f"  8 objects per image: {shown(times[0])}, loop with scikit-learn {shown(times[1])}, "
        f"{ratio(times[1], times[0]):.1f} times as fast"
    )
    print(f"  64 objects per image: {shown(times[2])}, {ratio(times[2], times[0]):.1f} times as long as 8")

    print("Share of the assignment in a training step")
    small = detector(SmallBackbone(), 12, channels=64, convs=2, levels=(3, 4, 5), shrink=0.5)
    share("small detector, 128 px, batch 16, 12 classes", small, *batch(16, 128, 5, 12), args.rounds, args.device)
    large = detector(ResNet("resnet50", frozen_stages=1), 80)
    rounds = min(args.rounds, 3) if args.device == "cpu" else args.rounds
    share("PAA ResNet-50, 512 px, batch 2, 80 classes", large, *batch(2, 512, 7, 80), rounds, args.device)


def inputs(images: int, objects: int, device: str) -> tuple[Anchors, list[Targets], Predictions]:
    """Single square anchors, boxes as in `training_step`, predictions that scatter around the anchors."""
    levels, size, classes = (3, 4, 5, 6, 7), 512, 80
    shapes = [(size >> level, size >> level) for level in levels]
    anchors = AnchorGenerator(levels, scale=8.0, octaves=1, ratios=(1.0,))(shapes, torch.device(device))
    targets = [target.to(device) for target in batch(images, size, objects, classes)[1]]
    count, coder = len(anchors.boxes), BoxCoder((10.0, 10.0, 5.0, 5.0))
    deltas = torch.randn(images, count, 4, device=device)
    logits = torch.randn(images, count, classes, device=device) - 3
    return anchors, targets, Predictions(logits, coder.decode(deltas, anchors.boxes), deltas)


@torch.no_grad()
def loop(anchors: Anchors, targets: list[Targets], predictions: Predictions, topk: int = 9) -> Tensor:
    """The same assignment, one object after the other (scheme c)."""
    index = MaxIoU(0.1, 0.1).match(anchors.boxes, pad_targets(targets))
    result = torch.full_like(index, -1)
    for image, target in enumerate(targets):
        rows = index[image : image + 1]
        of_image = Predictions(*(None if field is None else field[image : image + 1] for field in predictions))  # type: ignore[arg-type]
        found = find_candidates(rows, anchors, [target], of_image, COST)
        for number in range(len(target)):
            mine = found.select(found.object == number)
            levels = [mine.select(mine.level == level) for level in range(len(anchors.level_sizes))]
            anchor = torch.cat([level.anchor[:topk] for level in levels])
            costs = torch.cat([level.cost[:topk] for level in levels])
            costs, order = costs.sort(stable=True)
            result[image, anchor[order][: prefix(costs)]] = number
    return result


def prefix(costs: Tensor) -> int:
    """How many of ``costs [n]``, rising, are positive."""
    if len(costs) < 2:
        return len(costs)
    samples = costs.double().cpu().numpy()[:, None]
    mixture = GaussianMixture(
        2,
        weights_init=[0.5, 0.5],
        means_init=samples[[0, -1]],
        precisions_init=[[[1.0]], [[1.0]]],
        init_params="random",  # nothing is left for it to say
    ).fit(samples)
    low, likelihood = mixture.predict(samples) == 0, mixture.score_samples(samples)
    if not low.any():
        return len(costs)
    likelihood[~low] = -float("inf")
    return int(likelihood.argmax()) + 1


def detector(
    backbone: Backbone,
    classes: int,
    channels: int = 256,
    convs: int = 4,
    levels: tuple[int, ...] = (3, 4, 5, 6, 7),
    shrink: float = 1.0,
) -> DenseDetector:
    return DenseDetector(
        classes,
        backbone,
        partial(FPN, out_channels=channels, levels=levels, norm="gn" if shrink < 1 else None, extra="p5"),
        AnchorGenerator(levels, 8.0, 1, (1.0,), shrink),
        partial(DenseHead, channels=channels, convs=convs, norm="gn", quality="iou", level_scales=True),
        BoxCoder((10.0, 10.0, 5.0, 5.0)),
    ).train()


def share(title: str, model: DenseDetector, images: Tensor, targets: list[Targets], rounds: int, device: str) -> None:
    spent: list[float] = []
    step = step_of(model.to(device), images.to(device), [target.to(device) for target in targets], spent)
    (seconds,) = alternate([step], rounds)
    part = statistics.median(a / b for a, b in zip(spent[1:], seconds))
    print(f"  {title}: {shown(spent[1:])} of {shown(seconds)}, {part:.1%}")


def step_of(model: DenseDetector, images: Tensor, targets: list[Targets], spent: list[float]) -> Step:
    """A step of PAA's recipe that adds the seconds of its assignment to `spent`."""
    assigner, optimiser = PAA(COST), sgd(model)
    criterion = Criterion(Focal(), IoULoss("giou"), PredictedIoU(), 1.0, 1.3, 0.5, box_weighting="quality")

    def step() -> None:
        predictions, anchors = model(images)
        start = now()
        assignment = assigner(anchors, targets, predictions.detach())
        spent.append(now() - start)
        losses = criterion(gather(anchors, targets, assignment, predictions))
        optimiser.zero_grad()
        sum(losses.values(), images.new_zeros(())).backward()
        optimiser.step()

    return step


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
