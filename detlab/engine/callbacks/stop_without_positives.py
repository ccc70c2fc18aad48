"""Ends a training in which no anchor is ever matched to an object: it cannot learn to find one."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback

from detlab.errors import UserError


class StopBarren(Callback):
    """Raises UserError once `patience` iterations in a row had objects but no positive anchor, in any process.

    Looks each `every` iterations, since on CUDA a look makes the host wait. An iteration is an
    optimiser step. Raises ValueError for either below 1.
    """

    def __init__(self, patience: int = 200, every: int = 50) -> None:
        if patience < 1 or every < 1:
            raise ValueError(f"Expected patience and every of at least 1, got {patience} and {every}.")
        self.patience, self.every = patience, every
        self._barren: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._barren = torch.zeros((), device=pl_module.device)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:  # noqa: ARG002
        counts = pl_module.counts
        if counts is None:
            return
        in_vain = (counts.objects > 0) & (counts.positives == 0)
        self._barren = torch.where(counts.positives > 0, 0.0, self._barren + in_vain)
        if trainer.global_step % self.every:
            return
        iterations = int(self._barren) // trainer.accumulate_grad_batches
        if iterations >= self.patience:
            raise UserError(
                f"Training failed: for {iterations} iterations in a row no anchor was positive, so nothing is "
                "learned of the objects: choose another assigner, or loosen its thresholds."
            )
