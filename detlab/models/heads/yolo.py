"""The head of a YOLO: 5 + K numbers for every anchor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from detlab.models.heads.dense import HeadOutput, _per_anchor, _tower


class YOLOHead(nn.Module):
    """x̂, ŷ, ŵ, ĥ, an objectness logit and `num_classes` class logits for each anchor (Appendix A of the proxy paper: a
    tensor [g, g, A, 5 + K] of each grid).

    Two towers of `convs` convolutions, which all levels share: one for classes, one for the rest. Only anchors with an
    object teach classes, and with the others' gradients in the same tower they are learnt late. The last convolution
    is each level's own, since the k-th anchor of one has nothing in common with the k-th of another. norm: "gn" puts
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
        convs: int = 4,
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
        last = channels if convs else in_channels

        def outputs(values: int) -> nn.ModuleList:
            count = anchors_per_location * values
            return nn.ModuleList(nn.Conv2d(last, count, 3, padding=1) for _ in range(num_levels))

        self.class_tower = _tower(in_channels, channels, convs, norm)
        self.box_tower = _tower(in_channels, channels, convs, norm)
        self.logits, self.boxes = outputs(num_classes), outputs(5)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for output in self.boxes:
            assert isinstance(output, nn.Conv2d)
            assert output.bias is not None
            with torch.no_grad():
                output.bias.view(anchors_per_location, 5)[:, 4] = -math.log((1 - prior) / prior)

    def forward(self, features: Sequence[Tensor]) -> HeadOutput:
        """Maps ``[B, in_channels, h, w]``, one per level, finest first → class logits, (x̂, ŷ, ŵ, ĥ) as deltas, and the
        objectness as quality."""
        logits, boxes = [], []
        for x, to_logits, to_boxes in zip(features, self.logits, self.boxes, strict=True):
            logits.append(_per_anchor(to_logits(self.class_tower(x)), self.num_classes))
            boxes.append(_per_anchor(to_boxes(self.box_tower(x)), 5))
        deltas, objectness = torch.cat(boxes, 1).split([4, 1], -1)
        return HeadOutput(torch.cat(logits, 1), deltas, objectness[..., 0])
