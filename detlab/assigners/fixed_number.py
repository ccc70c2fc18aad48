"""A fixed number of positives for every ground truth, the cheapest: a rival of PAA (its Table 1, "FNP")."""

from __future__ import annotations

import torch
from torch import Tensor

from detlab.assigners.candidates import AnchorCost, Candidates, cheapest_per_level, rank_within
from detlab.assigners.scored import ScoredAssigner


class FixedNumber(ScoredAssigner):
    """Positive are the `number` cheapest candidates of each ground truth (all, where it has fewer) among the `topk`
    cheapest of each level, as with PAA; the rest is background.

    The other arguments: see `ScoredAssigner`. Raises ValueError for number or topk < 1.
    """

    def __init__(
        self,
        cost: AnchorCost,
        number: int = 10,
        topk: int = 9,
        min_iou: float = 0.1,
        low_quality: bool = True,
        ignore_ioa: float = 0.5,
    ) -> None:
        super().__init__(cost, min_iou, low_quality, ignore_ioa)
        if number < 1 or topk < 1:
            raise ValueError(f"Expected number and topk of at least 1, got {number} and {topk}.")
        self.number = number
        self.topk = topk

    def choose(self, candidates: Candidates, objects: int, levels: int) -> Tensor:  # noqa: ARG002
        near = cheapest_per_level(candidates, self.topk, levels)
        cost = candidates.cost.masked_fill(~near, torch.inf)
        order = cost.argsort(stable=True)
        order = order[candidates.object[order].argsort(stable=True)]
        rank = torch.empty_like(order)
        rank[order] = rank_within(candidates.object[order])
        return (near & (rank < self.number)).long()
