"""Sums of the ramp H over pairs of scores, without the pairs.

H(x) is 0 below −δ, x / 2δ + ½ up to δ and 1 above (Chen et al. 2020, Eq. 9; Oksuz et al. 2020, Eq. A.45). Ranking
losses need Σ_j H(s_j − s_i) for each of P positives i over N negatives j, and the transpose of that sum. The
positives cut the axis of scores at the 2P points s_i ± δ; between two neighbours both sums are linear in s_j, so a
count and a sum of scores for each piece say everything. Time O((P + N) log P), memory O(P + N), float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

# Elements worked on together, in float64: on a CPU the temporaries of a chunk stay in the cache, and their memory is
# used again.
_CHUNK = {"cpu": 2**17}
_CHUNK_ELSEWHERE = 2**24


class RampSums:
    """Both sums between `scores [P]`, float64, and `others [N]` of any precision, N ≫ P, on one device.

    The order of neither matters.
    """

    def __init__(self, scores: Tensor, others: Tensor, delta: float) -> None:
        center = scores.mean() if len(scores) else scores.new_zeros(())  # small numbers make exact sums
        self._scores, self._center, self._others, self.delta = scores - center, center, others, delta
        edges, self._order = torch.cat([self._scores - delta, self._scores + delta]).sort()
        find, size = Pieces(edges), len(edges) + 1
        self._count, self._total = scores.new_zeros(size), scores.new_zeros(size)
        self._piece = torch.empty(len(others), dtype=torch.int32, device=others.device)
        for rows in self._chunks():
            numbers = others[rows].double() - center
            piece = self._piece[rows] = find(numbers)
            self._count += torch.bincount(piece, minlength=size)
            self._total.index_add_(0, piece, numbers)

    def _chunks(self) -> Iterator[slice]:
        step = _CHUNK.get(self._others.device.type, _CHUNK_ELSEWHERE)
        return (slice(start, start + step) for start in range(0, len(self._others), step))

    def of_others(self) -> Tensor:
        """Σ_j H(others_j − scores_i) for every i ``[P]``."""
        below = self._total.new_empty(2, len(self._order))  # the others below each edge, by its origin:
        below[0, self._order] = self._count.cumsum(0)[:-1]  # how many,
        below[1, self._order] = self._total.cumsum(0)[:-1]  # their sum
        (low, high), (low_sum, high_sum) = below.view(2, 2, -1)
        on_ramp = (high_sum - low_sum) - (self._scores - self.delta) * (high - low)
        return (len(self._others) - high + on_ramp / (2 * self.delta)).clamp(min=0)

    def onto_others(self, shares: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Σ_i shares_i · H(others_j − scores_i) for every j ``[N]``; `shares [P]` ≥ 0, float64."""
        slope = shares / (2 * self.delta)
        offset = slope * (self.delta - self._scores)
        lines = torch.stack([torch.cat([slope, -slope]), torch.cat([offset, shares - offset])])
        slopes, offsets = pad(lines[:, self._order].cumsum(1), (1, 0))
        result = torch.empty(len(self._others), dtype=dtype, device=shares.device)
        for rows in self._chunks():
            piece, numbers = self._piece[rows], self._others[rows].double() - self._center
            value = offsets.index_select(0, piece).addcmul_(slopes.index_select(0, piece), numbers)
            result[rows] = value.clamp_(min=0)
        return result

    def check(self) -> Tensor:
        """0, or not a number if any of the others is none or infinite."""
        return 0 * self._total.sum()


class Pieces:
    """How many of the sorted `edges [E]`, float64, are below a value: `torch.bucketize`, made fast on CPUs.

    A processor mispredicts about every other step of a binary search. So the axis is cut into many equal cells: in a
    cell without an edge the answer is the cell's, and only values in the other cells are searched for. Which cell a
    number falls into is computed in the same way for edges and values, so rounding cannot part them.
    """

    def __init__(self, edges: Tensor) -> None:
        self._edges = edges
        self._cells = 0 if edges.is_cuda or len(edges) < 2 else 2 ** (32 * len(edges)).bit_length()
        if self._cells:
            self._scale = self._cells / (edges[-1] - edges[0]).clamp(min=1e-300)
            held = torch.bincount(self._cell(edges), minlength=self._cells)
            self._below = held.cumsum(0).sub_(held).to(torch.int32)
            self._held = held > 0

    def __call__(self, values: Tensor) -> Tensor:
        """``[N]`` float64 → int32 ``[N]`` in 0..E; not a number: E."""
        if not self._cells:
            return torch.bucketize(values, self._edges, out_int32=True)
        cell = self._cell(values)
        result = self._below.index_select(0, cell)
        unsure = self._held.index_select(0, cell).nonzero()[:, 0]
        found = torch.bucketize(values.index_select(0, unsure), self._edges, out_int32=True)
        return result.index_copy_(0, unsure, found)

    def _cell(self, values: Tensor) -> Tensor:
        last = self._cells - 1
        cell = (values - self._edges[0]).mul_(self._scale).clamp_(0, last)
        return cell.nan_to_num_(last).to(torch.int32)


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
    sums = pad(sums, (1, 0))
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
