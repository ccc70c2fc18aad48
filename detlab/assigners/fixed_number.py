"""A fixed number of positives for every ground truth, the cheapest: a rival of PAA (its Table 1, "FNP")."""

from __future__ import annotations

import torch
from torch import Tensor

from detlab.assigners.candidates import AnchorCost, Candidates, rank_within
from detlab.assigners.scored import ScoredAssigner


class FixedNumber(ScoredAssigner):
    """Positive are the `number` cheapest candidates of each ground truth, of all levels together (all of them, where
    it has fewer); the rest is background.

    The other arguments: see `ScoredAssigner`. Raises ValueError for number < 1.
    """

    def __init__(
        self,
        cost: AnchorCost,
        number: int = 10,
        min_iou: float = 0.1,
        low_quality: bool = True,
        ignore_ioa: float = 0.5,
    ) -> None:
        super().__init__(cost, min_iou, low_quality, ignore_ioa)
        if number < 1:
            raise ValueError(f"Expected number of at least 1, got {number}.")
        self.number = number

    def choose(self, candidates: Candidates, objects: int, level_sizes: tuple[int, ...]) -> Tensor:  # noqa: ARG002
        order = candidates.cost.argsort(stable=True)
        order = order[candidates.object[order].argsort(stable=True)]
        rank = torch.empty_like(order)
        rank[order] = rank_within(candidates.object[order])
        return (rank < self.number).long()
