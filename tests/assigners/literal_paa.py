"""PAA one object at a time: scikit-learn's mixture, the four separations read off it, and Procedure 1 in loops.

Float64 throughout; overlaps of anchors and ground truths are exact fractions, as they decide ties.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from detlab.structures import BACKGROUND, IGNORED, Anchors, Predictions, Targets

SCHEMES = ("a", "b_between_peaks", "c", "d_rest_of_low")


class Literal(NamedTuple):
    """scikit-learn's mixture of n samples and what follows from it.

    parameters [3, 2]: weights, means, variances; log_likelihood [n]; low_share [n]: probability of the first
    component; verdicts: scheme → 1 positive, 0 negative, −1 ignored; margin: by how much the nearest of all decisions
    was taken, an amount of probability or of log-likelihood.
    """

    parameters: np.ndarray
    log_likelihood: np.ndarray
    low_share: np.ndarray
    verdicts: dict[str, list[int]]
    margin: float


def separated(samples: np.ndarray, max_iterations: int = 100) -> Literal:
    """Two samples or more."""
    mixture = GaussianMixture(
        2,
        weights_init=[0.5, 0.5],
        means_init=[[samples.min()], [samples.max()]],
        precisions_init=[[[1.0]], [[1.0]]],
        reg_covar=1e-6,
        tol=1e-3,
        max_iter=max_iterations,
        init_params="random",  # nothing is left for it to say
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(samples[:, None])
    likelihood, component = mixture.score_samples(samples[:, None]), mixture.predict(samples[:, None])
    low_share = mixture.predict_proba(samples[:, None])[:, 0]
    low, high = (set(np.flatnonzero(component == number).tolist()) for number in (0, 1))
    verdicts = {scheme: _verdict(samples.tolist(), likelihood.tolist(), low, high, scheme) for scheme in SCHEMES}
    doubts = np.abs(low_share - 0.5).min(), *(_lead(samples, likelihood, members) for members in (low, high))
    parameters = np.stack([mixture.weights_, mixture.means_[:, 0], mixture.covariances_[:, 0, 0]])
    return Literal(parameters, likelihood, low_share, verdicts, float(min(doubts)))


def _verdict(samples: list[float], likelihood: list[float], low: set[int], high: set[int], scheme: str) -> list[int]:
    if not low:
        return [1] * len(samples)
    low_peak, high_peak = _peak(samples, likelihood, low), _peak(samples, likelihood, high)
    result = []
    for i, sample in enumerate(samples):
        if sample <= low_peak:
            result.append(1)
        elif scheme == "a":
            result.append(1 if i in low else 0)
        elif scheme == "b_between_peaks":
            result.append(0 if high and sample >= high_peak else -1)
        elif scheme == "d_rest_of_low":
            result.append(-1 if i in low else 0)
        else:
            result.append(0)
    return result


def _peak(samples: list[float], likelihood: list[float], members: set[int]) -> float:
    """The most likely of the members, in order of rising loss the first."""
    best, peak = -math.inf, -math.inf
    for i in sorted(members, key=lambda i: samples[i]):
        if likelihood[i] > best:
            best, peak = likelihood[i], samples[i]
    return peak


def _lead(samples: np.ndarray, likelihood: np.ndarray, members: set[int]) -> float:
    """By how much a component's peak is more likely than its next member (of another loss)."""
    if not members:
        return math.inf
    best = max(members, key=lambda i: likelihood[i])
    others = [likelihood[best] - likelihood[i] for i in members if samples[i] != samples[best]]
    return min(others, default=math.inf)


# What becomes of an object's candidates: costs per level, each rising → 1, 0 or −1 for each, level after level.
Choice = Callable[[list[list[float]]], list[int]]


def paa(topk: int, scheme: str) -> Choice:
    """Procedure 1, lines 5–13."""

    def choose(levels: list[list[float]]) -> list[int]:
        near = [cost for level in levels for cost in level[:topk]]
        verdict = iter([1] * len(near) if len(near) < 2 else separated(np.array(near)).verdicts[scheme])
        return [next(verdict) if place < topk else 0 for level in levels for place in range(len(level))]

    return choose


def fixed_number(number: int) -> Choice:
    def choose(levels: list[list[float]]) -> list[int]:
        costs = [cost for level in levels for cost in level]
        dearest = sorted(costs)[:number][-1]
        return [int(cost <= dearest) for cost in costs]

    return choose


def score_range(threshold: float) -> Choice:
    return lambda levels: [int(math.exp(-cost) > threshold) for level in levels for cost in level]


def procedure(
    anchors: Anchors,
    targets: Targets,
    predictions: Predictions,
    choose: Choice,
    *,
    min_iou: str = "0.1",
    low_quality: bool = True,
    localization_weight: float = 1.0,
) -> list[int]:
    """One image (``predictions [A, …]``), scored by focal and GIoU loss → the object, −1 or −2 of each anchor."""
    rows, boxes = anchors.boxes.double().tolist(), targets.boxes.double().tolist()
    objects = [g for g in range(len(targets)) if not targets.ignore[g]]
    overlaps = [{g: iou(boxes[g], row) for g in objects} for row in rows]
    highest = {g: max(of[g] for of in overlaps) for g in objects}
    candidates: dict[int, list[int]] = {g: [] for g in objects}
    for a, of in enumerate(overlaps):
        best = max(of.values(), default=Fraction(-1))
        rescued = low_quality and any(of[g] == highest[g] > 0 for g in objects)
        if objects and (best >= Fraction(min_iou) or rescued):
            candidates[min(g for g in objects if of[g] == best)].append(a)

    result = [IGNORED if _crowded(row, boxes, targets) else BACKGROUND for row in rows]
    for g, mine in candidates.items():
        if not mine:
            continue
        looked_for = targets.annotated.tolist()
        cost = {
            a: focal(predictions.logits[a].double().tolist(), int(targets.labels[g]), looked_for)
            + localization_weight * giou_loss(predictions.boxes[a].double().tolist(), boxes[g])
            for a in mine
        }
        levels = [
            sorted((a for a in mine if anchors.level[a] == level), key=lambda a: (cost[a], a))
            for level in range(len(anchors.level_sizes))
        ]
        verdicts = choose([[cost[a] for a in level] for level in levels])
        for a, verdict in zip([a for level in levels for a in level], verdicts, strict=True):
            if verdict:
                result[a] = g if verdict > 0 else IGNORED
    return result


def _crowded(row: list[float], boxes: list[list[float]], targets: Targets) -> bool:
    crowds = [box for g, box in enumerate(boxes) if targets.ignore[g]]
    return any(2 * _intersection(box, row) >= _intersection(row, row) for box in crowds)


def _intersection(a: list[float], b: list[float]) -> Fraction:
    if min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1]):
        return Fraction(0)
    width = Fraction(min(a[2], b[2])) - Fraction(max(a[0], b[0]))
    return width * (Fraction(min(a[3], b[3])) - Fraction(max(a[1], b[1])))


def iou(a: list[float], b: list[float]) -> Fraction:
    both = _intersection(a, b)
    return both and both / (_intersection(a, a) + _intersection(b, b) - both)


def focal(logits: list[float], label: int, looked_for: list[bool], alpha: float = 0.25, gamma: float = 2.0) -> float:
    """Lin et al. 2017, Eq. 5, over the classes that somebody looked for and the object's own."""
    total = 0.0
    for number, logit in enumerate(logits):
        p = 1 / (1 + math.exp(-logit))
        if number == label:
            total -= alpha * (1 - p) ** gamma * math.log(p)
        elif looked_for[number]:
            total -= (1 - alpha) * p**gamma * math.log(1 - p)
    return total


def giou_loss(a: list[float], b: list[float]) -> float:
    """1 − GIoU (Rezatofighi et al. 2019, Algorithm 1)."""
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return 1 - both / union + (hull - union) / hull
