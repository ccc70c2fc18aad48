"""Crowded boxes of three images on three levels, and IoU of two boxes by hand; shared by these tests."""

from __future__ import annotations

import torch

from detlab.postprocess import Candidates
from detlab.structures import Anchors, Predictions

LEVELS = (40, 12, 4)
CLASSES = 3
SIZES = torch.tensor([[60, 80], [64, 64], [50, 90]])


def anchors(level_sizes: tuple[int, ...] = LEVELS) -> Anchors:
    level = torch.repeat_interleave(torch.arange(len(level_sizes)), torch.tensor(level_sizes))
    return Anchors(torch.zeros(sum(level_sizes), 4), level, level_sizes)


def predictions(batch: int = 3, quality: bool = False, seed: int = 0) -> Predictions:
    """Crowded boxes, some reaching over the picture's border."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(LEVELS)
    corner = torch.rand(batch, count, 2, generator=generator) * 60 - 5
    boxes = torch.cat([corner, corner + 5 + torch.rand(batch, count, 2, generator=generator) * 35], -1)
    logits = torch.randn(batch, count, CLASSES, generator=generator) * 2 - 1
    branch = torch.randn(batch, count, generator=generator) if quality else None
    return Predictions(logits, boxes, boxes, branch)


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def one_image(boxes: list[list[float]], labels: list[int], images: list[int] | None = None) -> Candidates:
    count = len(boxes)
    where = torch.zeros(count, dtype=torch.long) if images is None else torch.tensor(images)
    return Candidates(torch.tensor(boxes), torch.linspace(0.9, 0.1, count), torch.tensor(labels), where)
