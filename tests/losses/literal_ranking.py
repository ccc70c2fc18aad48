"""Ranking losses as their papers' equations stand: float64, a loop over the positives, every pair by itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Found(NamedTuple):
    """value (aLRP: classification part); gradient of the logits; primary: Σ_ij L_ij / Z over the negatives;
    localization and its gradient to the errors, of aLRP."""

    value: float
    gradient: Tensor
    primary: float = math.nan
    localization: float = math.nan
    errors_gradient: Tensor | None = None


def ramp(x: Tensor, delta: float) -> Tensor:
    """Eq. A.45."""
    return (x / (2 * delta) + 0.5).clamp(0, 1)


class Pairs:
    """H(x_ij) of every positive with every positive (but itself) and every negative."""

    def __init__(self, logits: Tensor, targets: Tensor, delta: float) -> None:
        self.shape = logits.shape
        flat, kind = logits.detach().double().flatten(), targets.flatten()
        self.positive, self.negative = (kind == 1).nonzero()[:, 0], (kind == 0).nonzero()[:, 0]
        self.scores, self.others = flat[self.positive], flat[self.negative]
        self.delta = delta
        self.gradient = torch.zeros_like(flat)

    def __iter__(self):
        for i in range(len(self.scores)):
            among = ramp(self.scores - self.scores[i], self.delta)
            among[i] = 0
            yield i, among, ramp(self.others - self.scores[i], self.delta)

    def update(self, i: int, by: float, share: Tensor) -> None:
        """Eq. 5 for one positive: Δx_ij = −by · p(j|i)."""
        self.gradient[self.positive[i]] -= by
        self.gradient[self.negative] += by * share


def literal_ap(logits: Tensor, targets: Tensor, delta: float = 1.0, interpolate: bool = True) -> Found:
    pairs = Pairs(logits, targets, delta)
    count = max(len(pairs.scores), 1)
    precisions = [float((1 + a.sum()) / (1 + a.sum() + n.sum())) for _, a, n in pairs]
    if interpolate:  # the best precision at or below one's own score
        precisions = [max(q for q, t in zip(precisions, pairs.scores) if t <= s) for s in pairs.scores]
    primary = 0.0
    for i, _, above in pairs:
        if above.sum() >= 1e-5:
            share = above / above.sum()
            pairs.update(i, (1 - precisions[i]) / count, share)
            primary += float(((1 - precisions[i]) * share).sum()) / count
    value = sum(1 - p for p in precisions) / count
    return Found(value, pairs.gradient.view(pairs.shape), primary)


def literal_alrp(logits: Tensor, targets: Tensor, errors: Tensor, delta: float = 1.0, wrong: bool = False) -> Found:
    pairs = Pairs(logits, targets, delta)
    errors = errors.double()
    count = max(len(pairs.scores), 1)
    order = sorted(range(len(pairs.scores)), key=lambda i: -float(pairs.scores[i]))
    classification = localization = primary = 0.0
    errors_gradient = torch.zeros_like(errors)
    for i, among, above in pairs:
        false_positives, rank = above.sum(), 1 + among.sum() + above.sum()
        classification += float(false_positives / rank) / count
        upto = order[: order.index(i) + 1]
        localization += float(errors[upto].sum() / rank) / count
        errors_gradient[upto] += 1 / rank / count
        error = (false_positives + errors[i] + (among * errors).sum()) / rank
        target = errors[i] / rank if not wrong else torch.zeros(())
        share = above / false_positives if false_positives >= 1e-5 else torch.zeros_like(above)
        primary += float((error * share).sum()) / count
        if false_positives >= 1e-5 or wrong:
            pairs.update(i, float(error - target) / count, share)
    return Found(classification, pairs.gradient.view(pairs.shape), primary, localization, errors_gradient)


def literal_ndcg(logits: Tensor, targets: Tensor, delta: float = 1.0, printed: bool = False) -> Found:
    pairs = Pairs(logits, targets, delta)
    count = len(pairs.scores)
    maximum = sum(math.log2(1 + i) if printed else 1 / math.log2(1 + i) for i in range(1, count + 1))
    value = primary = 0.0
    for i, among, above in pairs:
        gain = 1 / math.log2(2 + float(among.sum() + above.sum()))
        error, target = (maximum / count - gain) / maximum, (maximum / count - 1) / maximum
        value += error
        if above.sum() >= 1e-5:
            pairs.update(i, error - target, above / above.sum())
            primary += error
    return Found(value, pairs.gradient.view(pairs.shape), primary)


def literal_rank_sort(logits: Tensor, targets: Tensor, qualities: Tensor, delta: float = 0.5) -> Found:
    pairs = Pairs(logits, targets, delta)
    y = qualities.double()
    count = max(len(pairs.scores), 1)
    value = primary = 0.0
    for i, among, above in pairs:
        among = among.clone()
        among[i] = 1
        ranking = float(above.sum() / (among.sum() + above.sum()))
        current = (among * (1 - y)).sum() / among.sum()
        better = among * (y >= y[i])
        sorting = float(current - (better * (1 - y)).sum() / better.sum())
        value += (ranking + sorting) / count
        if above.sum() >= 1e-5:
            pairs.update(i, ranking / count, above / above.sum())
            primary += ranking / count
        worse = among * (y < y[i])
        if worse.sum() >= 1e-5:
            pairs.gradient[pairs.positive[i]] -= sorting / count
            pairs.gradient[pairs.positive] += sorting / count * worse / worse.sum()
            primary += sorting / count
    return Found(value, pairs.gradient.view(pairs.shape), primary)
