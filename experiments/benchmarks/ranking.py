"""Ranking losses beside a loop over the positives, focal loss and one look at the tensor.

    python experiments/benchmarks/ranking.py [--threads 2] [--rounds 5] [--largest 5000000]

The loop is Algorithm A.1 of the aLRP paper (float32, negatives out of reach left out beforehand), value and gradient.
Logits are normal, those of the positives one and a half higher, so that most negatives are in reach of some
positive: the early hours of a training, where ranking losses are slowest. Seconds are medians of rounds that take
turns; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from detlab.losses.classification import focal_loss
from detlab.losses.ranking import alrp_loss, ap_loss, ndcg_loss, rank_sort_loss

SIZES = [(200, 20_000), (1_000, 100_000), (2_000, 500_000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--largest", type=int, default=5_000_000, help="negatives of the last size, with 2000 positives"
    )
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    print(f"aLRP, value and gradient, {args.threads} threads, {args.device}")
    for positives, negatives in SIZES:
        logits, targets, values = inputs(positives, negatives, args.device)
        fast = lambda: backward(lambda x: sum(alrp_loss(x, targets, values)), logits)  # noqa: B023, E731
        slow = lambda: loop(logits, targets, values)  # noqa: B023, E731
        difference = float((fast() - slow()).abs().max() / slow().abs().max())
        times = alternate([fast, slow], 3 if negatives >= 500_000 else args.rounds)
        print(
            f"  P {positives:>5,}  N {negatives:>9,}: {shown(times[0])}, loop {shown(times[1])}, "
            f"{ratio(times[1], times[0]):6.1f} times as fast, gradients within {difference:.0e}"
        )

    counts = (500_000, args.largest)
    print("Growth, 2,000 positives")
    of = {n: inputs(2_000, n, args.device) for n in counts}
    for name, loss in LOSSES.items():
        steps = [lambda n=n, f=loss: backward(lambda x: f(x, *of[n][1:]), of[n][0]) for n in counts]
        few, many = alternate(steps, args.rounds)
        print(
            f"  {name:<12} {shown(few)} at {counts[0]:,}, {shown(many)} at {counts[1]:,}: {ratio(many, few):.1f}-fold"
        )

    for n in counts:
        logits, targets, values = of[n]
        labels, weights = (targets.long() - 1)[None], torch.ones(1, 1, 1, device=args.device)
        steps = [
            lambda: backward(lambda x: sum(alrp_loss(x, targets, values)), logits),  # noqa: B023
            lambda: backward(lambda x: focal_loss(x[None, :, None], labels, weights), logits),  # noqa: B023
            lambda: logits.sum(),  # noqa: B023
        ]
        ranking, focal, reading = alternate(steps, args.rounds)
        print(
            f"Beside others at {n:,}: aLRP {shown(ranking)}, focal {shown(focal)} (aLRP {ratio(ranking, focal):.1f} "
            f"times as long), a sum of the logits {shown(reading)}"
        )


LOSSES: dict[str, Callable[..., Tensor]] = {
    "AP": lambda x, t, _: ap_loss(x, t),
    "aLRP": lambda x, t, v: sum(alrp_loss(x, t, v)),  # type: ignore[return-value]
    "NDCG": lambda x, t, _: ndcg_loss(x, t),
    "Rank & Sort": rank_sort_loss,
}


def inputs(positives: int, negatives: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(positives + negatives, generator=generator)
    targets = torch.zeros(positives + negatives, dtype=torch.int8)
    targets[torch.randperm(len(logits), generator=generator)[:positives]] = 1
    logits += 1.5 * targets
    return logits.to(device), targets.to(device), torch.rand(positives, generator=generator).to(device)


def backward(loss: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    return gradient


@torch.no_grad()
def loop(logits: Tensor, targets: Tensor, errors: Tensor, delta: float = 1.0) -> Tensor:
    """Gradient of the logits by a loop over the positives; P times O(P + N)."""
    gradient = torch.zeros_like(logits)
    positive = (targets == 1).nonzero()[:, 0]
    scores = logits[positive]
    negative = ((targets == 0) & (logits >= scores.min() - delta)).nonzero()[:, 0]
    others, onto = logits[negative], torch.zeros(len(negative), device=logits.device)
    for i, score in enumerate(scores):
        among = ((scores - score) / (2 * delta) + 0.5).clamp_(0, 1)
        among[i] = 0
        above = ((others - score) / (2 * delta) + 0.5).clamp_(0, 1)
        false_positives = above.sum()
        update = (false_positives + (among * errors).sum()) / (1 + among.sum() + false_positives)
        if false_positives >= 1e-5:
            gradient[positive[i]] = -update
            onto += above * (update / false_positives)
    gradient[negative] = onto
    return gradient / len(scores)


def alternate(steps: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each step in every round, the steps taking turns after one unmeasured round."""
    times: list[list[float]] = [[] for _ in steps]
    for index in range(rounds + 1):
        for step, seconds in zip(steps, times):
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if index:
                seconds.append(time.perf_counter() - start)
    return times


def shown(times: list[float]) -> str:
    seconds = statistics.median(times)
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b))


if __name__ == "__main__":
    main()
