"""The number every loss is divided by, agreed upon by all processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


@torch.no_grad()
def reduce_mean(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes; the tensor itself where there is only one.

    Gradients are averaged over processes, so dividing by the mean count makes the result equal to that of one
    process with the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value.detach()
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()
