"""Features of a region from the pyramid level of its size, at a fixed resolution (He et al. 2017; Lin et al. 2017a)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper


class PyramidRoIAlign(nn.Module):
    """torchvision's MultiScaleRoIAlign with a choice of where the cells of a map lie.

    Args:
        levels: consecutive pyramid levels; level l has stride 2**l.
        resolution: cells along each side of the output.
        sampling: samples along each side of an output cell.
        canonical: side in pixels of a region that is cut from level 4 (Lin et al. 2017a, Eq. 1).
        aligned: whether cell i of a map is centered on (i + ½) · stride, as anchors are (Detectron2); False: on
            i · stride, half a cell further up and left (torchvision).
    """

    def __init__(self, levels: Sequence[int], resolution: int, sampling: int, canonical: float, aligned: bool) -> None:
        super().__init__()
        self.scales = [2.0**-level for level in levels]
        self.resolution, self.sampling, self.aligned = resolution, sampling, aligned
        self.level_of = LevelMapper(levels[0], levels[-1], canonical)

    def forward(self, features: Sequence[Tensor], regions: list[Tensor]) -> Tensor:
        """``features``: maps ``[B, channels, h, w]``, one per level; ``regions``: B of ``[R_i, 4]`` xyxy pixels.

        Returns:
            ``[R, channels, resolution, resolution]``.
        """
        level, size = self.level_of(regions), (self.resolution, self.resolution)
        image = torch.cat([boxes.new_full((len(boxes), 1), number) for number, boxes in enumerate(regions)])
        boxes = torch.cat([image, torch.cat(regions)], 1)
        cut = features[0].new_zeros(len(boxes), features[0].shape[1], *size)
        for number, (x, scale) in enumerate(zip(features, self.scales, strict=True)):
            mine = (level == number).nonzero()[:, 0]
            # Under autocast maps may come in several types.
            cut[mine] = roi_align(x, boxes[mine], size, scale, self.sampling, self.aligned).to(cut.dtype)
        return cut

    def extra_repr(self) -> str:
        return f"scales={self.scales}, resolution={self.resolution}, sampling={self.sampling}, aligned={self.aligned}"
