"""Anchor boxes of given sizes, others on each level: those of a YOLO."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from detlab.models.anchors import _level_anchors
from detlab.structures import Anchors


class ShapeAnchors:
    """The anchors of a level have the (width, height) that its list of `shapes` names, in pixels.

    shapes: a list for each of `levels`, all of the same length A; ``detlab anchors`` finds them for a data set.
    shrink multiplies them: a resolution far below the one they were found for wants smaller ones. Level l has stride
    2**l; its anchors are centred on ``(i + 0.5) · stride`` in continuous coordinates. Order: level, row, column, anchor
    of the cell. In place of an `AnchorGenerator`.

    Raises ValueError for levels below 0, for as many lists as not levels, lists of unequal length or sides or a shrink
    of 0 or less.
    """

    def __init__(
        self,
        levels: Sequence[int],
        shapes: Sequence[Sequence[tuple[float, float]]],
        shrink: float = 1.0,
    ) -> None:
        if not levels or min(levels) < 0:
            raise ValueError(f"Expected pyramid levels ≥ 0, got {tuple(levels)}.")
        if len(shapes) != len(levels):
            raise ValueError(f"Expected a list of anchor shapes for each of {len(levels)} levels, got {len(shapes)}.")
        counts = [len(each) for each in shapes]
        if min(counts) < 1 or min(counts) != max(counts):
            raise ValueError(f"Expected as many anchor shapes on every level, at least one, got {counts}.")
        if not all(len(shape) == 2 and min(shape) > 0 for each in shapes for shape in each):
            raise ValueError(f"Expected anchor shapes (width, height) above 0, got {[list(each) for each in shapes]}.")
        if not shrink > 0:
            raise ValueError(f"Expected a shrink above 0, got {shrink}.")
        self.levels = tuple(levels)
        self.shapes = tuple(tuple((float(w) * shrink, float(h) * shrink) for w, h in each) for each in shapes)

    @property
    def per_location(self) -> int:
        return len(self.shapes[0])

    @torch.compiler.disable  # looked up in a cache, which tracing would pass by
    def __call__(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> Anchors:
        """Anchors for maps of these (height, width), one per level. The same tensors for the same sizes."""
        if len(sizes) != len(self.levels):
            raise ValueError(f"Expected {len(self.levels)} feature maps, got {len(sizes)}.")
        return _anchors(self.levels, self.shapes, tuple((int(h), int(w)) for h, w in sizes), device)


# Bounded, as multi-scale training meets hundreds of sizes of several MB each.
@functools.lru_cache(maxsize=32)
def _anchors(
    levels: tuple[int, ...],
    shapes: tuple[tuple[tuple[float, float], ...], ...],
    sizes: tuple[tuple[int, int], ...],
    device: torch.device,
) -> Anchors:
    # Made in validation under inference mode, they could not be used by a training step afterwards.
    with torch.inference_mode(False), torch.no_grad():
        per_level = []
        for level, each, (height, width) in zip(levels, shapes, sizes):
            stride = 2**level
            in_strides = tuple((w / stride, h / stride) for w, h in each)
            per_level.append(_level_anchors(stride, in_strides, height, width, device))
        counts = tuple(len(boxes) for boxes in per_level)
        number = [torch.full((count,), position, device=device) for position, count in enumerate(counts)]
        return Anchors(torch.cat(per_level), torch.cat(number), counts)
