"""`checkpoints/last.ckpt` to go on from and `checkpoints/best.ckpt` to use."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from detlab.data.files import write_atomic
from detlab.engine.aliases import modernize
from detlab.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints appear by write-then-rename and load with ``weights_only=True``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: ARG002
        return load_checkpoint(path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a detlab checkpoint on the CPU. Raises UserError for a missing, broken or foreign file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}: give a run folder or a .ckpt file made by detlab train.")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file that is not its own
        raise UserError(
            f"{path} is not a readable checkpoint ({_reason(error)}): give a .ckpt file made by detlab train."
        ) from None
    if not isinstance(loaded, dict) or "state_dict" not in loaded or "detlab" not in loaded:
        raise UserError(f"{path} is not a checkpoint of detlab: give a .ckpt file made by detlab train.")
    loaded["detlab"]["config"] = modernize(loaded["detlab"].get("config", {}))
    return loaded


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "no torch file, or one with other things in it than tensors and plain values"
    if isinstance(error, EOFError):
        return "the file is empty or cut short"
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0][:120]


class RunInfo(Callback):
    """Puts what a checkpoint needs to stand alone (config, classes) into it, as plain values, and which trained models
    its run learns from (`detlab.engine.provenance`)."""

    def __init__(self, config: dict[str, Any], classes: list[str], learned_from: dict[str, str] | None = None) -> None:
        self.info = {"config": config, "classes": classes, "learned_from": learned_from or {}}

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        checkpoint["detlab"] = self.info


def checkpoint_callbacks(folder: Path, save_every: int, val_every: int) -> list[Callback]:
    """`best.ckpt` by val/AP after each validation; `last.ckpt` each `save_every` iterations, after each validation
    (every `val_every` iterations) and at the end.

    No version counter: with one, a `last-v1.ckpt` would be written while resuming reads a stale `last.ckpt`.
    """
    best = ModelCheckpoint(folder, "best", monitor="val/AP", mode="max", enable_version_counter=False)
    return [best, LastCheckpoint(folder / "last.ckpt", save_every, val_every)]


class LastCheckpoint(Checkpoint):
    """The newest state. Where a validation follows an iteration, it is saved after that and not before: a run that
    goes on from it has the validation's values in its history and knows the best score."""

    def __init__(self, path: Path, save_every: int, val_every: int) -> None:
        self.path, self.save_every, self.val_every = path, save_every, val_every
        self._saved = -1

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:  # noqa: ARG002
        step = trainer.global_step
        if step >= trainer.max_steps:
            trainer.should_stop = True  # makes Lightning validate once more where val_every does not divide the length
        elif self.save_every and step % self.save_every == 0 and step % self.val_every and step != self._saved:
            self._save(trainer)

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:  # noqa: ARG002
        if self._saved == trainer.global_step:
            _save_history(trainer)  # now with the losses of the iteration that the checkpoint was saved after

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._save(trainer)

    def _save(self, trainer: Any) -> None:
        self._saved = trainer.global_step
        _save_history(trainer)
        trainer.save_checkpoint(self.path)


def _save_history(trainer: Any) -> None:
    """A run that goes on from a checkpoint after it was killed has its history up to there."""
    for logger in trainer.loggers:
        logger.save()
