"""Optimiser and learning rate, counted in iterations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn


class Schedule:
    """A training recipe: how long, how fast, how decayed.

    The learning rate is `lr` at a total batch of `base_batch` images and scales linearly with the total batch
    (Goyal et al. 2017). It rises linearly from `warmup_factor` times that value over `warmup` iterations and
    is then multiplied by `gamma` at each of `milestones` (iterations) for ``decay="multistep"``, or follows
    half a cosine down to `final_factor` for ``decay="cosine"``.

    Norm weights and biases are not decayed when ``decay_norm=False``. Validation runs every `val_every`
    iterations (0: only at the end). Raises ValueError for values out of range.
    """

    def __init__(
        self,
        iterations: int,
        lr: float,
        base_batch: int = 16,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        decay_norm: bool = True,
        warmup: int = 500,
        warmup_factor: float = 0.001,
        decay: Literal["multistep", "cosine"] = "multistep",
        milestones: Sequence[int] = (),
        gamma: float = 0.1,
        final_factor: float = 0.01,
        clip_norm: float | None = None,
        val_every: int = 0,
    ) -> None:
        _expect(iterations >= 1, "iterations >= 1", iterations)
        _expect(lr > 0, "lr > 0", lr)
        _expect(base_batch >= 1, "base_batch >= 1", base_batch)
        _expect(0 <= momentum < 1, "0 <= momentum < 1", momentum)
        _expect(weight_decay >= 0, "weight_decay >= 0", weight_decay)
        _expect(warmup >= 0, "warmup >= 0", warmup)
        _expect(0 < warmup_factor <= 1, "0 < warmup_factor <= 1", warmup_factor)
        _expect(0 < gamma <= 1, "0 < gamma <= 1", gamma)
        _expect(0 <= final_factor <= 1, "0 <= final_factor <= 1", final_factor)
        _expect(list(milestones) == sorted(milestones), "milestones in rising order", list(milestones))
        _expect(clip_norm is None or clip_norm > 0, "clip_norm > 0 or null", clip_norm)
        _expect(val_every >= 0, "val_every >= 0", val_every)
        self.iterations, self.lr, self.base_batch = iterations, lr, base_batch
        self.optimizer, self.momentum, self.weight_decay = optimizer, momentum, weight_decay
        self.decay_norm = decay_norm
        self.warmup, self.warmup_factor = warmup, warmup_factor
        self.decay, self.milestones, self.gamma = decay, tuple(milestones), gamma
        self.final_factor, self.clip_norm = final_factor, clip_norm
        self.val_every = min(val_every or iterations, iterations)

    def factor(self, iteration: int) -> float:
        """The learning rate at `iteration` (from 0) over the scaled base rate."""
        warm = 1.0
        if iteration < self.warmup:
            warm = self.warmup_factor + (1 - self.warmup_factor) * iteration / self.warmup
        if self.decay == "cosine":
            progress = min(max(iteration - self.warmup, 0) / max(self.iterations - self.warmup, 1), 1.0)
            return warm * (self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * progress)) / 2)
        return warm * self.gamma ** sum(iteration >= milestone for milestone in self.milestones)

    def build(self, module: nn.Module, total_batch: int) -> OptimizerLRScheduler:
        """Optimiser and per-iteration scheduler for the trainable parameters of `module`, as Lightning takes
        them. `total_batch`: images per optimiser step over all processes."""
        lr = self.lr * total_batch / self.base_batch
        groups = self._groups(module)
        if self.optimizer == "adamw":
            optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=lr)
        else:
            optimizer = torch.optim.SGD(groups, lr=lr, momentum=self.momentum)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _groups(self, module: nn.Module) -> list[dict[str, list[nn.Parameter] | float]]:
        trainable = [p for p in module.parameters() if p.requires_grad]
        if self.decay_norm:
            return [{"params": trainable, "weight_decay": self.weight_decay}]
        decayed, plain = _partition(trainable)
        return [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]


def _partition(parameters: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights of convolutions and linear maps, and the one-dimensional rest."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in parameters:
        (decayed if parameter.ndim > 1 else plain).append(parameter)
    return decayed, plain


def _expect(condition: bool, expected: str, got: object) -> None:
    if not condition:
        raise ValueError(f"Expected {expected}, got {got}.")
