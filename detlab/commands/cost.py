"""`detlab cost`: what a row costs before it is run, from one training step on synthetic images."""

from __future__ import annotations

import logging

import torch
from hydra.core.hydra_config import HydraConfig
from lightning import seed_everything
from omegaconf import DictConfig

from detlab.config.cost import (
    check_cost,
    classes_of,
    images_per_iteration,
    labels_with_runs,
    on_this_device,
    picture_of,
)
from detlab.config.instantiate import build_datamodule, build_module, experiment_row, typed
from detlab.config.launch import launch
from detlab.data.dataset import collate
from detlab.errors import UserError
from detlab.profiling.cost_row import Workload, cost_numbers, write_costs
from detlab.profiling.cost_table import CostRow, print_costs
from detlab.profiling.measure import damp, images_that_fit, measure, synthetic_samples

log = logging.getLogger(__name__)


def cost(cfg: DictConfig) -> CostRow:
    """Take one training step of what `cfg` (conf/cost.yaml composed) describes and estimate the whole run.

    The step is `detlab train`'s: same detector, assigner, loss, clipping, optimizer, batch and image size, but with
    random weights and without data. Raises UserError for bad configs before any work, and for a step that is not sound
    (see `detlab.profiling.measure.measure`).
    """
    choice = experiment_row()
    check_cost(cfg, choice)
    local = on_this_device(cfg)
    if "weights" in cfg.backbone:
        local.backbone.weights = None  # nothing is downloaded
    seed_everything(cfg.seed, verbose=False)
    classes, data, picture = classes_of(cfg), build_datamodule(local), picture_of(cfg)
    samples, mean_area = synthetic_samples(data.train_transform, picture, classes, 1, cfg.seed)
    height, width = collate(samples).images.shape[2:]
    cuda = local.trainer.accelerator != "cpu" and torch.cuda.is_available()
    images = cfg.images or images_that_fit(data.batch_size, height * width, cuda)
    device = torch.cuda.get_device_name() if cuda else "CPU"
    log.info("%s: a step of %d × %d × %d on the %s …", cfg.name, images, height, width, device)

    module = build_module(local, [str(label) for label in range(classes)], training=True, total_batch=images)
    assert module.schedule is not None
    damp(module.detector.get_submodule("backbone"))
    batch = collate(synthetic_samples(data.train_transform, picture, classes, images, cfg.seed)[0])
    trainer = {key: local.trainer[key] for key in ("accelerator", "precision") if key in local.trainer}
    step = measure(module, batch, {**trainer, "gradient_clip_val": module.schedule.clip_norm})
    precision = str(cfg.trainer.get("precision", "32-true"))
    work = Workload(module.schedule.iterations, images_per_iteration(cfg), precision, mean_area)
    return {
        "name": cfg.name,
        "experiment": choice,
        "setting": cfg.setting,
        "overrides": typed(),
        "picture": [height, width],
        "classes": classes,
        "treatment_left_out": labels_with_runs(cfg),
        **cost_numbers(module, step, work, cuda),
    }


def main() -> None:
    rows: list[CostRow] = []
    outputs: list[str] = []

    def run(cfg: DictConfig) -> None:
        launcher = HydraConfig.get().launcher._target_
        if not launcher.endswith("BasicLauncher"):
            raise UserError(f"detlab cost measures one row at a time: leave out hydra/launcher ({launcher}).")
        rows.append(cost(cfg))
        if cfg.output:
            outputs.append(cfg.output)

    try:
        launch("cost", run, check_cost)
    finally:
        if rows:
            print_costs(rows)
        for output in dict.fromkeys(outputs):
            write_costs(rows, output)
            print(f"Written: {output}")


if __name__ == "__main__":
    main()
