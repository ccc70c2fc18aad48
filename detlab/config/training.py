"""From the config of `detlab train` to a finished run: what is skipped, resumed, reused or trained."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from detlab.config.experiments import check_name
from detlab.config.init_from import initial_weights, load_initial_weights, validate_init_from
from detlab.config.instantiate import (
    as_user_error,
    build_datamodule,
    build_module,
    command_line,
    experiment_row,
    rehearse,
    rehearse_trainer,
    typed,
)
from detlab.config.plain import plain
from detlab.config.reuse_weights import find_reusable_run
from detlab.config.schema import validate
from detlab.config.stages import check_data, with_teacher
from detlab.data.datamodule import DetectionDataModule
from detlab.engine.callbacks.checkpoints import load_checkpoint
from detlab.engine.classifier_module import LitClassifier
from detlab.engine.classifier_task import ProxyTask
from detlab.engine.classifier_training import ignored_settings, train_classifier
from detlab.engine.detector_training import train_detector
from detlab.engine.distributed.group import Group
from detlab.engine.distributed.place import find_place
from detlab.engine.logs import log_to_file
from detlab.engine.module import LitDetector
from detlab.engine.optim import Schedule
from detlab.engine.provenance import refuse_replaced
from detlab.engine.run_folder import Config, Metrics, RunFolder
from detlab.engine.training import Job, RunRecord, Start, finished_metrics, log_skipped, recorded
from detlab.errors import UserError
from detlab.proxy_classifier.auxiliary import auxiliary

log = logging.getLogger(__name__)

FOLLOW = "from detlab.config.training import follow; follow()"

# The groups and keys of conf/train.yaml that a classifier's run depends on or needs; the detector's are left out.
CLASSIFIER_KEYS = (
    "name", "seed", "setting", "scale_name", "run_dir", "overwrite", "data", "loader", "resize", "trainer", "logger",
    "task",
)  # fmt: skip

Report = Callable[[Path], Path]


def train(cfg: DictConfig, report: Report | None = None) -> Metrics:
    """Run what `cfg` (conf/train.yaml composed) describes; returns the content of `metrics.json`.

    A finished run is skipped, an unfinished one resumes from `checkpoints/last.ckpt`, a run folder that holds another
    config, or that another process is training in, is refused. What ends a run that had begun is kept in
    `failure.json`. Where torchrun or srun has started several processes, the first does all this, and the others end
    with it; else this one starts the others that `trainer.devices` asks for.

    Args:
        cfg: With a `task`, that of a classifier; else a detector's.
        report: Writes the page of a detector's run folder where `cfg.report` is set.

    Raises:
        UserError: The config cannot run (before any data is read), or the data cannot be read.
    """
    if cfg.get("stage_one") and not cfg.get("task"):
        check(cfg, experiment_row())
        cfg = with_teacher(cfg, partial(train, report=report))
    with Group(find_place()) as group:
        if not group.leads:
            group.follow(partial(_train_beside, group=group))
        validate(cfg)
        folder = RunFolder(cfg.run_dir)
        with recorded(folder, group, command_line(), unclaimed=_in_sweep()):
            check(cfg, experiment_row())
            if cfg.get("task"):
                return _train_classifier(cfg, folder, group)
            metrics, trained = _train_detector(cfg, folder, group)
            if trained and cfg.report and report:
                log.info("Report: %s", report(folder.path))
            return metrics


def follow() -> None:
    """What a process does that `train` started beside itself."""
    with Group(find_place()) as group:
        group.follow(partial(_train_beside, group=group))


def check(cfg: DictConfig, experiment: str | None = None) -> None:
    """Raise UserError for a config that cannot run, before any data is read."""
    validate(cfg)
    check_data(cfg)
    validate_init_from(cfg)
    check_name(experiment, cfg.name, overridden=any(word.lstrip("+").startswith("name=") for word in _overrides()))
    if cfg.get("task"):
        _build_task(cfg)
        _check_classifier(cfg)
    else:
        rehearse(cfg, launcher=HydraConfig.get().launcher._target_ if _in_sweep() else None)


def _train_detector(cfg: DictConfig, folder: RunFolder, group: Group) -> tuple[Metrics, bool]:
    """The content of `metrics.json`, and whether it was made now."""
    config = plain(cfg)
    if (metrics := finished_metrics(folder, config, cfg.overwrite)) is not None:
        return metrics, False
    trained = find_reusable_run(config)
    group.start(rehearse_trainer(cfg).world_size, FOLLOW)
    resumed = folder.state() == "unfinished" and folder.last.exists() and not cfg.overwrite
    if resumed:
        trained = None  # what has begun by itself goes on by itself
    if cfg.backbone.get("weights") and (resumed or trained or initial_weights(cfg)):
        cfg.backbone.weights = None  # the checkpoint has them all
    # Before the folder is claimed: weights or images that cannot be read should leave nothing behind.
    module, data = _build_detector(cfg, fresh=not (resumed or trained))
    if data.cache_images:
        data.read_pictures()
    state = folder.open(config, cfg.overwrite)
    log_to_file(folder.path / "train.log")
    log_skipped(data.skipped_counts)
    for line in module.pseudo_labels.summary:
        log.info("%s", line)
    start = Start()
    if state == "unfinished" and folder.last.exists():
        start = Start(folder.last)
        refuse_replaced(load_checkpoint(folder.last)["detlab"].get("learned_from", {}), config)
    if trained:
        log.info("%s has the weights that this run would train.", trained.path)
        start = Start(trained.last, trained)
    group.tell(
        {
            "config": plain(cfg),
            "checkpoint": str(start.checkpoint) if start.checkpoint else None,
            "trained": str(trained.path) if trained else None,
        }
    )
    return _fit_detector(cfg, config, module, data, group, start), True


def _train_beside(word: Config, group: Group) -> None:
    """Train with the config and from the checkpoint that the first process has decided on, and leave no trace."""
    cfg = cast(DictConfig, OmegaConf.create(word["config"]))
    checkpoint = Path(word["checkpoint"]) if word["checkpoint"] else None
    trained = RunFolder(word["trained"]) if word["trained"] else None
    module, data = _build_detector(cfg, fresh=checkpoint is None)
    _fit_detector(cfg, word["config"], module, data, group, Start(checkpoint, trained))


def _build_detector(cfg: DictConfig, fresh: bool) -> tuple[LitDetector, DetectionDataModule]:
    """The module with what it needs to train, and its data, read. fresh: without a checkpoint to load later."""
    seed_everything(cfg.seed, verbose=False)
    data = build_datamodule(cfg)
    data.setup()
    module = build_module(cfg, data.classes, training=True)
    if fresh:
        load_initial_weights(cfg, module)
    module.pseudo_labels.prepare(data)
    module.pseudo_labels.initialize(module.detector)
    return module, data


def _fit_detector(
    cfg: DictConfig,
    config: Config,
    module: LitDetector,
    data: DetectionDataModule,
    group: Group,
    start: Start,
) -> Metrics:
    job = _job(cfg, config, instantiate(cfg.schedule, _convert_="all"), leads=group.leads)
    return train_detector(job, module, data, group, start, save_every=cfg.save_every, pictures=cfg.logger.pictures)


def _train_classifier(cfg: DictConfig, folder: RunFolder, group: Group) -> Metrics:
    """As `_train_detector`; an unfinished run begins anew."""
    config = {key: value for key, value in plain(cfg).items() if key in CLASSIFIER_KEYS}
    if (metrics := finished_metrics(folder, config, cfg.overwrite)) is not None:
        return metrics
    task = _build_task(cfg)
    for words in ignored_settings(typed(), task.schedule.iterations):
        log.warning("%s", words)
    seed_everything(cfg.seed, verbose=False)
    data = build_datamodule(cfg)
    data.source = auxiliary(data.source)
    data.setup()
    classifier, crops = task.build(data, cfg.seed)
    crops.read_images()
    folder.open(config, cfg.overwrite)
    log_to_file(folder.path / "train.log")
    log_skipped(data.skipped_counts)
    module = LitClassifier(classifier, task.schedule, task.patches, task.copies, task.flip, task.threshold, cfg.seed)
    return train_classifier(_job(cfg, config, task.schedule), module, crops, group)


def _check_classifier(cfg: DictConfig) -> None:
    build_datamodule(cfg)
    if rehearse_trainer(cfg).world_size > 1 or find_place().size > 1:
        raise UserError(
            "A proxy classifier trains on one device: add trainer.devices=1, and start it without torchrun or srun."
        )


def _build_task(cfg: DictConfig) -> ProxyTask:
    try:
        return instantiate(cfg.task, _convert_="all")
    except Exception as error:
        raise as_user_error(error, "task") from error


def _job(cfg: DictConfig, config: Config, schedule: Schedule, leads: bool = True) -> Job:
    """What a training of `cfg` needs besides model and data; the process that `leads` alone has the tracker."""
    return Job(
        RunRecord(cfg.name, experiment_row(), cfg.setting, cfg.seed, command_line()),
        RunFolder(cfg.run_dir),
        config,
        schedule,
        instantiate(cfg.trainer, _partial_=True, _convert_="all"),
        log_every=cfg.logger.every,
        accumulate=cfg.trainer.get("accumulate_grad_batches", 1),
        callbacks=() if cfg.get("task") else instantiate(list(cfg.callbacks.values()), _convert_="all"),
        tracker=instantiate(cfg.logger.tracker, _convert_="all") if cfg.logger.get("tracker") and leads else None,
    )


def _overrides() -> list[str]:
    """What was typed; in a process that a launcher started, `sys.argv` does not say."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else sys.argv[1:]


def _in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
