"""What `detlab cost` needs of a config: one training step of it on this machine, and the size of the whole."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from omegaconf import DictConfig, open_dict

from detlab.config.experiments import check_name
from detlab.config.instantiate import rehearse
from detlab.config.schema import validate
from detlab.data.formats.voc import VOC_CLASSES
from detlab.data.scenes import CLASSES
from detlab.errors import UserError


def check_cost(cfg: DictConfig, experiment: str | None = None) -> None:
    """Raise UserError for a config that cannot be trained, as `detlab train` would; a GPU is not needed. What labels
    with finished runs is not looked at: they need not be there yet."""
    validate(cfg, "cost")
    if cfg.get("task"):
        raise UserError(f"{cfg.name} trains no detector (task={cfg.task._target_.rpartition('.')[2]}): leave it out.")
    check_name(experiment, cfg.name, overridden=any(word.lstrip("+").startswith("name=") for word in sys.argv[1:]))
    rehearse(on_this_device(cfg))
    classes_of(cfg)


def labels_with_runs(cfg: DictConfig) -> bool:
    """Whether the treatment of missing labels needs finished runs, which are not there yet: it is left out."""
    return bool({"classifier", "detectors", "teacher"} & set(cfg.get("pseudo") or {}))


def on_this_device(cfg: DictConfig) -> DictConfig:
    """A copy of `cfg` that trains in one process on what this machine has: one GPU, or a CPU in 32 bits where the
    recipe asks for more; without a treatment that labels with finished runs, and without a test, which may need some,
    too."""
    local = cfg.copy()
    with open_dict(local):
        if labels_with_runs(cfg):
            local.pseudo = local.stage_one = None
        local.testing = None
        local.trainer.devices = 1
        for key in ("strategy", "num_nodes", "plugins", "sync_batchnorm"):
            local.trainer.pop(key, None)
        if local.trainer.get("accelerator") in ("auto", "gpu", "cuda") and not torch.cuda.is_available():
            local.trainer.update(accelerator="cpu", precision="32-true")
    return local


def images_per_iteration(cfg: DictConfig) -> int:
    """Over all processes that the config numbers; `devices=auto` or -1 counts as one."""
    trainer = cfg.trainer
    devices = trainer.get("devices", 1)
    devices = len(devices) if isinstance(devices, Sequence) and not isinstance(devices, str) else devices
    processes = int(devices) * int(trainer.get("num_nodes", 1)) if str(devices).isdigit() else 1
    return int(cfg.loader.batch_size) * int(trainer.get("accumulate_grad_batches", 1)) * processes


def classes_of(cfg: DictConfig) -> int:
    """How many classes the data have, as far as that is known without them. Raises UserError where it is not."""
    if cfg.classes:
        return int(cfg.classes)
    groups = cfg.data.get("groups")
    if groups:
        return sum(len(group if isinstance(group, Sequence) else group.classes) for group in groups.values())
    data = origin(cfg.data)
    if data.get("classes"):
        return len(data.classes)
    known = {"coco2017": 80, "scenes": len(CLASSES), **dict.fromkeys(("voc07", "voc12", "voc0712"), len(VOC_CLASSES))}
    if data.get("name") not in known:
        raise UserError(f"data={cfg.data.name}: no data are read here, so say how many classes they have (classes=20).")
    return known[data.name]


def origin(data: DictConfig) -> DictConfig:
    """The group `data` of what a split merge or a partly labelled set is made of, or itself."""
    while isinstance(data.get("source"), DictConfig):
        data = data.source
    return data


def picture_of(cfg: DictConfig) -> tuple[int, int]:
    """(height, width) of a typical file. 480 × 800 has the longest shape that a shorter side of 800 pixels leaves."""
    if cfg.picture:
        return cfg.picture[0], cfg.picture[1]
    size = origin(cfg.data).get("size")
    return (size, size) if size else (480, 800)
