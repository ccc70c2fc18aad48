"""How far training is: a bar with loss and time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger(__name__)


class TrainingProgress(Callback):
    """Progress over the iterations of the schedule.

    On a terminal: a bar with the loss, the last AP and the time left. Elsewhere: a line each `seconds`
    seconds. Both say each validation's AP.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        if seconds <= 0:
            raise ValueError(f"Expected seconds > 0, got {seconds}.")
        self.seconds = seconds
        self.bar: Progress | None = None
        self._loss = float("nan")
        self._ap = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._total = int(trainer.max_steps)
        self._begun, self._first, self._said = time.monotonic(), trainer.global_step, time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("[bold]train"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TextColumn("{task.fields[ap]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.bar.start()
            self.task = self.bar.add_task("train", total=self._total, completed=self._first, loss="…", ap="")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ARG002
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self._said < (0.5 if self.bar else self.seconds):
            return
        self._said = now
        self._loss = float(trainer.callback_metrics.get("train/loss", self._loss))  # of all processes
        step = trainer.global_step
        if self.bar:
            self.bar.update(self.task, completed=step, loss=f"{self._loss:.3f}", ap=self._ap)
            return
        rate = (step - self._first) / max(now - self._begun, 1e-9)
        left = (self._total - step) / max(rate, 1e-9)
        log.info("iteration %d/%d  loss %.3f  %.1f it/s  %s left", step, self._total, self._loss, rate, duration(left))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        if trainer.sanity_checking or not trainer.is_global_zero or "val/AP" not in trainer.callback_metrics:
            return
        ap, ap50 = (float(trainer.callback_metrics[f"val/{name}"]) for name in ("AP", "AP50"))
        self._ap = f"AP {ap:.3f}"
        if self.bar:
            self.bar.update(self.task, completed=trainer.global_step, ap=self._ap)
        else:
            log.info("iteration %d/%d  val AP %.3f  AP50 %.3f", trainer.global_step, trainer.max_steps, ap, ap50)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self._stop(trainer.global_step)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        self._stop(trainer.global_step)

    def _stop(self, step: int) -> None:
        if self.bar:
            self.bar.update(self.task, completed=step)
            self.bar.stop()
            self.bar = None


def duration(seconds: float) -> str:
    """3725 → ``1 h 02 min``, 125 → ``2 min 05 s``, 7 → ``7 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
