"""Deformable convolution that starts as the plain convolution it replaces."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv2d(nn.Conv2d):
    """A k × k convolution whose taps move by predicted offsets (Dai et al. 2017); `modulated` adds a weight per
    tap (Zhu et al. 2019, DCNv2).

    Offsets, in pixels of the input map, come from a convolution of the same kernel, stride and padding that
    starts at zero. Modulation is ``2 · sigmoid`` instead of DCNv2's ``sigmoid``, so that the start equals the
    plain convolution and pretrained features pass unchanged.
    """

    def __init__(self, conv: nn.Conv2d, modulated: bool = True) -> None:
        """Take over the shape and the weight of `conv`."""
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
        )
        self.weight = conv.weight
        self.bias = conv.bias
        self.modulated = modulated
        self.taps = conv.kernel_size[0] * conv.kernel_size[1]
        self.offset = nn.Conv2d(
            conv.in_channels,
            self.taps * (3 if modulated else 2),
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
        )
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        moves = self.offset(input)
        mask = 2 * moves[:, 2 * self.taps :].sigmoid() if self.modulated else None
        # The kernel wants one dtype, and mixed precision hands over the offsets in the lower one.
        dtype = torch.promote_types(weight.dtype, input.dtype)
        return deform_conv2d(
            input.to(dtype),
            moves[:, : 2 * self.taps].to(dtype),
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            None if mask is None else mask.to(dtype),
        )
