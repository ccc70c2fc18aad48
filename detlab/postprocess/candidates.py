"""What travels from a dense head's predictions to detections, and what removes some of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Candidates(NamedTuple):
    """Boxes of a batch on their way to detections, in falling score: boxes float32 ``[N, 4]`` xyxy pixels,
    scores float32 ``[N]``, labels int64 ``[N]``, images int64 ``[N]`` (position in the batch)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    images: Tensor

    def select(self, index: Tensor) -> Candidates:
        return Candidates(*(field[index] for field in self))


@runtime_checkable
class Suppression(Protocol):
    """Removes, rescores or moves candidates; what it returns is again in falling score."""

    def __call__(self, candidates: Candidates) -> Candidates: ...


def best_of_images(candidates: Candidates, count: int) -> Candidates:
    """The first `count` candidates of each image, in the order they came in."""
    order = candidates.images.argsort(stable=True)
    ordered = candidates.images[order]
    place = torch.arange(len(ordered), device=ordered.device) - torch.searchsorted(ordered, ordered)
    return candidates.select(order[place < count].sort().values)
