"""The number every loss is divided by, agreed upon by all processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def process_count() -> int:
    """How many processes train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def normalizer(value: Tensor, at_least: float) -> Tensor:
    """What each process divides its losses by: `value`, a count or a sum of weights, as `reduce_mean` gives it.

    at_least: where the total over all processes is smaller, it counts as this.
    """
    return reduce_mean(value).clamp(min=at_least / process_count())


@torch.no_grad()
def reduce_mean(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes; the tensor itself where there is only one.

    Gradients are averaged over processes, so dividing by the mean count makes the result equal to that of one
    process with the whole batch.
    """
    if process_count() == 1:
        return value.detach()
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / process_count()
