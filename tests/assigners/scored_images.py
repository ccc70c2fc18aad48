"""Random images with predictions, for the assigners that go by what an anchor's prediction costs."""

from __future__ import annotations

import torch

from detlab.structures import Anchors, Predictions, Targets

CLASSES = 4


def random_image(
    count: int, generator: torch.Generator, size: int = 64, crowd: float = 0.0, unannotated: float = 0.0
) -> Targets:
    """`count` boxes on a grid of quarter pixels, so that overlaps are exact and tie."""
    corner = torch.randint(0, 4 * size - 40, (count, 2), generator=generator)
    extent = torch.randint(12, 2 * size, (count, 2), generator=generator)
    return Targets.of(
        torch.cat([corner, corner + extent], 1) / 4,
        torch.randint(CLASSES, (count,), generator=generator),
        CLASSES,
        ignore=torch.rand(count, generator=generator) < crowd,
        annotated=torch.rand(CLASSES, generator=generator) >= unannotated,
    )


def random_predictions(anchors: Anchors, images: int, generator: torch.Generator) -> Predictions:
    """Boxes near the anchors and logits of a model that has begun to learn."""
    count = len(anchors.boxes)
    side = (anchors.boxes[:, 2:] - anchors.boxes[:, :2]).repeat(1, 2)
    return Predictions(
        logits=torch.randn(images, count, CLASSES, generator=generator) * 2 - 1.5,
        boxes=anchors.boxes + 0.15 * side * torch.randn(images, count, 4, generator=generator),
        deltas=torch.randn(images, count, 4, generator=generator),
        quality=torch.randn(images, count, generator=generator),
    )


def image_of(predictions: Predictions, number: int) -> Predictions:
    """Without the axis of the batch."""
    return Predictions(*(None if field is None else field[number] for field in predictions))  # type: ignore[arg-type]


def costing(costs: list[list[float]]) -> Predictions:
    """Predictions of one class whose logits are read as costs by `given_cost`: one list per image."""
    logits = torch.tensor(costs)[..., None]
    boxes = torch.zeros(*logits.shape[:2], 4)
    return Predictions(logits, boxes, boxes)


def given_cost(matched) -> torch.Tensor:
    return matched.logits[0, :, 0]
