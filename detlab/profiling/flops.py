"""Floating-point operations of convolutions and matrix products; a multiply-add counts as two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torchvision.ops  # noqa: F401  # registers the deformable convolution
from torch.utils.flop_counter import FlopCounterMode


def count_flops() -> FlopCounterMode:
    """PyTorch's counter of a forward and backward pass, right about grouped and deformable convolutions too."""
    ops: Any = torch.ops
    return FlopCounterMode(
        display=False,
        custom_mapping={
            ops.aten.convolution_backward: _convolution_backward,
            ops.torchvision.deform_conv2d: _deformable,
            ops.torchvision._deform_conv2d_backward: _deformable_backward,
        },
    )


def _convolution(batch: int, weight: Sequence[int], positions: Sequence[int]) -> int:
    """FLOPs of a convolution with a weight of shape `weight`, applied at `positions` per image; bias left out."""
    return 2 * batch * math.prod(positions) * math.prod(weight)


# PyTorch's own counts the gradient of a grouped weight once per group.
def _convolution_backward(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], _bias: object, _stride: object, _padding: object,
    _dilation: object, transposed: bool, _output_padding: object, _groups: object, wanted: Sequence[bool], **_: object,
) -> int:  # fmt: skip
    return _convolution(x[0], weight, (x if transposed else grad)[2:]) * sum(wanted[:2])


def _deformable(x: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    return _convolution(x[0], weight, out_shape[2:])


def _deformable_backward(grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    return 2 * _convolution(x[0], weight, grad[2:])
