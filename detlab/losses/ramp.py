"""Sums of the ramp H over pairs of scores, without the pairs.

H(x) is 0 below −δ, x / 2δ + ½ up to δ and 1 above (Chen et al. 2020, Eq. 9; Oksuz et al. 2020, Eq. A.45). Ranking
losses need Σ_j H(s_j − s_i) for each of P positives i over N negatives j, and the transpose of that sum. The
positives cut the axis of scores at the 2P points s_i ± δ; between two neighbours both sums are linear in s_j, so a
count and a sum of scores for each piece say everything. Time O((P + N) log P), memory O(P + N), float64.
"""

from __future__ import annotations

import torch
from torch import Tensor


class RampSums:
    """Both sums between `scores [P]` and `others [N]`, N ≫ P; float64 tensors of one device.

    One binary search per element of `others`; the order of neither matters.
    """

    def __init__(self, scores: Tensor, others: Tensor, delta: float) -> None:
        self.scores, self.others, self.delta = scores, others, delta
        edges = torch.cat([scores - delta, scores + delta])
        edges, self._order = edges.sort()
        self._piece = torch.bucketize(others, edges, out_int32=True)

    def of_others(self) -> Tensor:
        """Σ_j H(others_j − scores_i) for every i ``[P]``."""
        piece, size = self._piece, 2 * len(self.scores) + 1
        count = torch.bincount(piece, minlength=size).to(self.scores.dtype)
        total = self.scores.new_zeros(size).index_add_(0, piece, self.others)
        below = self.scores.new_empty(2, size - 1)  # number and sum of the others below each edge, in the edges' order
        below[0, self._order] = count.cumsum(0)[:-1]
        below[1, self._order] = total.cumsum(0)[:-1]
        (low, high), (low_sum, high_sum) = below.view(2, 2, -1)
        on_ramp = (high_sum - low_sum) - (self.scores - self.delta) * (high - low)
        return (len(self.others) - high + on_ramp / (2 * self.delta)).clamp(min=0)

    def onto_others(self, shares: Tensor) -> Tensor:
        """Σ_i shares_i · H(others_j − scores_i) for every j ``[N]``; `shares [P]` ≥ 0."""
        slope = shares / (2 * self.delta)
        offset = slope * (self.delta - self.scores)
        lines = torch.stack([torch.cat([slope, -slope]), torch.cat([offset, shares - offset])])
        lines = torch.nn.functional.pad(lines[:, self._order].cumsum(1), (1, 0))
        return torch.addcmul(lines[1][self._piece], lines[0][self._piece], self.others).clamp_(min=0)


def ramp_among(scores: Tensor, values: Tensor, delta: float, groups: Tensor | None = None) -> Tensor:
    """Σ_{k ≠ i} values_k · H(scores_k − scores_i) for every i ``[P]``, float64, O(P log P).

    groups: int64 ``[P]``, each of which is by itself; None: all together.
    """
    queries = scores
    if groups is not None and len(scores):  # set the groups so far apart that none reaches into another
        spread = scores.max() - scores.min() + 4 * delta
        queries = scores - scores.min() + groups * spread
    points, order = queries.sort()
    weights = values[order]
    sums = torch.stack([weights, weights * scores[order]]).cumsum(1)
    sums = torch.nn.functional.pad(sums, (1, 0))
    low, high = torch.searchsorted(points, torch.stack([queries - delta, queries + delta]))
    end: Tensor | int = len(points)
    if groups is not None and len(scores):
        end = torch.searchsorted(points, (groups + 1) * spread - 2 * delta)
    on_ramp = (sums[1, high] - sums[1, low]) - (scores - delta) * (sums[0, high] - sums[0, low])
    return sums[0, end] - sums[0, high] + on_ramp / (2 * delta) - values / 2  # H(0) = ½


def ramp_among_better(scores: Tensor, values: Tensor, qualities: Tensor, delta: float) -> Tensor:
    """Σ_k values_k · H(scores_k − scores_i) over the k with qualities_k > qualities_i, for every i ``[P]``.

    The qualities' ranks are compared bit by bit: of two that differ, the highest bit in which they do says which is
    the better, and all above it puts both into one group. O(P log² P).
    """
    _, rank = qualities.unique(return_inverse=True)
    result = torch.zeros_like(scores)
    for bit in range(int(rank.max()).bit_length() if len(rank) else 0):
        better = (rank >> bit) & 1
        result += (1 - better) * ramp_among(scores, values * better, delta, rank >> (bit + 1))
    return result
