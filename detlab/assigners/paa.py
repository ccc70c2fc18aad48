"""Probabilistic anchor assignment (Kim and Lee 2020, https://arxiv.org/abs/2007.08103), Procedure 1."""

from __future__ import annotations

from torch import Tensor

from detlab.assigners.candidates import AnchorCost, Candidates, as_rows, cheapest_per_level
from detlab.assigners.mixture import Mixture, fit_two_gaussians
from detlab.assigners.scored import ScoredAssigner
from detlab.assigners.separation import Scheme, check_scheme, separate

__all__ = ["PAA", "Mixture", "fit_two_gaussians", "separate"]


class PAA(ScoredAssigner):
    """Of each ground truth's candidates the `topk` cheapest per level; two Gaussians fitted to their costs; positive is
    what `scheme` (see `separate`) says. Candidates beyond the `topk` are background.

    The rest of the arguments: see `ScoredAssigner`. Raises ValueError for topk < 1 or an unknown scheme.
    """

    def __init__(
        self,
        cost: AnchorCost,
        topk: int = 9,
        scheme: Scheme = "c",
        min_iou: float = 0.1,
        low_quality: bool = True,
        ignore_ioa: float = 0.5,
    ) -> None:
        super().__init__(cost, min_iou, low_quality, ignore_ioa)
        if topk < 1:
            raise ValueError(f"Expected topk of at least 1, got {topk}.")
        check_scheme(scheme)
        self.topk = topk
        self.scheme: Scheme = scheme

    def choose(self, candidates: Candidates, objects: int, level_sizes: tuple[int, ...]) -> Tensor:
        near = cheapest_per_level(candidates, self.topk, len(level_sizes))
        slots = max(1, sum(min(self.topk, size) for size in level_sizes))
        costs, mask, place = as_rows(candidates, near, objects, slots)
        verdict = separate(costs, mask, self.scheme).flatten()
        return verdict[place] * near
