"""The cost of a whole training from one step of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from detlab.data.files import write_atomic
from detlab.engine.module import LitDetector
from detlab.profiling.cost_table import CostRow
from detlab.profiling.gpu_hours import assumptions, estimates
from detlab.profiling.measure import Step


@dataclass(frozen=True)
class Workload:
    """A training to be estimated.

    Attributes:
        iterations: Optimizer steps.
        images_per_iteration: Over all processes.
        precision: `trainer.precision` of the recipe.
        mean_area: Of its images over that of the largest, which are measured.
    """

    iterations: int
    images_per_iteration: int
    precision: str
    mean_area: float


def cost_numbers(module: LitDetector, step: Step, work: Workload, cuda: bool) -> CostRow:
    """What a step costs here, and the whole training here and on other GPUs.

    Args:
        module: Whose trainable parameters are counted.
        step: As measured.
        work: The whole training.
        cuda: Whether it was measured on a GPU.
    """
    flops, total = step.flops / step.images, work.images_per_iteration
    parameters = [p.numel() for p in module.detector.parameters() if p.requires_grad]
    return {
        "iterations": work.iterations,
        "images_per_iteration": total,
        "precision": work.precision,
        "mean_area": round(work.mean_area, 3),
        "trainable_parameters_million": round(sum(parameters) / 1e6, 3),
        "losses": step.losses,
        "flops_per_image": flops,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "device_threads": None if cuda else torch.get_num_threads(),
        "device_share": None if cuda else round(step.share, 3),
        "images_per_step": step.images,
        "seconds_per_step": step.seconds,
        "memory_gib": step.memory_gib,
        "device_hours": step.seconds / step.images * work.mean_area * total * work.iterations / 3600,
        "gpu_hours": estimates(flops * work.mean_area, total, work.iterations, work.precision),
    }


def write_costs(rows: Sequence[CostRow], path: str) -> None:
    """The numbers of `rows` and what they rest on, as JSON."""
    text = json.dumps({"rows": list(rows), "assumptions": assumptions()}, indent=2, ensure_ascii=False)
    write_atomic(Path(path), text.encode() + b"\n")
