"""The head of a YOLO: 5 + K numbers for every anchor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from detlab.models.heads import HeadOutput, _per_anchor, _tower


class YOLOHead(nn.Module):
    """Per level one tower of `convs` convolutions and one that gives x̂, ŷ, ŵ, ĥ, an objectness logit and
    `num_classes` class logits for each anchor (Appendix A of the proxy paper: a tensor [g, g, A, 5 + K]).

    Levels share nothing, since the k-th anchor of one has nothing in common with the k-th of another. norm: "gn" puts
    group norm behind each convolution of the towers. prior: the objectness every anchor starts with; all classes start
    alike. What `DenseHead` calls quality is the objectness here.

    Raises ValueError for counts below 1 (convs: below 0) or a prior outside (0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        anchors_per_location: int,
        num_levels: int,
        convs: int = 2,
        channels: int = 256,
        norm: Literal["gn"] | None = "gn",
        prior: float = 0.01,
    ) -> None:
        super().__init__()
        if min(in_channels, num_classes, anchors_per_location, num_levels, channels) < 1 or convs < 0:
            raise ValueError(
                f"Expected positive in_channels, num_classes, anchors_per_location, num_levels and channels and "
                f"convs ≥ 0, got {(in_channels, num_classes, anchors_per_location, num_levels, channels, convs)}."
            )
        if not 0 < prior < 1:
            raise ValueError(f"Expected a prior probability between 0 and 1, got {prior}.")
        self.num_classes = num_classes
        values, last = 5 + num_classes, channels if convs else in_channels
        self.towers = nn.ModuleList(_tower(in_channels, channels, convs, norm) for _ in range(num_levels))
        self.outputs = nn.ModuleList(nn.Conv2d(last, anchors_per_location * values, 1) for _ in range(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for output in self.outputs:
            assert isinstance(output, nn.Conv2d)
            assert output.bias is not None
            with torch.no_grad():
                output.bias.view(anchors_per_location, values)[:, 4] = -math.log((1 - prior) / prior)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Maps ``[B, in_channels, h, w]``, one per level, finest first → class logits, (x̂, ŷ, ŵ, ĥ) as deltas, and the
        objectness as quality."""
        values = 5 + self.num_classes
        found = [
            _per_anchor(output(tower(x)), values)
            for x, tower, output in zip(features, self.towers, self.outputs, strict=True)
        ]
        deltas, objectness, logits = torch.cat(found, 1).split([4, 1, self.num_classes], -1)
        return HeadOutput(logits, deltas, objectness[..., 0])
