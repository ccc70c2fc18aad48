"""Anchors above a fixed score are positive: a rival of PAA (its Table 1, "FSR")."""

from __future__ import annotations

from torch import Tensor

from detlab.assigners.candidates import AnchorCost, Candidates
from detlab.assigners.scored import ScoredAssigner


class ScoreRange(ScoredAssigner):
    """Positive is every candidate whose score exp(−cost) (Eq. 3) exceeds `threshold`; the rest is background.

    Nothing guarantees a ground truth, or a whole batch, a positive anchor: training may never begin to learn.
    The other arguments: see `ScoredAssigner`. Raises ValueError for a threshold outside [0, 1).
    """

    def __init__(
        self,
        cost: AnchorCost,
        threshold: float = 0.1,
        min_iou: float = 0.1,
        low_quality: bool = True,
        ignore_ioa: float = 0.5,
    ) -> None:
        super().__init__(cost, min_iou, low_quality, ignore_ioa)
        if not 0 <= threshold < 1:
            raise ValueError(f"Expected a threshold in [0, 1), got {threshold}.")
        self.threshold = threshold

    def choose(self, candidates: Candidates, objects: int, level_sizes: tuple[int, ...]) -> Tensor:  # noqa: ARG002
        return ((-candidates.cost).exp() > self.threshold).long()
