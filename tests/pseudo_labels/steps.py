"""Single training steps with a classifier that is sure of one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from detlab.config.launch import CONFIG_DIR
from detlab.engine.module import LitDetector
from detlab.structures import Batch, Targets

NAMES = ["a", "b", "c"]
SMALL = [
    "backbone.channels=[8,8,16,16,32]", "detector.fpn.out_channels=16", "detector.fpn.levels=[3,4]",
    "detector.head.channels=16",
]  # fmt: skip


def configured(*words: str) -> Any:
    """The config of a training of a toy detector."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [*words, *SMALL])
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


class Sure:
    """A classifier that sees class b everywhere."""

    classes: Sequence[str] = NAMES

    def classify(self, images: Tensor, image: Tensor, boxes: Tensor, *args: Any) -> Tensor:  # noqa: ARG002
        return torch.tensor([0.0, 0.9, 0.05, 0.05]).expand(len(boxes), 4)


def batch_of(annotated: Sequence[bool], objects: int = 0) -> Batch:
    """Two pictures; the annotators of the second looked for the classes `annotated`, those of the first for all."""
    generator, targets = torch.Generator().manual_seed(0), []
    for looked in ([True] * 3, list(annotated)):
        corner = torch.rand(objects, 2, generator=generator) * 40
        boxes = torch.cat([corner, corner + 20], 1)
        labels = torch.zeros(objects, dtype=torch.int64)
        targets.append(Targets.of(boxes, labels, 3, annotated=torch.tensor(looked)))
    size = torch.full((2, 2), 64)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    return Batch(images, targets, size, torch.ones(2, 2), size, torch.arange(2))


def step(module: LitDetector, batch: Batch) -> dict[str, float]:
    """What a training step logs."""
    logged: dict[str, Any] = {}
    module.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)
    assert loss is not None
    loss.backward()
    return {name.removeprefix("train/"): float(value) for name, value in logged.items()}
