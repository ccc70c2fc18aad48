"""Score voting beside a loop over the boxes.

    python experiments/benchmarks/voting.py [--threads 1] [--rounds 9] [--device cpu]

The loop goes over classes and, within each, over the kept boxes, with the IoU of all pairs of a class computed at once:
what one writes without batching, not a loop over numbers. Boxes crowd around objects as those of a detector do; every
box votes on every kept one of its class that it overlaps. Times are medians of rounds that take turns, of the processor
where it works in one thread, so that what else the machine does matters less, else by the clock; a ratio is the median
of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from ranking import ratio, shown
from torch import Tensor
from torchvision.ops import box_iou

from detlab.postprocess import score_voting

# Kept boxes, candidates, classes: a thousand that all stay, a picture, eight pictures at once, and crowds of one class.
SIZES = [(1_000, 1_000, 80), (100, 5_000, 80), (800, 20_000, 640), (1_000, 1_000, 1), (100, 5_000, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 and args.device == "cpu" else time.perf_counter
    print(f"Score voting, {args.threads} threads, {args.device}")
    for kept, candidates, classes in SIZES:
        boxes, scores, labels = (t.to(args.device) for t in inputs(candidates, classes))
        given = boxes[:kept], labels[:kept], boxes, scores, labels
        difference = float((score_voting(*given) - loop(*given)).abs().max())
        fast, slow = alternate([lambda: score_voting(*given), lambda: loop(*given)], args.rounds, clock)  # noqa: B023
        print(
            f"  {kept:>5,} boxes, {candidates:>6,} candidates, {classes:>3} classes: {shown(fast)}, "
            f"loop {shown(slow)}, {ratio(slow, fast):5.1f} times as fast, within {difference:.0e} px"
        )


def alternate(
    steps: list[Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Seconds of each of two steps in every round, the steps taking turns after one unmeasured round."""
    times: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + 1):
        for step, seconds in zip(steps, times):
            start = clock()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if index:
                seconds.append(clock() - start)
    return times


def inputs(count: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """boxes ``[N, 4]``, scores and labels ``[N]`` in falling score, ten boxes an object of a picture of 800 px."""
    generator = torch.Generator().manual_seed(0)
    objects = count // 10
    corner = torch.rand(objects, 2, generator=generator) * 700
    size = 30 + torch.rand(objects, 2, generator=generator) * 70
    which = torch.randint(objects, (count,), generator=generator)
    boxes = torch.cat([corner, corner + size], 1)[which] + 3 * torch.randn(count, 4, generator=generator)
    return boxes, torch.rand(count, generator=generator).sort(descending=True).values, which % classes


def loop(
    boxes: Tensor,
    labels: Tensor,
    candidate_boxes: Tensor,
    candidate_scores: Tensor,
    candidate_labels: Tensor,
    sigma: float = 0.025,
    min_iou: float = 0.01,
) -> Tensor:
    """Eqs. 9-10 of Kim and Lee (2020), one kept box after the other."""
    voted = boxes.clone()
    for label in labels.unique():
        mine, theirs = (labels == label).nonzero()[:, 0], candidate_labels == label
        others, scores = candidate_boxes[theirs], candidate_scores[theirs]
        for row, iou in zip(mine, box_iou(boxes[mine], others)):
            near = iou > min_iou
            weights = torch.exp(-((1 - iou[near]) ** 2) / sigma) * scores[near]
            voted[row] = (weights[:, None] * others[near]).sum(0) / weights.sum()
    return voted


if __name__ == "__main__":
    main()
