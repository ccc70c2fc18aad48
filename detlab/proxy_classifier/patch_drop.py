"""Patch-drop: copies of a crop that each lack one patch, whose predictions are averaged (Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_patches(
    count: int, patches: int, copies: int, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """Which of the `patches` × `patches` patches, counted row by row, each of `copies` copies of `count` crops lacks:
    int64 ``[copies, count]``, drawn independently and, whatever the device, from `generator` on its own."""
    where = generator.device if generator is not None else torch.device("cpu")
    drawn = torch.randint(patches**2, (copies, count), generator=generator, device=where)
    return drawn if device is None else drawn.to(device)


def drop_patch(crops: Tensor, content: Tensor, patch: Tensor, patches: int) -> Tensor:
    """Crops ``[N, C, h, w]`` with patch number ``patch [N]`` of their content set to zero.

    The content ``[N, 2]`` (width, height), not the padding, is divided: patch (row, column) reaches from
    ⌊row · height / s⌋ up to ⌊(row + 1) · height / s⌋, columns likewise, so that every pixel lies in one patch. A
    content of fewer than s pixels a side has patches without pixels.
    """
    row, column = patch // patches, patch % patches
    down = _between(crops.shape[-2], row, content[:, 1], patches)  # [N, h]
    across = _between(crops.shape[-1], column, content[:, 0], patches)  # [N, w]
    return crops.masked_fill((down[:, :, None] & across[:, None])[:, None], 0.0)


def _between(length: int, number: Tensor, side: Tensor, patches: int) -> Tensor:
    """Positions 0 … length − 1 in strip `number` of `patches` strips of ``side`` pixels: bool ``[N, length]``."""
    positions = torch.arange(length, device=side.device)
    first, last = number * side // patches, (number + 1) * side // patches
    return (positions >= first[:, None]) & (positions < last[:, None])
