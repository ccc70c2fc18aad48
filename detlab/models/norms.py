"""Normalisation that costs little: batch norm folded into its convolution, group norm by group width."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

GROUP_WIDTH = 8


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm (Wu & He 2018) with groups of 8 channels: 32 groups at 256 channels, 8 at 64.

    A fixed width instead of a fixed number keeps narrow layers from normalising channel pairs.
    Raises ValueError for channels that are no multiple of 8.
    """
    if channels < GROUP_WIDTH or channels % GROUP_WIDTH:
        raise ValueError(f"Expected channels divisible by {GROUP_WIDTH} for group norm, got {channels}.")
    return nn.GroupNorm(channels // GROUP_WIDTH, channels)


class FrozenNormConv2d(nn.Module):
    """A convolution and the batch norm behind it, the norm's statistics and affine parameters frozen.

    ``norm(conv(x)) = conv'(x)`` with ``w' = w · γ / sqrt(σ² + ε)`` and ``b' = β − μ γ / sqrt(σ² + ε)``: the
    weight is scaled at every forward, so its gradient and weight decay are those of the unfolded weight, and
    the feature map is neither scaled nor shifted in passes of its own.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        """Raises ValueError if the convolution has a bias or the channels differ."""
        super().__init__()
        if conv.bias is not None:
            raise ValueError("Expected a convolution without bias before a batch norm, got one with bias.")
        if conv.out_channels != norm.num_features:
            raise ValueError(f"Expected a norm of {conv.out_channels} channels, got {norm.num_features}.")
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
        self.conv = conv
        self.register_buffer("scale", scale.reshape(-1, 1, 1, 1))
        self.register_buffer("shift", norm.bias.detach() - norm.running_mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv._conv_forward(x, self.conv.weight * self.scale, self.shift)


def fold_frozen_norms(module: nn.Module) -> None:
    """Replace every (convolution, batch norm) that stand next to each other by the folded pair, in place."""
    for parent in list(module.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, FrozenNormConv2d(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    left = [name for name, child in module.named_modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    assert not left, f"batch norms without a convolution in front: {left}"
