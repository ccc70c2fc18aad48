"""RoIs as crops of one size: the pixels of the RoI at the top left, zeros right of it and below."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align


def whole_pixels(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes ``[N, 4]`` xyxy clipped to a picture and rounded to whole pixels, float32; one that shares any area with
    the picture keeps at least a pixel, one outside (or inverted, or not finite) has a width or height of 0."""
    limit = boxes.new_tensor([width, height, width, height], dtype=torch.float32)
    clipped = torch.minimum(boxes.float().nan_to_num(nan=0.0).clamp(min=0), limit)
    low, high = clipped[:, :2], clipped[:, 2:]
    inside = (high > low).all(1, keepdim=True)
    first = torch.minimum(low.round(), limit[:2] - 1)
    last = torch.maximum(high.round(), first + 1)
    return torch.cat([first, torch.where(inside, last, first)], 1)


def content_sizes(sizes: Tensor, size: tuple[int, int]) -> Tensor:
    """How many pixels (width, height) of a crop of `size` (width, height) RoIs of ``sizes [N, 2]`` fill: int64
    ``[N, 2]``.

    A RoI that fits keeps its pixels, it is never enlarged; a larger one is shrunk until it fits, its shape kept up to
    whole pixels and at least one of them. A RoI without pixels fills none.
    """
    sizes = sizes.float()
    room = sizes.new_tensor(size)
    scale = (room / sizes.clamp(min=1)).amin(1, keepdim=True).clamp(max=1.0)
    filled = torch.minimum((sizes * scale).round().clamp(min=1), room)
    return torch.where((sizes > 0).all(1, keepdim=True), filled, 0).long()


def content_mask(content: Tensor, size: tuple[int, int]) -> Tensor:
    """Content ``[N, 2]`` (width, height) of crops of `size` (width, height) → bool ``[N, h, w]``: RoI, not padding."""
    columns = torch.arange(size[0], device=content.device) < content[:, :1]  # [N, w]
    rows = torch.arange(size[1], device=content.device) < content[:, 1:]  # [N, h]
    return rows[:, :, None] & columns[:, None]


@torch.no_grad()
def cut(images: Tensor, image: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """``images [B, 3, H, W]`` normalised, the RoIs' image int64 ``[N]`` and boxes ``[N, 4]`` xyxy pixels → crops
    float32 ``[N, 3, h, w]`` of `size` (width, height), in one call of `torchvision.ops.roi_align`.

    RoIs are taken as `whole_pixels` and fill `content_sizes`; where they keep their size the crop holds the very pixels
    of the picture, where they are shrunk each pixel is the mean of samples spread over its share of the RoI (of the
    outermost at most an eighth comes from beside the RoI). The rest is zero, which is the mean grey of normalised
    pictures. A RoI without pixels gives zeros only.
    """
    boxes = whole_pixels(boxes, *images.shape[-2:])
    sizes = boxes[:, 2:] - boxes[:, :2]
    content = content_sizes(sizes, size)
    room = sizes.new_tensor(size)
    # The box whose bins are the crop's pixels: as much larger than the RoI as the crop is than the content.
    extended = torch.where(content > 0, sizes * room / content.clamp(min=1), room)
    rois = torch.cat([image[:, None].float(), boxes[:, :2], boxes[:, :2] + extended], 1)
    crops = roi_align(images.float(), rois, (size[1], size[0]), sampling_ratio=0, aligned=True)
    return crops.mul_(content_mask(content, size)[:, None])


def flipped(crops: Tensor, content: Tensor) -> Tensor:
    """Crops ``[N, C, h, w]`` with their content ``[N, 2]`` (width, height) mirrored left to right, still at the left;
    what is right of the content stays."""
    columns = torch.arange(crops.shape[-1], device=crops.device)
    widths = content[:, :1]
    source = torch.where(columns < widths, widths - 1 - columns, columns)  # [N, w]
    return crops.gather(-1, source[:, None, None].expand(crops.shape))
