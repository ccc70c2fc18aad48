"""`detlab train`: train one detector, evaluate it, leave a run folder and its report."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

from detlab.config.launch import launch

log = logging.getLogger(__name__)


def train(cfg: Any) -> dict[str, Any]:
    """Run what `cfg` (conf/train.yaml composed) describes; returns the content of `metrics.json`.

    A finished run is skipped, an unfinished one goes on from `checkpoints/last.ckpt`, a run folder that holds
    another config, or that another process is training in, is refused. Raises UserError for bad configs before any
    data is read. What ends a run that had begun is kept in `failure.json`.

    Where torchrun or srun has started several processes, the first does all this, and the others end with it; else
    this one starts the others that `trainer.devices` asks for.

    Where `cfg.task` names another task than detection, that task does its own.
    """
    from detlab.config.init_from import refuse_no_start
    from detlab.config.instantiate import command_line, experiment_row
    from detlab.config.schema import validate
    from detlab.config.stages import with_teacher
    from detlab.engine.distributed.group import Group
    from detlab.engine.distributed.place import find_place
    from detlab.engine.run_folder import RunFolder, git_commit

    if cfg.get("task"):
        validate(cfg)
        refuse_no_start(cfg)
        return _task(cfg).train(cfg)
    if cfg.get("stage_one"):
        check(cfg, experiment_row())
        cfg = with_teacher(cfg, train)
    with Group(find_place()) as group:
        if not group.leads:
            group.follow(lambda word: _train_beside(word, group))
        validate(cfg)
        folder = RunFolder(cfg.run_dir)

        def record(error: Exception) -> None:
            if folder.claimed or (_in_sweep() and folder.state() == "new"):
                folder.record_failure(error, command=command_line(), commit=git_commit())

        group.on_stuck = record
        try:
            return _train(cfg, folder, group)
        except Exception as error:
            reason = group.reason(error)
            record(reason)
            if reason is error:
                raise
            raise reason from error
        finally:
            folder.release()


def follow() -> None:
    """What a process does that `train` started beside itself."""
    from detlab.engine.distributed.group import Group
    from detlab.engine.distributed.place import find_place

    with Group(find_place()) as group:
        group.follow(lambda word: _train_beside(word, group))


def _train_beside(word: dict[str, Any], group: Any) -> None:
    """Train with the config and from the checkpoint that the first process has decided on, and leave no trace."""
    from lightning import seed_everything
    from omegaconf import OmegaConf

    from detlab.config.init_from import begin
    from detlab.config.instantiate import build_datamodule, build_module
    from detlab.engine.run_folder import RunFolder

    cfg: Any = OmegaConf.create(word["config"])
    seed_everything(cfg.seed, verbose=False)
    data = build_datamodule(cfg)
    data.setup()
    module = build_module(cfg, data.classes, training=True)
    if not word["checkpoint"]:
        begin(cfg, module)
    module.pseudo_labels.prepare(data)
    module.pseudo_labels.initialize(module.detector)
    checkpoint = Path(word["checkpoint"]) if word["checkpoint"] else None
    trained = RunFolder(word["trained"]) if word["trained"] else None
    _fit(cfg, word["config"], module, data, RunFolder(cfg.run_dir), group, checkpoint, trained)


def check(cfg: Any, experiment: str | None = None) -> None:
    """Raise UserError for a config that cannot run, before any data is read."""
    from detlab.config.experiments import check_name
    from detlab.config.init_from import refuse_no_start
    from detlab.config.instantiate import rehearse
    from detlab.config.schema import validate
    from detlab.config.stages import check_data

    validate(cfg)
    check_data(cfg)
    refuse_no_start(cfg)
    check_name(experiment, cfg.name, overridden=any(word.lstrip("+").startswith("name=") for word in _overrides()))
    if cfg.get("task"):
        _task(cfg).rehearse(cfg)
    else:
        rehearse(cfg, launcher=_launcher() if _in_sweep() else None)


def _task(cfg: Any) -> Any:
    """What is to be trained where it is no detector: an object with `rehearse(cfg)` and `train(cfg)`."""
    from hydra.utils import instantiate

    from detlab.config.instantiate import as_user_error

    try:
        return instantiate(cfg.task, _convert_="all")
    except Exception as error:
        raise as_user_error(error, "task") from error


def _train(cfg: Any, folder: Any, group: Any) -> dict[str, Any]:
    from lightning import seed_everything
    from omegaconf import OmegaConf

    from detlab.config.init_from import begin, begins_with
    from detlab.config.instantiate import (
        build_datamodule,
        build_module,
        experiment_row,
        find_checkpoint,
        rehearse_trainer,
    )
    from detlab.config.reuse_weights import find_trained
    from detlab.engine.callbacks.checkpoints import load_checkpoint
    from detlab.engine.provenance import refuse_replaced, replaced

    check(cfg, experiment_row())
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    if folder.holds_finished(config) and not cfg.overwrite:
        log.info("%s is finished already (overwrite=true runs it again).", folder.path)
        metrics = folder.read_metrics()
        for name in replaced(metrics.get("learned_from", {}) | metrics.get("tested_with", {}), config):
            log.warning("%s holds another model than the one that %s was made with.", name, folder.path)
        return metrics
    trained = find_trained(config)
    group.start(rehearse_trainer(cfg).world_size, "from detlab.commands.train import follow; follow()")
    seed_everything(cfg.seed, verbose=False)
    data = build_datamodule(cfg)
    data.setup()
    resumed = folder.state() == "unfinished" and folder.last.exists() and not cfg.overwrite
    if resumed:
        trained = None  # what has begun by itself goes on by itself
    if cfg.backbone.get("weights") and (resumed or trained or begins_with(cfg)):
        cfg.backbone.weights = None  # the checkpoint has them all
    # Before the folder is claimed: weights or pictures that cannot be read should leave nothing behind.
    module = build_module(cfg, data.classes, training=True)
    if not (resumed or trained):
        begin(cfg, module)
    module.pseudo_labels.prepare(data)
    module.pseudo_labels.initialize(module.detector)
    if data.cache_images:
        data.read_pictures()
    state = folder.open(config, cfg.overwrite)
    _log_to_file(folder.path / "train.log")
    _say_what_was_skipped(data)
    for line in module.pseudo_labels.summary:
        log.info("%s", line)
    checkpoint = find_checkpoint(str(folder.path)) if state == "unfinished" and folder.last.exists() else None
    if checkpoint:
        refuse_replaced(load_checkpoint(checkpoint)["detlab"].get("learned_from", {}), config)
    if trained:
        log.info("%s has the weights that this run would train.", trained.path)
        checkpoint = trained.last
    group.tell(
        {
            "config": OmegaConf.to_container(cfg, resolve=True),
            "checkpoint": str(checkpoint) if checkpoint else None,
            "trained": str(trained.path) if trained else None,
        }
    )
    return _fit(cfg, config, module, data, folder, group, checkpoint, trained)


def _fit(
    cfg: Any, config: Any, module: Any, data: Any, folder: Any, group: Any, checkpoint: Path | None, trained: Any = None
) -> dict[str, Any]:
    """Train and evaluate, in every process of `group`; the first saves the results and returns them. trained: the
    folder of a run whose weights, in `checkpoint`, need only be evaluated."""
    from hydra.utils import instantiate

    from detlab.config.instantiate import command_line, experiment_row
    from detlab.engine.callbacks.checkpoints import RunInfo, checkpoint_callbacks, load_checkpoint
    from detlab.engine.callbacks.history import HistoryLogger
    from detlab.engine.callbacks.signals import Signals
    from detlab.engine.callbacks.speed import Speed
    from detlab.engine.logs import quiet
    from detlab.engine.outputs import save_results
    from detlab.engine.provenance import learned_from, tested_with
    from detlab.engine.run_folder import git_commit

    quiet()
    start = int(load_checkpoint(checkpoint)["global_step"]) if checkpoint else 0
    if checkpoint:
        log.info("Going on from %s at iteration %d.", checkpoint, start)
    data.start_batch = start * cfg.trainer.get("accumulate_grad_batches", 1)
    history = HistoryLogger(folder.history, resume_at=start if checkpoint else None)
    if trained:
        history.take_training(trained.history)
    tracker = instantiate(cfg.logger.tracker, _convert_="all") if cfg.logger.get("tracker") and group.leads else None
    schedule = instantiate(cfg.schedule, _convert_="all")
    speed = Speed()
    loggers = [history, *([tracker.logger(folder, config)] if tracker else [])]
    # As they are now, when they have just been read; later others may lie in their place.
    models = trained.read_metrics().get("learned_from", {}) if trained else learned_from(config)
    callbacks = [
        *instantiate(list(cfg.callbacks.values()), _convert_="all"),
        RunInfo(config, data.classes, models),
        speed,
        *([Signals()] if group.place.size > 1 else []),
        *checkpoint_callbacks(folder.checkpoints, cfg.save_every, schedule.val_every),
    ]
    trainer = _trainer(cfg, schedule, folder, loggers, callbacks, group)
    module.total_batch = cfg.loader.batch_size * trainer.world_size * trainer.accumulate_grad_batches
    parameters = sum(p.numel() for p in module.detector.parameters()) / 1e6
    log.info(
        "%s: %d training images, %d classes, %.1f M parameters, %d iterations of %d images on %s.",
        folder.path, len(data.train_index), data.num_classes, parameters, schedule.iterations, module.total_batch,
        _device_name(trainer),
    )  # fmt: skip
    group.join(trainer)
    begun, commit = time.monotonic(), git_commit()  # of the code that was imported, not of a later checkout
    try:
        try:
            trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
            history.save()
            if trained:
                trainer.validate(module, datamodule=data, verbose=False)
            trainer.test(module, datamodule=data, verbose=False)
            if trained:
                trainer.save_checkpoint(folder.last)
        except BaseException as error:
            # Lightning answers Ctrl-C and SIGTERM with SystemExit. What else follows upon a SIGTERM, which a scheduler
            # sends to every process of a job, is no failure of the run: loaders and services that ended first.
            asked = isinstance(error, SystemExit) and trainer.interrupted and error.code in (None, 1)
            if asked or trainer.received_sigterm:
                raise KeyboardInterrupt from None
            raise
        if not group.leads:
            return {}
        values = history.latest("val/") | history.latest("test/")
        result = {
            "name": cfg.name,
            "experiment": experiment_row(),
            "setting": cfg.setting,
            "seed": cfg.seed,
            "command": command_line(),
            "commit": commit,
            "device": _device_name(trainer),
            "minutes": round((time.monotonic() - begun + speed.seconds_before) / 60, 2),
            "images_per_second": round(speed.images_per_second, 1),
            "memory_gib": round(speed.memory_gib, 2),
            "parameters_million": round(parameters, 3),
            "iterations": schedule.iterations,
            "skipped_images": data.skipped_counts,
            **(
                {"trained_as": {"run": str(trained.path), "commit": trained.read_metrics()["commit"]}}
                if trained
                else {}
            ),
            **({"learned_from": models} if models else {}),
            **({"tested_with": others} if (others := tested_with(config)) else {}),
        }
        saved = save_results(folder, module, data, result, values, pictures=cfg.logger.pictures, tracker=tracker)
    finally:
        history.save()
        if tracker:
            tracker.finish()
    _report(cfg, folder, saved)
    return saved


def _trainer(cfg: Any, schedule: Any, folder: Any, loggers: list[Any], callbacks: list[Any], group: Any) -> Any:
    """The Lightning trainer of `cfg.trainer`, with length, validation and clipping as the schedule says."""
    from hydra.utils import instantiate

    from detlab.engine.callbacks.checkpoints import AtomicCheckpointIO
    from detlab.engine.distributed.place import Environment

    return instantiate(
        cfg.trainer,
        max_steps=schedule.iterations,
        max_epochs=-1,
        val_check_interval=schedule.val_every * cfg.trainer.get("accumulate_grad_batches", 1),
        check_val_every_n_epoch=None,
        gradient_clip_val=schedule.clip_norm,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=cfg.logger.every,
        default_root_dir=str(folder.path),
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), Environment(group.place)],
        _convert_="all",
    )


def _device_name(trainer: Any) -> str:
    import torch

    device, count = trainer.strategy.root_device, trainer.world_size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{count} × {name}" if count > 1 else name


def _report(cfg: Any, folder: Any, saved: dict[str, Any]) -> None:
    test = saved["test"]
    log.info(
        "Finished in %.1f min: test AP %.3f, AP50 %.3f, AP75 %.3f.",
        saved["minutes"], test["AP"], test["AP50"], test["AP75"],
    )  # fmt: skip
    if cfg.report:
        from detlab.commands.report import write_report

        log.info("Report: %s", write_report(folder.path))


def _say_what_was_skipped(data: Any) -> None:
    for split, counts in data.skipped_counts.items():
        if counts:
            log.warning("%s: left out %s (data.on_error).", split, ", ".join(f"{n} × {k}" for k, n in counts.items()))


def _log_to_file(path: Path) -> None:
    from detlab.engine.logs import log_to_file

    log_to_file(path)


def _launcher() -> str:
    """The class that starts the jobs of a sweep."""
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.get().launcher._target_


def _overrides() -> list[str]:
    """What was typed; in a process that a launcher started, `sys.argv` does not say."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else sys.argv[1:]


def _in_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _objective(cfg: Any) -> float:
    """What a sweeper that searches maximises: AP, or a classifier's accuracy, on the validation images."""
    val = train(cfg)["val"]
    return val["AP" if "AP" in val else "accuracy"] or 0.0


def main() -> None:
    launch("train", _objective, check)


if __name__ == "__main__":
    main()
