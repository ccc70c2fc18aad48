"""Geometry of boxes: xyxy, pixels, right and bottom exclusive.

Pairwise IoU and the conversions are torchvision's (`torchvision.ops`); here stands what it lacks: IoU of
aligned pairs, and the encoding of a box relative to an anchor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def aligned_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes ``a[..., 4]`` and ``b[..., 4]`` pair by pair → ``[...]`` in [0, 1]; 0 for empty unions."""
    lt = torch.maximum(a[..., :2], b[..., :2])
    rb = torch.minimum(a[..., 2:], b[..., 2:])
    inter = (rb - lt).clamp(min=0).prod(-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)
    union = area_a + area_b - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).tiny)


def clip_boxes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clip ``boxes [B, N, 4]`` to images of ``sizes [B, 2]`` (height, width)."""
    limit = sizes.flip(-1).repeat(1, 2).to(boxes.dtype)[:, None]
    return torch.minimum(boxes.clamp(min=0), limit)


class BoxCoder:
    """Boxes as offsets from anchors: (dx, dy, dw, dh) = w · ((Δcx / aw), (Δcy / ah), log(bw / aw), log(bh / ah)).

    The parameterisation of R-CNN (Girshick et al. 2014, App. C). `weights` are 1/σ of the offsets
    ((10, 10, 5, 5) in Fast R-CNN and ATSS, ones in RetinaNet). Decoding clips dw and dh at log(1000 / 16), so
    that a wild prediction cannot overflow.
    """

    def __init__(self, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        if len(weights) != 4 or min(weights) <= 0:
            raise ValueError(f"Expected four positive coder weights, got {tuple(weights)}.")
        self.weights = tuple(float(w) for w in weights)
        self.max_log_scale = math.log(1000.0 / 16)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """``boxes [..., 4]`` relative to ``anchors [..., 4]`` → offsets ``[..., 4]``."""
        center_a, size_a = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]
        center_b, size_b = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        tiny = 1e-6  # a box without area still has a finite logarithm
        deltas = torch.cat(
            [(center_b - center_a) / size_a, (size_b.clamp(min=tiny) / size_a.clamp(min=tiny)).log()], -1
        )
        return deltas * deltas.new_tensor(self.weights)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Offsets ``[..., 4]`` from ``anchors [..., 4]`` (broadcast over leading axes) → boxes, float32."""
        deltas = deltas.float() / deltas.new_tensor(self.weights, dtype=torch.float32)
        center_a, size_a = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]
        center = center_a + deltas[..., :2] * size_a
        half = deltas[..., 2:].clamp(max=self.max_log_scale).exp() * size_a / 2
        return torch.cat([center - half, center + half], -1)
