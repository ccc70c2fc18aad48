"""A second stage that tells sides by intervals, and how certain it is of them (Li et al. 2021, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from detlab.losses.interval import IntervalLoss
from detlab.models.heads.box import BoxHead, BoxOutput, Decoded
from detlab.ops.boxes import BoxCoder
from detlab.ops.interval_coder import IntervalCoder


class IntervalHead(BoxHead):
    """`BoxHead` whose box is one for all classes, in the outputs of an `IntervalCoder`; its quality is their certainty
    v (Eq. 4).

    intervals: how boxes are told; coder, of offsets, is idle. beta and the weights: see `IntervalLoss`. The rest is
    that of `BoxHead`, which raises what this raises.
    """

    requires = frozenset({"two_stages"})

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        levels: Sequence[int],
        coder: BoxCoder,
        intervals: IntervalCoder,
        beta: float = 1.0,
        regression_weight: float = 1.0,
        places_weight: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, num_classes, levels, coder, **settings)
        self.intervals = intervals
        self.loss = IntervalLoss(intervals, beta, regression_weight, places_weight)
        self.predictor.bbox_pred = nn.Linear(self.predictor.bbox_pred.in_features, intervals.values)
        nn.init.normal_(self.predictor.bbox_pred.weight, std=0.001)
        intervals.initialise(self.predictor.bbox_pred.bias)

    def _places(self, outputs: Tensor) -> Tensor:
        return outputs

    def decode(self, output: BoxOutput, regions: Tensor) -> Decoded:
        boxes = self.intervals.decode(output.places, regions)[:, None].expand(-1, self.num_classes, 4)
        return Decoded(boxes, output.places, self.intervals.quality(output.places).logit(1e-6))

    def localization(self, output: BoxOutput, regions: Tensor, labels: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        return self.loss.of(output.places, targets, regions)
