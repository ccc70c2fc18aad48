"""From a config to the objects it names; what train, eval and predict share."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from detlab.config.compatibility import validate_compatibility, validate_frozen_backbone, validate_precision
from detlab.data.cores import cores
from detlab.data.datamodule import DetectionDataModule, Source
from detlab.data.dataset import DetectionDataset, collate
from detlab.data.index import AnnotationIndex
from detlab.data.transforms import Pipeline
from detlab.data.workers import init_worker, worker_context
from detlab.engine.callbacks.checkpoints import load_checkpoint
from detlab.engine.distributed.place import Environment, find_place, refuse_misfits
from detlab.engine.logs import quiet
from detlab.engine.module import LitDetector
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.models.detectors.base import Detector
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.structures import Batch

_SET_BY_TRAINING = {
    "max_steps": "schedule.iterations",
    "max_epochs": "schedule.iterations",
    "val_check_interval": "schedule.val_every",
    "check_val_every_n_epoch": "schedule.val_every",
    "gradient_clip_val": "schedule.clip_norm",
    "log_every_n_steps": "logger.every",
    "default_root_dir": "run_dir",
    "logger": "the group logger",
    "callbacks": "the group callbacks",
}


def build_datamodule(cfg: DictConfig) -> DetectionDataModule:
    """The source, its transforms and its loaders; nothing is read yet."""
    source = build_source(cfg.data)
    resize = _instantiate(cfg, "resize")
    try:
        return instantiate(
            cfg.loader,
            source=source,
            train_transform=Pipeline(_instantiate(cfg, "augment"), resize),
            eval_transform=Pipeline([], resize),
            view_transform=Pipeline(_instantiate(cfg, "view"), resize) if cfg.get("view") else None,
            seed=cfg.get("seed", 0),
            _convert_="all",
        )
    except Exception as error:
        raise as_user_error(error, "loader") from error


def evaluation_loader(data: DetectionDataModule, index: AnnotationIndex) -> DataLoader[Batch]:
    """The pictures of any index in order, through the evaluation transform of `data`."""
    dataset = DetectionDataset(
        index, data.eval_transform, data.mean, data.std, on_error=data.source.on_error, evaluation=True
    )
    workers = 0 if len(index) <= 64 else min(cores(), 8)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # a DataLoader's type is its dataset's, not its batches'
        data.eval_batch_size,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=init_worker,
        multiprocessing_context=worker_context(workers),
    )


def build_source(data: DictConfig) -> Source:
    """The data source under `data`; its constructor's ValueError becomes a UserError naming the group."""
    return _instantiate({"data": data}, "data")


def _instantiate(cfg: Any, group: str) -> Any:
    try:
        return instantiate(cfg[group], _convert_="all")
    except Exception as error:
        raise as_user_error(error, group) from error


def build_detector(cfg: DictConfig, num_classes: int) -> Detector:
    try:
        return instantiate(cfg.detector, num_classes=num_classes, _convert_="all")
    except Exception as error:
        raise as_user_error(error, "detector") from error


def build_module(cfg: DictConfig, classes: list[str], *, training: bool, total_batch: int = 1) -> LitDetector:
    """The LightningModule of a config for these classes; without its schedule when it is not for training."""
    module = LitDetector(
        detector=build_detector(cfg, len(classes)),
        assigner=_instantiate(cfg, "assigner"),
        criterion=_instantiate(cfg, "loss"),
        postprocess=_instantiate(cfg, "postprocess"),
        classes=classes,
        schedule=_instantiate(cfg, "schedule") if training else None,
        total_batch=total_batch,
        testing=_instantiate(cfg, "testing") if cfg.get("testing") else None,
        pseudo_labels=_instantiate(cfg, "pseudo") if training and cfg.get("pseudo") else None,
    )
    if training and cfg.get("compile"):
        module.detector.compile()
    return module


def build_pseudo_labels(cfg: DictConfig) -> PseudoLabelCallback | None:
    """What a config does about missing labels, by itself; None: nothing."""
    return _instantiate(cfg, "pseudo") if cfg.get("pseudo") else None


def rehearse(cfg: DictConfig, launcher: str | None = None) -> None:
    """Build every part once, without memory and without data, so that a value out of range or a combination
    that cannot be shows itself before any data is read.

    launcher: the class that starts the jobs of a sweep; None for a run of its own."""
    offline = OmegaConf.merge(cfg, {"backbone": {"weights": None}}) if "weights" in cfg.backbone else cfg
    assert isinstance(offline, DictConfig)
    build_datamodule(cfg)
    chosen = [group for group in ("testing", "pseudo") if cfg.get(group)]
    validate_compatibility(cfg)
    for group in ("assigner", "loss", "postprocess", "schedule", *chosen):
        _instantiate(cfg, group)
    with torch.device("meta"):
        build_detector(offline, 1)
    validate_frozen_backbone(cfg)
    validate_precision(cfg)
    if "callbacks" in cfg:
        _instantiate(cfg, "callbacks")
    if "trainer" in cfg:
        trainer = rehearse_trainer(cfg)
        refuse_misfits(find_place(), trainer.num_devices, trainer.num_nodes, launcher)


def rehearse_trainer(cfg: DictConfig) -> Trainer:
    """The trainer of `cfg.trainer`, to be asked how many processes it wants. Raises UserError where it cannot be."""
    quiet()
    for key, instead in _SET_BY_TRAINING.items():
        if key in cfg.trainer:
            raise UserError(f"trainer.{key} is set by detlab itself; use {instead}.")
    try:
        trainer = instantiate(
            cfg.trainer,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            plugins=[Environment(find_place())],
        )
    except Exception as error:
        raise as_user_error(error, "trainer") from error
    strategy = trainer.strategy
    if not isinstance(strategy, SingleDeviceStrategy | DDPStrategy) or isinstance(
        strategy.launcher, _MultiProcessingLauncher
    ):
        raise UserError(
            f"trainer.strategy={cfg.trainer.get('strategy')}: detlab trains on one device or with "
            "DistributedDataParallel; take trainer=ddp with trainer.devices=."
        )
    return trainer


def pick_device(accelerator: str) -> torch.device:
    """The device that `accelerator` (auto, cpu, gpu, cuda or mps) names. Raises UserError where there is none."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if accelerator in ("auto", "cpu"):
        return torch.device("cpu")
    raise UserError(f"accelerator={accelerator}: this machine has no such device; take accelerator=cpu.")


def as_user_error(error: Exception, group: str) -> UserError:
    """The innermost ValueError behind a failed construction, named by config group; other errors pass."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, MisconfigurationException) or (
            isinstance(cause, ValueError | TypeError) and type(cause).__module__ == "builtins"
        ):
            if lacking := re.search(r"missing \d+ required .*?'(\w+)'", str(cause)):
                return UserError(f"{group}.{lacking[1]} has no value; give it on the command line.")
            text = str(cause).strip().rstrip(".").replace(". ", "; ").replace("\n", " ")
            return UserError(f"{group}: {text}.")
        cause = cause.__cause__ or cause.__context__
    raise error


def find_checkpoint(ckpt_path: str) -> Path:
    """A run folder's `last.ckpt`, or the file itself."""
    path = Path(ckpt_path)
    if path.is_dir():
        folder = RunFolder(path)
        if folder.last.is_file():
            return folder.last
        if folder.best.is_file():
            return folder.best
        raise UserError(f"{path} holds no checkpoints/last.ckpt: give a run folder or a .ckpt file of detlab train.")
    return path


def load_run(ckpt_path: str) -> tuple[DictConfig, list[str], dict[str, Any], Path]:
    """A checkpoint's config, classes and weights, and the folder of its run (else the file's own)."""
    path = find_checkpoint(ckpt_path)
    checkpoint = load_checkpoint(path)
    info = checkpoint["detlab"]
    home = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    config = OmegaConf.create(info["config"])
    assert isinstance(config, DictConfig)
    return config, list(info["classes"]), checkpoint["state_dict"], home


def load_weights(module: LitDetector, state: dict[str, Any], path: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError:
        raise UserError(
            f"{path} does not fit the detector of its config ({_misfit(module.state_dict(), state)}): "
            "it was made by another version of the code; train it again."
        ) from None


def _misfit(own: dict[str, Any], given: dict[str, Any]) -> str:
    for name, value in own.items():
        if name not in given:
            return f"it lacks {name}"
        if given[name].shape != value.shape:
            return f"{name} is {tuple(given[name].shape)}, not {tuple(value.shape)}"
    return f"there is no {next(iter(given.keys() - own.keys()))}"


def experiment_row() -> str | None:
    """The row of a table that Hydra was asked for, if any."""
    return HydraConfig.get().runtime.choices.get("experiment") if HydraConfig.initialized() else None


def typed() -> list[str]:
    """The settings that were typed, or those of this job of a sweep; none where Hydra did not start this process."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def command_line() -> str:
    """The command that makes this run, for the record: as typed, or, for a job of a sweep, of that job alone.

    In a sweep `sys.argv` speaks of all its jobs, and in a job on another node of the launcher.
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        hydra = HydraConfig.get()
        folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
        words = [*(word for folder in folders for word in ("--config-dir", folder)), *hydra.overrides.task]
        return " ".join([f"detlab {hydra.job.config_name}", *map(shlex.quote, words)])
    program = Path(sys.argv[0]).name
    if sys.argv[0].startswith("detlab "):
        return " ".join([sys.argv[0], *map(shlex.quote, sys.argv[1:])])
    if program.endswith(".py"):
        program = f"python -m detlab {program.removesuffix('.py')}"
    return " ".join([program, *map(shlex.quote, sys.argv[1:])])
