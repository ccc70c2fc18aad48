"""Boxes as distances from a point to their sides (Tian et al. 2019, https://arxiv.org/abs/1904.01355)."""

from __future__ import annotations

import torch
from torch import Tensor

from detlab.ops.boxes import BoxCoder


class DistanceCoder(BoxCoder):
    """Boxes as log distances (l, t, r, b) from an anchor's center, in units of the anchor's sides.

    Eq. 1 of the paper, whose network predicts exp(x) (section 3.1). The unit is the stride where anchors are the cells
    of points (`PointGenerator`), as in the authors' later code: one output then means objects of a similar size in
    cells on every level. Decoding clips as in `BoxCoder`.
    """

    def __init__(self) -> None:
        super().__init__()

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Encode ``boxes [..., 4]`` relative to ``anchors [..., 4]`` as ``[..., 4]``.

        A side that the center is not inside of has no logarithm; its distance counts as a millionth of the anchor.
        """
        center, size = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]
        distances = torch.cat([center - boxes[..., :2], boxes[..., 2:] - center], -1)
        return (distances / torch.cat([size, size], -1)).clamp(min=1e-6).log()

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Decode ``deltas [..., 4]`` at ``anchors [..., 4]`` (broadcast over leading axes) to boxes, float32."""
        center, size = (anchors[..., :2] + anchors[..., 2:]) / 2, anchors[..., 2:] - anchors[..., :2]
        distances = deltas.float().clamp(max=self.max_log_scale).exp() * torch.cat([size, size], -1)
        return torch.cat([center - distances[..., :2], center + distances[..., 2:]], -1)
