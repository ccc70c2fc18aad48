"""Spatial pyramid pooling (He et al. 2014, https://arxiv.org/abs/1406.4729): any map becomes a vector of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

Pooling = Literal["max", "average"]


class SpatialPyramidPooling(nn.Module):
    """``[N, C, h, w]`` → ``[N, C · Σ l²]``: for each level l, C values of each of l × l cells, level after level.

    A map smaller than a level's grid has cells that overlap. Raises ValueError for no levels or one below 1.
    """

    def __init__(self, levels: Sequence[int] = (1, 2, 4), pooling: Pooling = "max") -> None:
        super().__init__()
        if not levels or min(levels) < 1:
            raise ValueError(f"Expected levels of at least 1 cell a side, got {list(levels)}.")
        if pooling not in ("max", "average"):
            raise ValueError(f"Expected pooling max or average, got {pooling!r}.")
        self.levels, self.pooling = tuple(levels), pooling

    @property
    def cells(self) -> int:
        """Values per channel."""
        return sum(level**2 for level in self.levels)

    def forward(self, maps: Tensor) -> Tensor:
        pool = adaptive_max_pool2d if self.pooling == "max" else adaptive_avg_pool2d
        return torch.cat([pool(maps, level).flatten(1) for level in self.levels], 1)
