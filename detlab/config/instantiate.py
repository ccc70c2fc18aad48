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
from hydra.utils import get_object, instantiate
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from detlab.data.cores import cores
from detlab.data.datamodule import DetectionDataModule, Source
from detlab.data.dataset import DetectionDataset, collate
from detlab.data.index import AnnotationIndex
from detlab.data.transforms import Pipeline
from detlab.data.workers import init_worker, worker_context
from detlab.engine.callbacks.assignments import Assignments
from detlab.engine.callbacks.checkpoints import load_checkpoint
from detlab.engine.callbacks.gradients import ClassificationGradients
from detlab.engine.distributed.place import Environment, find_place, refuse_misfits
from detlab.engine.logs import quiet
from detlab.engine.module import LitDetector
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.losses.alrp import ALRPCriterion
from detlab.losses.interval import IntervalLoss
from detlab.losses.rank_sort import RankSortCriterion
from detlab.losses.ranking_classification import RankingClassification
from detlab.losses.two_stage import TwoStageCriterion
from detlab.losses.yolo import YOLOCriterion
from detlab.models.detectors.base import Detector
from detlab.models.detectors.faster_rcnn import FasterRCNN
from detlab.models.detectors.yolo import YOLODetector
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.proxy import ProxyPseudoLabels
from detlab.pseudo_labels.soft_sampling import SoftSampling
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
    refuse_half_intervals(cfg)
    for group in ("assigner", "loss", "postprocess", "schedule", *chosen):
        _instantiate(cfg, group)
    with torch.device("meta"):
        build_detector(offline, 1)
    refuse_combinations(cfg)
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


def refuse_combinations(cfg: DictConfig) -> None:
    """Raise UserError for parts that do not fit each other."""
    refuse_half_a_yolo(cfg)
    refuse_half_a_faster_rcnn(cfg)
    refuse_soft_weights_of_ranks(cfg)
    quality = cfg.detector.head.get("quality", "none")
    if (cfg.loss.get("quality") is None) != (quality == "none"):
        mend = (
            "add detector.head.quality=iou or =centerness, whichever the loss predicts"
            if quality == "none"
            else "add detector.head.quality=none, or take a loss with a quality part, such as loss=paa"
        )
        raise UserError(
            f"detector.head.quality={quality} and loss.quality={'set' if cfg.loss.get('quality') else 'null'} do not "
            f"fit: {mend}."
        )
    if cfg.backbone.get("frozen_stages") and cfg.backbone.get("weights") is None and not cfg.get("start_from"):
        raise UserError(
            f"backbone.weights=null with backbone.frozen_stages={cfg.backbone.frozen_stages} would keep random weights "
            "frozen: add backbone.frozen_stages=0 backbone.norm=bn to train from random weights."
        )
    precision = str(cfg.trainer.get("precision", "32-true")) if "trainer" in cfg else "32-true"
    if precision.endswith("-true") and not precision.startswith(("32", "64")):
        raise UserError(
            f"trainer.precision={precision} would cast ground-truth coordinates to 16 bits; "
            f"take {precision.replace('-true', '-mixed')}."
        )


def refuse_half_a_yolo(cfg: DictConfig) -> None:
    """Raise UserError for a YOLO with another detector's loss, the other way round, or other scores than its loss's."""
    has_objectness, wants_objectness = _is_a(cfg.detector, YOLODetector), _is_a(cfg.loss, YOLOCriterion)
    if has_objectness and not wants_objectness:
        raise UserError(
            f"{_name(cfg.loss)} has nothing to train the objectness of {_name(cfg.detector)} with: take loss=yolo, or "
            "another detector, such as detector=retinanet."
        )
    if wants_objectness and not has_objectness:
        raise UserError(
            f"{_name(cfg.loss)} trains an objectness that {_name(cfg.detector)} does not have: take method=yolo, or "
            "another loss, such as loss=focal_l1."
        )
    trained, scored = cfg.loss.get("classes"), cfg.postprocess.get("classes", "softmax")
    if wants_objectness and trained != scored:
        raise UserError(
            f"loss.classes={trained} with scores from {scored}: add "
            f"{'' if 'classes' in cfg.postprocess else '+'}postprocess.classes={trained}."
        )


def refuse_half_intervals(cfg: DictConfig) -> None:
    """Raise UserError for localisation by intervals in a detector of the other kind, or with a loss of offsets."""
    two = _is_a(cfg.detector, FasterRCNN)
    if not two and cfg.detector.head.get("intervals"):
        raise UserError(
            f"localization=intervals is for the second stage of a Faster R-CNN, and {_name(cfg.detector)} has one "
            "stage: take localization=dense_intervals, or method=faster_rcnn."
        )
    if two and cfg.detector.get("intervals"):
        raise UserError(
            f"localization=dense_intervals is for detectors of one stage, and {_name(cfg.detector)} has two: take "
            "localization=intervals."
        )
    of_boxes = cfg.loss.get("localization")
    if cfg.detector.get("intervals") and not (of_boxes and _is_a(of_boxes, IntervalLoss)):
        raise UserError(
            f"localization=dense_intervals with {_name(of_boxes or cfg.loss)}, a loss of offsets: take "
            "loss=focal_intervals, or leave localization out."
        )


def refuse_half_a_faster_rcnn(cfg: DictConfig) -> None:
    """Raise UserError for a Faster R-CNN with a dense detector's loss or the other way round, and for what one cannot
    do: treatments and callbacks that go by anchors."""
    has_stages, wants_stages = _is_a(cfg.detector, FasterRCNN), _is_a(cfg.loss, TwoStageCriterion)
    if has_stages and not wants_stages:
        raise UserError(
            f"{_name(cfg.loss)} trains one stage and {_name(cfg.detector)} has two: take loss=faster_rcnn, or another "
            "detector, such as detector=retinanet."
        )
    if wants_stages and not has_stages:
        raise UserError(
            f"{_name(cfg.loss)} trains two stages and {_name(cfg.detector)} has one: take method=faster_rcnn, or "
            "another loss, such as loss=focal_l1."
        )
    if not has_stages:
        return
    if cfg.postprocess.get("classes", "softmax") != "softmax":
        raise UserError(
            f"postprocess.classes={cfg.postprocess.classes}, but {_name(cfg.detector)} is trained with a softmax: take "
            "postprocess=nms."
        )
    treatment = cfg.get("pseudo")
    if treatment and _is_a(treatment, SoftSampling):
        raise UserError(
            f"pseudo=ignore weights the anchors of one stage and {_name(cfg.detector)} has two: take another "
            "treatment, such as pseudo=mask, or another detector, such as method=retinanet."
        )
    if treatment and _is_a(treatment, ProxyPseudoLabels) and treatment.get("beta"):
        raise UserError(
            f"pseudo.beta={treatment.beta} mixes in the detector's own classes, and proposals of {_name(cfg.detector)} "
            "have none: add pseudo.beta=0."
        )
    watching = {Assignments: "callbacks=assignments", ClassificationGradients: "callbacks=gradients"}
    for node in (cfg.get("callbacks") or {}).values():
        for kind, words in watching.items():
            if node and "_target_" in node and _is_a(node, kind):
                raise UserError(
                    f"{words} watches the anchors of one stage and {_name(cfg.detector)} has two: take "
                    "callbacks=default, or another detector, such as method=retinanet."
                )


def refuse_soft_weights_of_ranks(cfg: DictConfig) -> None:
    """Raise UserError for soft sampling with a ranking loss, which knows no weight but 0."""
    ranking = _is_a(cfg.loss, ALRPCriterion) or _is_a(cfg.loss, RankSortCriterion)
    if not ranking and "classification" in cfg.loss:
        ranking = "_target_" in cfg.loss.classification and _is_a(cfg.loss.classification, RankingClassification)
    if cfg.get("pseudo") and ranking and _is_a(cfg.pseudo, SoftSampling) and cfg.pseudo.get("mode") != "hard":
        raise UserError(
            "pseudo=ignore weights the background, and a ranking loss knows no weight but 0: add pseudo.mode=hard, or "
            "take another loss or treatment, such as pseudo=mask."
        )


def _is_a(node: DictConfig, kind: type) -> bool:
    """Whether a config's `_target_` is this class or one made from it."""
    target = get_object(node["_target_"])
    return isinstance(target, type) and issubclass(target, kind)


def _name(node: DictConfig) -> str:
    return str(node["_target_"]).rpartition(".")[2]


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
