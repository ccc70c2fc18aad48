"""Backbones: an image in, one feature map per pyramid level out (level l has stride 2**l)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import Bottleneck

from detlab.models.deformable import DeformableConv2d
from detlab.models.norms import fold_frozen_norms, group_norm
from detlab.models.weights import load_weights

ResNetName = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "resnext152_32x8d",
]
LEVELS = (2, 3, 4, 5)


class Backbone(nn.Module):
    """`forward`: images ``[B, 3, H, W]`` → one map ``[B, out_channels[i], ⌈H / 2**l⌉, ⌈W / 2**l⌉]`` for each
    level l = out_levels[i], finest first."""

    out_levels: tuple[int, ...]
    out_channels: tuple[int, ...]

    def _set_outputs(self, out_levels: Sequence[int], channels: Sequence[int]) -> None:
        """`channels` are those of the levels 2 to 5. Raises ValueError unless the levels rise without a gap."""
        levels = tuple(out_levels)
        if not levels or not set(levels) <= set(LEVELS) or levels != tuple(range(levels[0], levels[-1] + 1)):
            raise ValueError(f"Expected consecutive out_levels from {LEVELS}, got {levels}.")
        self.out_levels = levels
        self.out_channels = tuple(channels[level - LEVELS[0]] for level in levels)


def build_network(name: ResNetName) -> models.ResNet:
    """torchvision's network of this name, random, with its classifier. ResNeXt-152 32×8d (PAA, Table 3), which
    torchvision does not list, is ResNet-152 with the groups of ResNeXt-101 32×8d."""
    if name == "resnext152_32x8d":
        return models.ResNet(Bottleneck, [3, 8, 36, 3], groups=32, width_per_group=8)
    return cast(models.ResNet, models.get_model(name, weights=None))


class ResNet(Backbone):
    """torchvision's ResNet or ResNeXt without its classifier, or ResNeXt-152, made of the same blocks.

    weights: None (random), "imagenet" (torchvision's first ImageNet weights; of ResNeXt-152 it has none) or a local
    .pth file with torchvision's names.
    frozen_stages: how many of the stages 2 to 5, and with any of them the stem, are not trained; 1, as here,
    is Detectron's FREEZE_AT=2. norm: "frozen_bn" keeps all statistics and affine parameters (and folds them
    into the convolutions), "bn" trains them outside the frozen stages. deformable_stages: from 2 to 5, whose
    3 × 3 convolutions become deformable (in basic blocks the second one).
    Raises UserError for weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        name: ResNetName,
        weights: str | None = None,
        frozen_stages: int = 1,
        norm: Literal["frozen_bn", "bn"] = "frozen_bn",
        deformable_stages: Sequence[int] = (),
        modulated: bool = True,
        out_levels: Sequence[int] = (3, 4, 5),
    ) -> None:
        super().__init__()
        if not 0 <= frozen_stages <= len(LEVELS):
            raise ValueError(f"Expected frozen_stages in 0..{len(LEVELS)}, got {frozen_stages}.")
        if not set(deformable_stages) <= set(LEVELS):
            raise ValueError(f"Expected deformable_stages from {LEVELS}, got {tuple(deformable_stages)}.")
        net = build_network(name)
        if weights is not None:
            load_weights(net, name, weights)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        stages = {level: getattr(net, f"layer{level - 1}") for level in LEVELS}
        widths = []
        for stage in stages.values():
            last = stage[-1]
            widths.append((last.conv3 if hasattr(last, "conv3") else last.conv2).out_channels)
        self._set_outputs(out_levels, widths)
        for level in deformable_stages:
            for block in stages[level]:
                block.conv2 = DeformableConv2d(block.conv2, modulated)
        self.stages = nn.ModuleList(stages[level] for level in LEVELS if level <= self.out_levels[-1])
        if norm == "frozen_bn":
            fold_frozen_norms(self)
        self.frozen = [self.stem, *self.stages[:frozen_stages]] if frozen_stages else []
        for part in self.frozen:
            part.requires_grad_(False)
        self.frozen_stages = frozen_stages

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        for part in self.frozen:
            part.eval()  # a frozen batch norm must not gather statistics either
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            x = self.stem(images)
        outputs = []
        for index, (level, stage) in enumerate(zip(LEVELS, self.stages)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.frozen_stages):
                x = stage(x)
            if level in self.out_levels:
                outputs.append(x)
        return outputs


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with group norm and a shortcut, averaged and projected where shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.norm1 = group_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = group_norm(channels)
        shortcut: list[nn.Module] = []
        if stride != 1:
            # He et al. 2019 (ResNet-D). A strided 1 × 1 convolution would drop three pixels of four, and on 8
            # channels in channels_last it writes past its memory in oneDNN (torch 2.15 on the CPU).
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
        if stride != 1 or in_channels != channels:
            shortcut += [nn.Conv2d(in_channels, channels, 1, bias=False), group_norm(channels)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm1(self.conv1(x)).relu_()
        return self.norm2(self.conv2(out)).add_(self.shortcut(x)).relu_()


class SmallBackbone(Backbone):
    """A small residual network with group norm, trained from scratch on a CPU.

    The stem sees 7 × 7 pixels and is wide: with a 3 × 3 stem of 24 channels, what textures a detector could tell
    apart was left to the chance of its first filters, and seeds differed by several AP.

    channels: of the stem (stride 2) and of the four stages (strides 4, 8, 16, 32: levels 2 to 5), multiples
    of 8. blocks: residual blocks per stage. seed: of the first weights, the same for every run; None
    leaves them to the run's own seed. Papers start all their runs from one pretrained backbone; started from one
    random backbone, runs of different seeds differ less, and methods can be told apart with fewer of them.
    """

    def __init__(
        self,
        channels: Sequence[int] = (48, 48, 64, 128, 192),
        blocks: Sequence[int] = (1, 1, 1, 1),
        out_levels: Sequence[int] = (3, 4, 5),
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        if len(channels) != len(LEVELS) + 1:
            raise ValueError(f"Expected {len(LEVELS) + 1} channels (stem, four stages), got {tuple(channels)}.")
        if len(blocks) != len(LEVELS) or min(blocks) < 1:
            raise ValueError(f"Expected {len(LEVELS)} positive block counts, got {tuple(blocks)}.")
        self._set_outputs(out_levels, channels[1:])
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 7, 2, 3, bias=False), group_norm(channels[0]), nn.ReLU(inplace=True)
        )
        self.stages = nn.ModuleList()
        for (before, after), count, level in zip(itertools.pairwise(channels), blocks, LEVELS):
            if level <= self.out_levels[-1]:
                rest = [ResidualBlock(after, after, 1) for _ in range(count - 1)]
                self.stages.append(nn.Sequential(ResidualBlock(before, after, 2), *rest))
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        outputs = []
        for level, stage in zip(LEVELS, self.stages):
            x = stage(x)
            if level in self.out_levels:
                outputs.append(x)
        return outputs
