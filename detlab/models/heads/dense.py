"""The dense prediction head: class scores, box offsets and, if wanted, a quality for every anchor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from detlab.models.deformable import DeformableConv2d
from detlab.models.norms import group_norm


class HeadOutput(NamedTuple):
    """logits ``[B, A, C]``, deltas ``[B, A, box_values]``, quality ``[B, A]`` logits or None; A over levels, rows,
    columns and the K anchors of a location, in this order."""

    logits: Tensor
    deltas: Tensor
    quality: Tensor | None


class DenseHead(nn.Module):
    """RetinaNet's head (Lin et al. 2017b, §4): a class tower and a box tower, shared by all levels.

    norm: "gn" puts group norm behind each of the towers' `convs` convolutions (FCOS, ATSS, PAA).
    quality: "centerness" or "iou" adds one logit per anchor from the box tower (ATSS §3.2, PAA §3.3); what it
    means is up to the criterion. prior: the class probability every anchor starts with.
    level_scales: one trainable factor per level on the offsets (FCOS). `num_levels` is needed only for them.
    box_values: outputs per anchor that a coder makes a box of, 4 offsets or those of an `IntervalCoder`.
    deformable_last: the last convolution of each tower is deformable and modulated (ATSS, PAA with DCN backbones).
    """

    @staticmethod
    def provides(options: Mapping[str, Any]) -> set[str]:
        return {"quality"} if options.get("quality", "none") != "none" else set()

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        anchors_per_location: int,
        num_levels: int,
        convs: int = 4,
        channels: int = 256,
        norm: Literal["gn"] | None = None,
        quality: Literal["none", "centerness", "iou"] = "none",
        prior: float = 0.01,
        level_scales: bool = False,
        deformable_last: bool = False,
        box_values: int = 4,
    ) -> None:
        super().__init__()
        if min(in_channels, num_classes, anchors_per_location, num_levels, channels) < 1 or convs < 0:
            raise ValueError(
                f"Expected positive in_channels, num_classes, anchors_per_location, num_levels and channels and "
                f"convs ≥ 0, got {(in_channels, num_classes, anchors_per_location, num_levels, channels, convs)}."
            )
        if not 0 < prior < 1:
            raise ValueError(f"Expected a prior probability between 0 and 1, got {prior}.")
        if deformable_last and convs == 0:
            raise ValueError("Expected convs of at least 1 for deformable_last, got 0.")
        self.num_classes = num_classes
        self.class_tower = _tower(in_channels, channels, convs, norm)
        self.box_tower = _tower(in_channels, channels, convs, norm)
        last = channels if convs else in_channels
        self.logits = nn.Conv2d(last, anchors_per_location * num_classes, 3, padding=1)
        self.box_values = box_values
        self.deltas = nn.Conv2d(last, anchors_per_location * box_values, 3, padding=1)
        self.quality = None if quality == "none" else nn.Conv2d(last, anchors_per_location, 3, padding=1)
        self.level_scales = nn.Parameter(torch.ones(num_levels)) if level_scales else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -math.log((1 - prior) / prior))
        if deformable_last:  # after the initialisation, which would move the offsets away from zero
            for tower in (self.class_tower, self.box_tower):
                index = max(i for i, layer in enumerate(tower) if isinstance(layer, nn.Conv2d))
                tower[index] = DeformableConv2d(cast(nn.Conv2d, tower[index]))

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Maps ``[B, in_channels, h, w]``, one per level, finest first."""
        logits, deltas, quality = [], [], []
        for level, x in enumerate(features):
            logits.append(_per_anchor(self.logits(self.class_tower(x)), self.num_classes))
            tower = self.box_tower(x)
            offsets = _per_anchor(self.deltas(tower), self.box_values)
            deltas.append(offsets if self.level_scales is None else offsets * self.level_scales[level])
            if self.quality is not None:
                quality.append(_per_anchor(self.quality(tower), 1)[..., 0])
        return HeadOutput(torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(quality, 1) if quality else None)


def _tower(in_channels: int, channels: int, convs: int, norm: Literal["gn"] | None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convs):
        layers.append(nn.Conv2d(channels if index else in_channels, channels, 3, padding=1, bias=norm is None))
        if norm is not None:
            layers.append(group_norm(channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _per_anchor(x: Tensor, values: int) -> Tensor:
    """``[B, K · values, H, W]`` → ``[B, H · W · K, values]``; a view if `x` is channels_last."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height * width * (channels // values), values)
