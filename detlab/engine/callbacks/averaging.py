"""Exponential moving average of the weights, used at validation and kept at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """EMA whose decay warms up: min(`decay`, (1 + n) / (`warmup` + n)) after n updates, so that short
    schedules are not held back by the random start. Lightning's WeightAveraging does the swapping; buffers
    (norm statistics) are copied, not averaged."""

    def __init__(self, decay: float = 0.999, warmup: int = 10) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"Expected 0 < decay < 1, got {decay}.")
        if warmup < 1:
            raise ValueError(f"Expected warmup >= 1, got {warmup}.")

        @torch.no_grad()
        def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
            step = int(count)
            rate = min(decay, (1 + step) / (warmup + step))
            torch._foreach_lerp_(list(averaged), list(current), 1 - rate)

        super().__init__(use_buffers=False, multi_avg_fn=average)
