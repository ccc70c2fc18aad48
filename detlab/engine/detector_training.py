"""The training of a detector: its callbacks, its results, what it says."""

from __future__ import annotations

import logging
from functools import partial

from lightning import Callback, Trainer

from detlab.data.datamodule import DetectionDataModule
from detlab.engine.callbacks.checkpoints import RunInfo, checkpoint_callbacks
from detlab.engine.callbacks.signals import Signals
from detlab.engine.distributed.group import Group
from detlab.engine.module import LitDetector
from detlab.engine.outputs import save_results
from detlab.engine.provenance import learned_from, tested_with
from detlab.engine.run_folder import Metrics
from detlab.engine.training import Fitted, Job, Start, device_name, fit_and_evaluate, parameters_million

log = logging.getLogger(__name__)


def train_detector(
    job: Job,
    module: LitDetector,
    data: DetectionDataModule,
    group: Group,
    start: Start,
    *,
    save_every: int,
    pictures: int,
) -> Metrics:
    """Train and evaluate a detector in every process of `group`; the first saves the results and returns them.

    Args:
        job: Folder, schedule, trainer and loggers.
        module: The detector with its training step.
        data: Read already.
        group: The processes of this training.
        start: Where it begins.
        save_every: Iterations between saves of `last.ckpt`.
        pictures: Example images to save.
    """
    data.start_batch = start.iteration * job.accumulate
    # As they are now, when they have just been read; later others may lie in their place.
    models = start.trained.read_metrics().get("learned_from", {}) if start.trained else learned_from(job.config)
    callbacks: list[Callback] = [
        RunInfo(job.config, data.classes, models),
        *([Signals()] if group.place.size > 1 else []),
        *checkpoint_callbacks(job.folder.checkpoints, save_every, job.schedule.val_every),
    ]
    saved = fit_and_evaluate(
        job,
        module,
        data,
        partial(_save, job, module, data, start, models, pictures),
        group=group,
        start=start,
        callbacks=callbacks,
        on_trainer=partial(_describe, job, module, data),
    )
    if saved:
        test = saved["test"]
        log.info(
            "Finished in %.1f min: test AP %.3f, AP50 %.3f, AP75 %.3f.",
            saved["minutes"], test["AP"], test["AP50"], test["AP75"],
        )  # fmt: skip
    return saved


def _describe(job: Job, module: LitDetector, data: DetectionDataModule, trainer: Trainer) -> None:
    """Tell the module its batch over all processes, and the log what will be trained."""
    module.total_batch = data.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    log.info(
        "%s: %d training images, %d classes, %.1f M parameters, %d iterations of %d images on %s.",
        job.folder.path, len(data.train_index), data.num_classes, parameters_million(module.detector),
        job.schedule.iterations, module.total_batch, device_name(trainer),
    )  # fmt: skip


def _save(
    job: Job,
    module: LitDetector,
    data: DetectionDataModule,
    start: Start,
    models: dict[str, str],
    pictures: int,
    fitted: Fitted,
) -> Metrics:
    result = fitted.result | {
        "parameters_million": round(parameters_million(module.detector), 3),
        "skipped_images": data.skipped_counts,
    }
    if start.trained:
        result["trained_as"] = {"run": str(start.trained.path), "commit": start.trained.read_metrics()["commit"]}
    if models:
        result["learned_from"] = models
    if others := tested_with(job.config):
        result["tested_with"] = others
    return save_results(job.folder, module, data, result, fitted.values, pictures=pictures, tracker=job.tracker)
