"""`detlab cost`: what a row costs before it is run, from one training step on synthetic pictures."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detlab.config.launch import launch
from detlab.errors import UserError

log = logging.getLogger(__name__)

_CPU_PIXELS = 2_000_000  # in one step: a few GiB for a ResNet-50


def check(cfg: Any, experiment: str | None = None) -> None:
    """Raise UserError for a config that cannot be trained, as `detlab train` would; a GPU is not needed. What labels
    with finished runs is not looked at: they need not be there yet."""
    from detlab.config.experiments import check_name
    from detlab.config.instantiate import rehearse
    from detlab.config.schema import validate

    validate(cfg, "cost")
    if cfg.get("task"):
        raise UserError(f"{cfg.name} trains no detector (task={cfg.task._target_.rpartition('.')[2]}): leave it out.")
    check_name(experiment, cfg.name, overridden=any(word.lstrip("+").startswith("name=") for word in sys.argv[1:]))
    rehearse(on_this_device(cfg))
    classes_of(cfg)


def labels_with_runs(cfg: Any) -> bool:
    """Whether the treatment of missing labels needs finished runs, which are not there yet: it is left out."""
    return bool({"classifier", "detectors", "teacher"} & set(cfg.get("pseudo") or {}))


def cost(cfg: Any) -> dict[str, Any]:
    """Take one training step of what `cfg` (conf/cost.yaml composed) describes and estimate the whole run.

    The step is `detlab train`'s: same detector, assigner, loss, clipping, optimiser, batch and picture size, but with
    random weights and without data. Raises UserError for bad configs before any work, and for a step that is not sound
    (see `detlab.profiling.measure.measure`).
    """
    import torch
    from lightning import seed_everything

    from detlab.config.instantiate import build_datamodule, build_module, experiment_row, typed
    from detlab.data.dataset import collate
    from detlab.profiling.gpu_hours import estimates
    from detlab.profiling.measure import damp, measure, synthetic_samples

    choice = experiment_row()
    check(cfg, choice)
    local = on_this_device(cfg)
    if "weights" in cfg.backbone:
        local.backbone.weights = None  # nothing is downloaded
    seed_everything(cfg.seed, verbose=False)
    classes, data = classes_of(cfg), build_datamodule(local)
    transform, picture = data.train_transform, picture_of(cfg)
    samples, mean_area = synthetic_samples(transform, picture, classes, 1, cfg.seed)
    height, width = collate(samples).images.shape[2:]
    cuda = local.trainer.accelerator != "cpu" and torch.cuda.is_available()
    fits = data.batch_size if cuda else max(_CPU_PIXELS // (height * width), 1)
    images = cfg.images or min(data.batch_size, fits)
    device = torch.cuda.get_device_name() if cuda else "CPU"
    log.info("%s: a step of %d × %d × %d on the %s …", cfg.name, images, height, width, device)

    module = build_module(local, [str(label) for label in range(classes)], training=True, total_batch=images)
    damp(module.detector.backbone)  # type: ignore[arg-type]
    batch = collate(synthetic_samples(transform, picture, classes, images, cfg.seed)[0])
    trainer = {key: local.trainer[key] for key in ("accelerator", "precision") if key in local.trainer}
    schedule: Any = module.schedule
    step = measure(module, batch, {**trainer, "gradient_clip_val": schedule.clip_norm})
    flops, total, iterations = step.flops / images, images_per_iteration(cfg), schedule.iterations
    parameters = [p.numel() for p in module.detector.parameters() if p.requires_grad]
    return {
        "name": cfg.name,
        "experiment": choice,
        "setting": cfg.setting,
        "overrides": typed(),
        "iterations": iterations,
        "images_per_iteration": total,
        "precision": str(cfg.trainer.get("precision", "32-true")),
        "picture": [height, width],
        "mean_area": round(mean_area, 3),
        "classes": classes,
        "trainable_parameters_million": round(sum(parameters) / 1e6, 3),
        "losses": step.losses,
        "flops_per_image": flops,
        "device": device,
        "device_threads": None if cuda else torch.get_num_threads(),
        "device_share": None if cuda else round(step.share, 3),
        "images_per_step": images,
        "seconds_per_step": step.seconds,
        "memory_gib": step.memory_gib,
        "device_hours": step.seconds / images * mean_area * total * iterations / 3600,
        "treatment_left_out": labels_with_runs(cfg),
        "gpu_hours": estimates(flops * mean_area, total, iterations, str(cfg.trainer.get("precision", "32-true"))),
    }


def on_this_device(cfg: Any) -> Any:
    """A copy of `cfg` that trains in one process on what this machine has: one GPU, or a CPU in 32 bits where the
    recipe asks for more; without a treatment that labels with finished runs, and without a test, which may need some,
    too."""
    import torch
    from omegaconf import open_dict

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


def images_per_iteration(cfg: Any) -> int:
    """Over all processes that the config numbers; `devices=auto` or -1 counts as one."""
    trainer = cfg.trainer
    devices = trainer.get("devices", 1)
    devices = len(devices) if isinstance(devices, Sequence) and not isinstance(devices, str) else devices
    processes = int(devices) * int(trainer.get("num_nodes", 1)) if str(devices).isdigit() else 1
    return int(cfg.loader.batch_size) * int(trainer.get("accumulate_grad_batches", 1)) * processes


def classes_of(cfg: Any) -> int:
    """How many classes the data have, as far as that is known without them. Raises UserError where it is not."""
    from detlab.data.formats.voc import VOC_CLASSES
    from detlab.data.scenes import CLASSES

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


def origin(data: Any) -> Any:
    """The group `data` of what a split merge or a partly labelled set is made of, or itself."""
    from omegaconf import DictConfig

    while isinstance(data.get("source"), DictConfig):
        data = data.source
    return data


def picture_of(cfg: Any) -> tuple[int, int]:
    """(height, width) of a typical file. 480 × 800 has the longest shape that a shorter side of 800 pixels leaves."""
    if cfg.picture:
        return cfg.picture[0], cfg.picture[1]
    size = origin(cfg.data).get("size")
    return (size, size) if size else (480, 800)


def write(rows: Sequence[dict[str, Any]], path: str) -> None:
    """The numbers of `rows` and what they rest on, as JSON."""
    from detlab.data.files import write_atomic
    from detlab.profiling.gpu_hours import assumptions

    text = json.dumps({"rows": list(rows), "assumptions": assumptions()}, indent=2, ensure_ascii=False)
    write_atomic(Path(path), text.encode() + b"\n")


def main() -> None:
    from detlab.profiling.cost_table import print_costs

    rows: list[dict[str, Any]] = []
    outputs: list[str] = []

    def run(cfg: Any) -> None:
        _refuse_other_processes()
        rows.append(cost(cfg))
        if cfg.output:
            outputs.append(cfg.output)

    try:
        launch("cost", run, check)
    finally:
        if rows:
            print_costs(rows)
        for output in dict.fromkeys(outputs):
            write(rows, output)
            print(f"Written: {output}")


def _refuse_other_processes() -> None:
    from hydra.core.hydra_config import HydraConfig

    launcher = HydraConfig.get().launcher._target_
    if not launcher.endswith("BasicLauncher"):
        raise UserError(f"detlab cost measures one row at a time: leave out hydra/launcher ({launcher}).")


if __name__ == "__main__":
    main()
