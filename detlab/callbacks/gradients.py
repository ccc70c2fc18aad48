"""How hard the classification loss pulls at positives and at negatives (Oksuz et al. 2020, Fig. 4)."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning import Callback
from torch import Tensor, nn

from detlab.errors import UserError
from detlab.losses.normalizer import reduce_mean
from detlab.structures import Matched


class ClassificationGradients(Callback):
    """Logs Σ |∂L/∂logit| over positive and over negative (anchor, class) entries, and negatives / positives.

    Names: ``train/gradient_positives``, ``train/gradient_negatives``, ``train/gradient_ratio``. L is the whole loss;
    a mean over processes, which is the sum of one process with their batches together. A ratio without positives and
    sums that overflow are left out. The loss scale of mixed precision is divided out again; where gradients are
    accumulated, the first batch of an optimiser step speaks for it.

    every: iterations between logged ones, None for those whose losses are logged, too (`logger.every`); in between
    nothing is computed. The criterion must be an `nn.Module` that is called with a `Matched`. Raises ValueError for
    an `every` below 1, and at the start UserError for another criterion.
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise ValueError(f"Expected every >= 1, got {every}.")
        self.every = every
        self._handle: Any = None
        self._sums: Tensor | None = None
        self._last = -1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if not isinstance(pl_module.criterion, nn.Module):
            raise UserError(
                "callbacks=gradients watches losses that are a torch.nn.Module; loss._target_ builds "
                f"{type(pl_module.criterion).__name__}."
            )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:  # noqa: ARG002
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # of the losses' rows in the history
        if (step + 1) % (self.every or trainer.log_every_n_steps) or step == self._last:
            return
        self._last, self._sums = step, None
        self._handle = pl_module.criterion.register_forward_pre_hook(self._watch)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if self._sums is None:
            return
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = float(scaler.get_scale()) if scaler else 1.0
        sums = reduce_mean(self._sums) * (trainer.accumulate_grad_batches / scale)
        self._sums = None
        positives, negatives = sums.tolist()
        values = {
            "train/gradient_positives": positives,
            "train/gradient_negatives": negatives,
            "train/gradient_ratio": negatives / positives if positives > 0 else math.nan,
        }
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for logger in trainer.loggers:
            logger.log_metrics(finite, step=self._last)

    def on_train_batch_end(self, *args: Any) -> None:  # noqa: ARG002
        self._forget()

    def on_exception(self, *args: Any) -> None:  # noqa: ARG002
        self._forget()

    def _watch(self, criterion: nn.Module, arguments: tuple[Matched]) -> None:  # noqa: ARG002
        (matched,) = arguments
        self._forget()

        def look(gradient: Tensor) -> None:
            self._sums = torch.stack(gradient_sums(gradient, matched))

        if matched.logits.requires_grad:
            matched.logits.register_hook(look)

    def _forget(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def gradient_sums(gradient: Tensor, matched: Matched) -> tuple[Tensor, Tensor]:
    """Σ |gradient| over the positive and over all other entries of ``gradient [B, A, C]``, float32 scalars.

    Positive: the class of an anchor's ground truth or, with soft targets, every class with some probability.
    """
    everything = torch.linalg.vector_norm(gradient, 1, dtype=torch.float32)
    if matched.class_targets is not None:
        own = gradient[matched.class_targets > 0]
    else:
        anchors = matched.labels.flatten()[matched.positive]
        own = gradient.flatten(0, 1)[matched.positive, anchors]
    positives = torch.linalg.vector_norm(own, 1, dtype=torch.float32)
    return positives, (everything - positives).clamp(min=0)
