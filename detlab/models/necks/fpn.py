"""Feature pyramid network (Lin et al. 2017a) with RetinaNet's extra levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from detlab.models.norms import group_norm


class FPN(nn.Module):
    """Maps of consecutive levels with equal channels, each seeing the coarser ones.

    in_channels, in_levels: the backbone's maps, finest first. levels: consecutive output levels, starting at
    one of the backbone's; those above its last are strided convolutions, the first on the backbone's last map
    (`extra` "c5": RetinaNet) or on the pyramid's (`extra` "p5": ATSS, PAA), each further one after a ReLU; or every
    second pixel of the level below (`extra` "pool": Faster R-CNN), without weights.
    norm: "gn" adds group norm after each convolution of the pyramid.
    `forward`: list of ``[B, in_channels[i], h, w]`` → list of ``[B, out_channels, h, w]``, one per level.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_levels: Sequence[int],
        out_channels: int = 256,
        levels: Sequence[int] = (3, 4, 5, 6, 7),
        norm: Literal["gn"] | None = None,
        extra: Literal["c5", "p5", "pool"] = "c5",
    ) -> None:
        super().__init__()
        if len(in_channels) != len(in_levels):
            raise ValueError(f"Expected as many in_channels as in_levels, got {in_channels} and {in_levels}.")
        if not levels or list(levels) != list(range(levels[0], levels[-1] + 1)):
            raise ValueError(f"Expected consecutive pyramid levels, got {tuple(levels)}.")
        if extra not in ("c5", "p5", "pool"):
            raise ValueError(f"Expected extra c5, p5 or pool, got {extra!r}.")
        if levels[0] not in in_levels:
            raise ValueError(
                f"Expected pyramid levels starting at one of the backbone's {tuple(in_levels)}, got {tuple(levels)}."
            )
        self.levels = tuple(levels)
        self.out_channels = out_channels
        self.skip = list(in_levels).index(levels[0])
        used = list(in_channels)[self.skip :]
        merged = [level for level in levels if level <= in_levels[-1]]
        self.lateral = nn.ModuleList(_conv(channels, out_channels, 1, norm) for channels in used)
        self.output = nn.ModuleList(_conv(out_channels, out_channels, 3, norm) for _ in merged)
        self.from_backbone = extra == "c5"
        self.extra = nn.ModuleList()
        for index in range(len(levels) - len(merged)):
            source = in_channels[-1] if index == 0 and self.from_backbone else out_channels
            pool = extra == "pool"
            self.extra.append(nn.MaxPool2d(1, 2) if pool else nn.Conv2d(source, out_channels, 3, 2, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        inner = [lateral(x) for lateral, x in zip(self.lateral, features[self.skip :])]
        for index in range(len(inner) - 2, -1, -1):
            above = F.interpolate(inner[index + 1], size=inner[index].shape[-2:], mode="nearest")
            inner[index] = inner[index] + above
        outputs = [output(x) for output, x in zip(self.output, inner)]
        x = features[-1] if self.from_backbone else outputs[-1]
        for index, coarser in enumerate(self.extra):
            x = coarser(x.relu() if index and isinstance(coarser, nn.Conv2d) else x)
            outputs.append(x)
        return outputs


def _conv(in_channels: int, out_channels: int, kernel: int, norm: Literal["gn"] | None) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, kernel, 1, kernel // 2, bias=norm is None)
    return conv if norm is None else nn.Sequential(conv, group_norm(out_channels))
