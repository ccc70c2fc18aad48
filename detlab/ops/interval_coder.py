"""Where a box's sides are, told as one of K intervals and the rest within it (Li et al. 2021, section 2.2)."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class IntervalTargets(NamedTuple):
    """Of each of the four sides (x1, y1, x2, y2): interval int64 ``[..., 4]``, the one that holds it or, of one
    beyond its segment, the nearest; offset float ``[..., 4]`` from that interval's centre, in intervals; inside bool
    ``[..., 4]``: not beyond."""

    interval: Tensor
    offset: Tensor
    inside: Tensor


class IntervalCoder:
    """Boxes as four classifications and four offsets, each side of a region by itself.

    A side's segment is perpendicular to it and centred on it, and reaches `reach` times the region's width (of x1 and
    x2) or height (y1, y2) to either side of it; it is split evenly into `intervals`. Regions of less than a pixel count
    as of one. Network outputs are ``[..., 8 · K]``, read as ``[..., 4, 2, K]``: of each side K scores, then an offset
    for each interval, in intervals from its centre.

    probability: of an interval, from its score alone ("sigmoid") or among all of its side ("softmax").

    The paper leaves the length of the segment open; see experiments/certainty for `reach`.
    Raises ValueError for fewer than two intervals, a reach of 0 or less, or another probability.
    """

    def __init__(
        self, intervals: int = 30, reach: float = 0.5, probability: Literal["sigmoid", "softmax"] = "sigmoid"
    ) -> None:
        if intervals < 2 or not reach > 0:
            raise ValueError(f"Expected at least 2 intervals and a reach above 0, got {intervals} and {reach}.")
        if probability not in ("sigmoid", "softmax"):
            raise ValueError(f"Expected probability sigmoid or softmax, got {probability!r}.")
        self.intervals, self.reach, self.probability = intervals, reach, probability

    @property
    def values(self) -> int:
        """Outputs of a network for each region."""
        return 8 * self.intervals

    def encode(self, boxes: Tensor, regions: Tensor) -> IntervalTargets:
        """``boxes [..., 4]`` as seen from ``regions [..., 4]``, both xyxy pixels."""
        place = ((boxes - regions) / self._half(regions) + 1) * (self.intervals / 2)  # in intervals from the start
        index = place.floor().clamp(0, self.intervals - 1)
        inside = (place >= 0) & (place <= self.intervals)
        return IntervalTargets(index.long(), place - index - 0.5, inside)

    def decode(self, outputs: Tensor, regions: Tensor) -> Tensor:
        """Outputs ``[..., 8 · K]`` of ``regions [..., 4]`` → boxes ``[..., 4]`` xyxy pixels, float32 or
        as wide as the regions: of each side the most probable interval. A box whose sides have crossed has no area."""
        scores, offsets = self.split(outputs)
        index = scores.argmax(-1)
        regions = regions.to(torch.promote_types(regions.dtype, torch.float32))
        offset = offsets.gather(-1, index[..., None])[..., 0].to(regions)
        place = (index + 0.5 + offset) * (2 / self.intervals) - 1  # in halves of the segment from the side
        sides = regions + place * self._half(regions)
        return torch.cat([sides[..., :2], torch.maximum(sides[..., 2:], sides[..., :2])], -1)

    def quality(self, outputs: Tensor) -> Tensor:
        """v of Eq. 4, the mean over sides of the highest probability: float32 ``[...]`` in [0, 1]. (The equation has
        the scores themselves, which are not bounded.)"""
        scores = self.split(outputs)[0].float()
        probability = scores.sigmoid() if self.probability == "sigmoid" else scores.softmax(-1)
        return probability.amax(-1).mean(-1)

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and offsets, ``[..., 4, K]`` each."""
        both = outputs.unflatten(-1, (4, 2, self.intervals))
        return both[..., 0, :], both[..., 1, :]

    @torch.no_grad()
    def initialise(self, bias: Tensor) -> None:
        """Set the biases ``[n · 8 · K]`` of the layer that makes the outputs of n regions: each interval as probable as
        one of K is, and no offset."""
        bias.zero_()
        if self.probability == "sigmoid":
            bias.view(-1, 4, 2, self.intervals)[:, :, 0] = -math.log(self.intervals - 1)

    def _half(self, regions: Tensor) -> Tensor:
        """Of each side how far its segment reaches: ``[..., 4]`` pixels."""
        size = (regions[..., 2:] - regions[..., :2]).clamp(min=1.0)
        return self.reach * torch.cat([size, size], -1)
