"""One way to fit and evaluate a model in a run folder, whatever the model is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger

from detlab.data.checks.problems import Split
from detlab.engine.callbacks.checkpoints import AtomicCheckpointIO, load_checkpoint
from detlab.engine.callbacks.history import HistoryLogger
from detlab.engine.callbacks.speed import Speed
from detlab.engine.distributed.group import Group
from detlab.engine.distributed.place import Environment, Place
from detlab.engine.loggers import Tracker
from detlab.engine.logs import quiet
from detlab.engine.optim import Schedule
from detlab.engine.provenance import replaced
from detlab.engine.run_folder import Config, Metrics, RunFolder, git_commit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """What a run is called and which command makes it, as `metrics.json` keeps it."""

    name: str
    experiment: str | None
    setting: str
    seed: int
    command: str


@dataclass(frozen=True)
class Job:
    """What a training needs besides its model and data.

    Attributes:
        record: Name and command.
        folder: Where the results go.
        config: The resolved config, as plain values.
        schedule: Length, validation interval and clipping.
        make_trainer: `lightning.Trainer` with the options that the user chooses.
        log_every: Iterations between logged values.
        accumulate: Batches per optimizer step.
        callbacks: The user's.
        tracker: None: `metrics.csv` alone.
    """

    record: RunRecord
    folder: RunFolder
    config: Config
    schedule: Schedule
    make_trainer: Callable[..., Trainer]
    log_every: int
    accumulate: int = 1
    callbacks: Sequence[Callback] = ()
    tracker: Tracker | None = None


@dataclass(frozen=True)
class Start:
    """Where a training begins: `checkpoint` to resume from, None for a new one; `trained`: the run whose weights are in
    `checkpoint` and need only be evaluated."""

    checkpoint: Path | None = None
    trained: RunFolder | None = None

    @cached_property
    def iteration(self) -> int:
        """Optimizer steps that the checkpoint has behind it, which is read once."""
        return int(load_checkpoint(self.checkpoint)["global_step"]) if self.checkpoint else 0


@dataclass
class Fitted:
    """What `fit_and_evaluate` hands to the function that saves.

    Attributes:
        trainer: After the test.
        result: The first part of `metrics.json`: name, command, device, time.
        values: The last metrics by name (``val/AP``, ``test/AP``, …).
    """

    trainer: Trainer
    result: Metrics
    values: dict[str, float] = field(default_factory=dict)


def fit_and_evaluate(
    job: Job,
    module: LightningModule,
    data: LightningDataModule,
    save: Callable[[Fitted], Metrics],
    *,
    group: Group,
    start: Start | None = None,
    callbacks: Sequence[Callback] = (),
    on_trainer: Callable[[Trainer], None] = lambda _: None,
) -> Metrics:
    """Train and test in every process of `group`; the first saves and returns the results, the others return {}.

    Args:
        job: Folder, schedule, trainer and loggers.
        module: The model, with its training step.
        data: Its loaders.
        save: Writes the results and returns the content of `metrics.json`; loggers are still open.
        group: The processes of this training.
        start: Where it begins; None: at the beginning.
        callbacks: Those that this kind of model needs besides the user's.
        on_trainer: Called with the trainer before it fits.

    Raises:
        KeyboardInterrupt: The user or a scheduler ends the training.
    """
    quiet()
    start = start or Start()
    if start.checkpoint:
        log.info("Going on from %s at iteration %d.", start.checkpoint, start.iteration)
    history = HistoryLogger(job.folder.history, resume_at=start.iteration if start.checkpoint else None)
    if start.trained:
        history.take_training(start.trained.history)
    speed = Speed()
    loggers = [history, *([job.tracker.logger(job.folder, job.config)] if job.tracker else [])]
    trainer = build_trainer(job, loggers, [*job.callbacks, speed, *callbacks], group.place)
    on_trainer(trainer)
    group.join(trainer)
    begun, commit = time.monotonic(), git_commit()  # of the code that was imported, not of a later checkout
    try:
        _fit_and_test(trainer, module, data, history, start, job.folder.last)
        if not group.leads:
            return {}
        minutes = (time.monotonic() - begun + speed.seconds_before) / 60
        result = _result(job, trainer, speed, minutes, commit)
        return save(Fitted(trainer, result, history.latest("val/") | history.latest("test/")))
    finally:
        history.save()
        if job.tracker:
            job.tracker.finish()


def build_trainer(job: Job, loggers: Sequence[Logger], callbacks: Sequence[Callback], place: Place) -> Trainer:
    """The Lightning trainer of a job, with length, validation and clipping as the schedule says."""
    return job.make_trainer(
        max_steps=job.schedule.iterations,
        max_epochs=-1,
        val_check_interval=job.schedule.val_every * job.accumulate,
        check_val_every_n_epoch=None,
        gradient_clip_val=job.schedule.clip_norm,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        log_every_n_steps=job.log_every,
        default_root_dir=str(job.folder.path),
        logger=list(loggers),
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO(), Environment(place)],
    )


def _fit_and_test(
    trainer: Trainer,
    module: LightningModule,
    data: LightningDataModule,
    history: HistoryLogger,
    start: Start,
    last: Path,
) -> None:
    """Raises KeyboardInterrupt where the user or a scheduler ends it."""
    checkpoint = str(start.checkpoint) if start.checkpoint else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        history.save()
        if start.trained:
            trainer.validate(module, datamodule=data, verbose=False)
        trainer.test(module, datamodule=data, verbose=False)
        if start.trained:
            trainer.save_checkpoint(last)
    except BaseException as error:
        # Lightning answers Ctrl-C and SIGTERM with SystemExit. What else follows upon a SIGTERM, which a scheduler
        # sends to every process of a job, is no failure of the run: loaders and services that ended first.
        asked = isinstance(error, SystemExit) and trainer.interrupted and error.code in (None, 1)
        if asked or trainer.received_sigterm:
            raise KeyboardInterrupt from None
        raise


def _result(job: Job, trainer: Trainer, speed: Speed, minutes: float, commit: str) -> Metrics:
    return {
        **vars(job.record),
        "commit": commit,
        "device": device_name(trainer),
        "minutes": round(minutes, 2),
        "images_per_second": round(speed.images_per_second, 1),
        "memory_gib": round(speed.memory_gib, 2),
        "iterations": job.schedule.iterations,
    }


def parameters_million(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def device_name(trainer: Trainer) -> str:
    """What the trainer runs on, with the number of processes where there are several."""
    device, count = trainer.strategy.root_device, trainer.world_size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{count} × {name}" if count > 1 else name


def finished_metrics(folder: RunFolder, config: Config, overwrite: bool) -> Metrics | None:
    """The metrics of a finished run of this very config; None where it has to be trained."""
    if overwrite or not folder.holds_finished(config):
        return None
    log.info("%s is finished already (overwrite=true runs it again).", folder.path)
    metrics = folder.read_metrics()
    for name in replaced(metrics.get("learned_from", {}) | metrics.get("tested_with", {}), config):
        log.warning("%s holds another model than the one that %s was made with.", name, folder.path)
    return metrics


def log_skipped(skipped: Mapping[Split, Mapping[str, int]]) -> None:
    """Say what was left out of each split: split → kind of problem → count."""
    for split, counts in skipped.items():
        if counts:
            log.warning("%s: left out %s (data.on_error).", split, ", ".join(f"{n} × {k}" for k, n in counts.items()))


@contextmanager
def recorded(folder: RunFolder, group: Group, command: str, *, unclaimed: bool = False) -> Iterator[None]:
    """Keep in `failure.json` what ends a run that has begun, and let other processes have its folder afterwards.

    Args:
        folder: The run's.
        group: Its processes; the failure of another one is told in its place.
        command: The command line, for the record.
        unclaimed: Keep also what ends a run before it has begun, if its folder is new.
    """

    def record(error: Exception) -> None:
        if folder.claimed or (unclaimed and folder.state() == "new"):
            folder.record_failure(error, command=command, commit=git_commit())

    group.on_stuck = record
    try:
        yield
    except Exception as error:
        reason = group.reason(error)
        record(reason)
        if reason is error:
            raise
        raise reason from error
    finally:
        folder.release()
