"""Single training steps with a classifier that is sure of one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detlab.lit import LitDetector
from detlab.structures import Batch, Targets

NAMES = ["a", "b", "c"]


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
