"""Anchor boxes over a feature pyramid."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from detlab.structures import Anchors


class AnchorGenerator:
    """K = octaves · len(ratios) anchors at every location of every level.

    Level l has stride 2**l; its anchors are centred on ``(i + 0.5) · stride`` in continuous coordinates and
    have the area ``(scale · stride · 2**(o / octaves))²`` for o = 0 … octaves − 1, and height / width = ratio.
    The defaults are RetinaNet's nine (Lin et al. 2017b, §4); ``scale=8, octaves=1, ratios=(1,)`` is the single
    square of ATSS and PAA. `shrink` multiplies `scale`: a resolution far below the papers' wants smaller anchors
    whatever the method. Order: level, row, column, anchor of the location.

    center: where in its location an anchor's centre is, in strides; whole: halves of its sides are rounded to whole
    pixels. ``center=0, whole=True`` are torchvision's, which its trained weights go with.
    """

    def __init__(
        self,
        levels: Sequence[int] = (3, 4, 5, 6, 7),
        scale: float = 4.0,
        octaves: int = 3,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        shrink: float = 1.0,
        center: float = 0.5,
        whole: bool = False,
    ) -> None:
        if not levels or min(levels) < 0:
            raise ValueError(f"Expected pyramid levels ≥ 0, got {tuple(levels)}.")
        if scale <= 0 or shrink <= 0 or octaves < 1:
            raise ValueError(
                f"Expected scale and shrink above 0 and at least one octave, got {scale}, {shrink} and {octaves}."
            )
        if not ratios or min(ratios) <= 0:
            raise ValueError(f"Expected positive aspect ratios, got {tuple(ratios)}.")
        self.levels = tuple(levels)
        self.scale = float(scale * shrink)
        self.octaves = octaves
        self.ratios = tuple(float(ratio) for ratio in ratios)
        self.center, self.whole = float(center), whole

    @property
    def per_location(self) -> int:
        return self.octaves * len(self.ratios)

    @torch.compiler.disable  # looked up in a cache, which tracing would pass by
    def __call__(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> Anchors:
        """Anchors for maps of these (height, width), one per level. The same tensors for the same sizes."""
        if len(sizes) != len(self.levels):
            raise ValueError(f"Expected {len(self.levels)} feature maps, got {len(sizes)}.")
        shapes = _shapes(self.scale, self.octaves, self.ratios)
        plain = tuple((int(h), int(w)) for h, w in sizes)
        return _anchors(self.levels, shapes, plain, device, self.center, self.whole)


def _shapes(scale: float, octaves: int, ratios: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """(width, height) of a location's anchors in units of the stride."""
    sides = [scale * 2 ** (octave / octaves) for octave in range(octaves)]
    return tuple((side / ratio**0.5, side * ratio**0.5) for side in sides for ratio in ratios)


# Bounded, as multi-scale training meets hundreds of sizes of several MB each.
@functools.lru_cache(maxsize=32)
def _anchors(
    levels: tuple[int, ...],
    shapes: tuple[tuple[float, float], ...],
    sizes: tuple[tuple[int, int], ...],
    device: torch.device,
    center: float = 0.5,
    whole: bool = False,
) -> Anchors:
    # Made in validation under inference mode, they could not be used by a training step afterwards.
    with torch.inference_mode(False), torch.no_grad():
        per_level = [
            _level_anchors(2**level, shapes, *size, device, center, whole) for level, size in zip(levels, sizes)
        ]
        counts = tuple(len(boxes) for boxes in per_level)
        level = torch.repeat_interleave(
            torch.arange(len(levels), device=device), torch.tensor(counts, device=device), output_size=sum(counts)
        )
        return Anchors(torch.cat(per_level), level, counts)


def _level_anchors(
    stride: int,
    shapes: tuple[tuple[float, float], ...],
    height: int,
    width: int,
    device: torch.device,
    center: float = 0.5,
    whole: bool = False,
) -> Tensor:
    half = torch.tensor(shapes, device=device) * stride / 2
    half = half.round() if whole else half
    y = (torch.arange(height, device=device, dtype=torch.float32) + center) * stride
    x = (torch.arange(width, device=device, dtype=torch.float32) + center) * stride
    middle = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)[:, :, None]
    return torch.cat([middle - half, middle + half], -1).reshape(-1, 4)  # [H, W, K, 4]
