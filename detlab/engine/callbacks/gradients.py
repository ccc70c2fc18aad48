"""How hard the classification loss pulls at positives and at negatives (Oksuz et al. 2020, Fig. 4)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning import Callback
from torch import Tensor, nn

from detlab.errors import UserError
from detlab.losses.normalizer import reduce_mean
from detlab.structures import Matched


@dataclass
class RatioStatistics:
    """Sums over ratios above 0, of x = log10 ratio: their `count`, Σ|x|, Σx and Σx²."""

    count: int = 0
    absolute: float = 0.0
    plain: float = 0.0
    squared: float = 0.0

    def add(self, ratio: float) -> None:
        """Take note of a ratio; one that is no number above 0 is left out."""
        if math.isfinite(ratio) and ratio > 0:
            x = math.log10(ratio)
            self.count, self.absolute = self.count + 1, self.absolute + abs(x)
            self.plain, self.squared = self.plain + x, self.squared + x * x

    @property
    def imbalance(self) -> float:
        """Mean |x|; nan without any."""
        return self.absolute / self.count if self.count else math.nan

    @property
    def swing(self) -> float:
        """Standard deviation of x, of all and not of a sample; nan without any."""
        if not self.count:
            return math.nan
        return math.sqrt(max(self.squared / self.count - (self.plain / self.count) ** 2, 0.0))


class ClassificationGradients(Callback):
    """Logs Σ |∂L/∂logit| over positive and over negative (anchor, class) entries, and negatives / positives.

    Names: ``train/gradient_positives``, ``train/gradient_negatives``, ``train/gradient_ratio``. L is the whole loss;
    a mean over processes, which is the sum of one process with their batches together. A ratio without positives and
    sums that overflow are left out. The loss scale of mixed precision is divided out again; where gradients are
    accumulated, the first batch of an optimizer step speaks for it.

    Tested, the run says of all ratios above 0 that were logged: ``gradient_imbalance``, the mean |log10 ratio|, 0 where
    both always pull alike and 1 where one is ten times the other; and ``gradient_swing``, the standard deviation of
    log10 ratio. Both are part of a checkpoint.

    every: iterations between logged ones, None for those whose losses are logged, too (`logger.every`); in between
    nothing is computed. The criterion must be an `nn.Module` that is called with a `Matched`. Raises ValueError for
    an `every` below 1, and at the start UserError for another criterion.
    """

    requires = frozenset({"one_stage"})

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise ValueError(f"Expected every >= 1, got {every}.")
        self.every = every
        self._handle: Any = None
        self._sums: Tensor | None = None
        self._last = -1
        self._ratios = RatioStatistics()

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
        self._ratios.add(values["train/gradient_ratio"])
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for logger in trainer.loggers:
            logger.log_metrics(finite, step=self._last)

    def on_train_batch_end(self, *args: Any) -> None:  # noqa: ARG002
        self._forget()

    def on_exception(self, *args: Any) -> None:  # noqa: ARG002
        self._forget()

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        found = {"imbalance": self._ratios.imbalance, "swing": self._ratios.swing}
        if self._ratios.count:
            pl_module.log_dict({f"test/gradient_{name}": value for name, value in found.items()}, sync_dist=False)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self._ratios)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._ratios = RatioStatistics(**state_dict)

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
