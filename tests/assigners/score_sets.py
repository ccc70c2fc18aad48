"""Random sets of scores with scikit-learn's word on each, made once for all tests of a process."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.assigners.literal_paa import Literal, separated

COUNTS = {
    "two heaps": 400,
    "one heap": 300,
    "uniform": 150,
    "outliers": 150,
    "few values": 100,
    "nearly identical": 100,
    "identical": 50,
    "identical but for rounding": 4,
}


class ScoreSets(NamedTuple):
    """N sets of 2 to 60 samples, in rows with gaps anywhere: values, mask ``[N, 60]``; kind and literal of each."""

    values: Tensor
    mask: Tensor
    kind: list[str]
    literal: list[Literal]


@cache
def score_sets() -> ScoreSets:
    rng = np.random.default_rng(0)
    kinds = [kind for kind, count in COUNTS.items() for _ in range(count)]
    values, mask = torch.full((len(kinds), 60), 7.0, dtype=torch.float64), torch.zeros(len(kinds), 60, dtype=torch.bool)
    literal = []
    for number, kind in enumerate(kinds):
        samples = draw(kind, int(rng.integers(2, 61)), rng)
        places = torch.from_numpy(np.sort(rng.choice(60, len(samples), replace=False)))
        values[number, places] = torch.from_numpy(samples)
        mask[number, places] = True
        literal.append(separated(samples))
    return ScoreSets(values, mask, kinds, literal)


def draw(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` ≥ 2 samples in random order."""
    if kind == "two heaps":
        low = int(rng.integers(1, count))
        near = rng.normal(rng.uniform(0.2, 1), rng.uniform(0.01, 0.3), low)
        return rng.permutation(np.r_[near, rng.normal(rng.uniform(1, 3), rng.uniform(0.05, 0.5), count - low)])
    if kind == "one heap":
        return rng.normal(1, rng.uniform(0.001, 1), count)
    if kind == "uniform":
        return rng.uniform(0, rng.uniform(0.1, 5), count)
    if kind == "outliers":
        samples = rng.normal(1, 0.1, count)
        samples[: rng.integers(1, 3)] += rng.choice([-1, 1]) * rng.uniform(1, 50, ())
        return rng.permutation(samples)
    if kind == "few values":
        return rng.choice(rng.uniform(0, 3, 3), count)
    spread = {"identical": 0.0, "identical but for rounding": 1e-10}.get(kind, 10.0 ** rng.uniform(-6, -2))
    return rng.uniform(0.1, 5) + spread * rng.normal(size=count)
