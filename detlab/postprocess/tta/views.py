"""A batch of pictures at another size, or mirrored, and boxes found there brought back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

DIVISOR = 32  # sides of a batch are multiples of it, as those of the data loader


class View(NamedTuple):
    """images ``[B, 3, H, W]``, padded with 0 at right and bottom; sizes int64 ``[B, 2]`` (height, width) of each
    picture's content; original_sizes ``[B, 2]`` of the same content in the batch that this is a view of."""

    images: Tensor
    sizes: Tensor
    original_sizes: Tensor
    flipped: bool

    def bring_back(self, boxes: Tensor, images: Tensor) -> Tensor:
        """``boxes [N, 4]`` xyxy in pixels of the view, found on ``images [N]`` → in pixels of the batch."""
        if self.flipped:
            x1, y1, x2, y2 = boxes.unbind(-1)
            width = self.sizes[images, 1]
            boxes = torch.stack([width - x2, y1, width - x1, y2], -1)
        scale = self.original_sizes / self.sizes
        return boxes * scale[images].flip(-1).repeat(1, 2).to(boxes.dtype)


def view(images: Tensor, sizes: Tensor, scale: float = 1.0, flipped: bool = False) -> View:
    """``images [B, 3, H, W]`` of content ``sizes [B, 2]`` (height, width), scaled by `scale` and mirrored left to
    right if `flipped`.

    The content alone is resized (bilinear, with antialiasing where it shrinks) and mirrored, and padded again, so that
    padding never bleeds into it and stays at right and bottom. Scale 1 without mirroring is the batch itself.
    """
    if len(images) == 0 or (scale == 1 and not flipped):
        return View(images, sizes, sizes, flipped)
    contents = sizes.tolist()
    scaled = [tuple(max(round(side * scale), 1) for side in content) for content in contents]
    height, width = (-(-max(sides) // DIVISOR) * DIVISOR for sides in zip(*scaled))
    seen = images.new_zeros(len(images), images.shape[1], height, width)
    for slot, image, (h, w), size in zip(seen, images, contents, scaled):
        content = image[:, :h, :w]
        if flipped:
            content = content.flip(-1)
        if size != (h, w):
            content = F.interpolate(content[None], size, mode="bilinear", antialias=True)[0]
        slot[:, : size[0], : size[1]] = content
    return View(seen, torch.tensor(scaled, device=sizes.device), sizes, flipped)
