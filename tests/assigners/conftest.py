"""Anchors and ground truths on exact coordinates, shared by the assigners' tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from detlab.structures import Anchors, Targets

GridAnchors = Callable[..., Anchors]
RandomTargets = Callable[..., Targets]


@pytest.fixture
def grid_anchors() -> GridAnchors:
    """One square anchor per cell, of side `scale` strides, on levels of the given strides."""

    def make(size: int = 32, strides: tuple[int, ...] = (4, 8, 16), scale: float = 2.0) -> Anchors:
        boxes, level, sizes = [], [], []
        for number, stride in enumerate(strides):
            steps = torch.arange(stride / 2, size, stride)
            y, x = torch.meshgrid(steps, steps, indexing="ij")
            center = torch.stack([x, y], -1).reshape(-1, 2)
            half = scale * stride / 2
            boxes.append(torch.cat([center - half, center + half], 1))
            level.append(torch.full((len(center),), number))
            sizes.append(len(center))
        return Anchors(torch.cat(boxes), torch.cat(level), tuple(sizes))

    return make


@pytest.fixture
def random_targets() -> RandomTargets:
    """Boxes with corners on a grid of `step` pixels, so that IoUs and distances are exact and often tie."""

    def make(
        count: int, generator: torch.Generator, *, size: int = 32, step: float = 1.0, crowd: float = 0.2
    ) -> Targets:
        limit = int(size / step)
        corner = torch.randint(0, limit - 2, (count, 2), generator=generator)
        extent = torch.randint(1, limit // 2, (count, 2), generator=generator)
        boxes = torch.cat([corner, corner + extent], 1).float() * step
        ignore = torch.rand(count, generator=generator) < crowd
        return Targets.of(boxes, torch.zeros(count), 1, ignore=ignore)

    return make
