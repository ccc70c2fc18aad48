"""Localisation as classification and refinement (Li et al. 2021, Eqs. 3 and 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detlab.ops.interval_coder import IntervalCoder
from detlab.structures import Matched


class IntervalLoss(nn.Module):
    """Which interval holds each side, and how far from its centre, summed over the four sides.

    Of the intervals, binary cross-entropy over all K (Eq. 3 as printed has only the term of the right one, which is
    least where every score is +∞), or with the coder's "softmax" the cross-entropy among them. Of the offsets, that of
    the right interval alone, smooth-L1 in intervals; none for a side beyond its segment. places_weight,
    regression_weight: of the two, 1 in Eq. 5. A sum over K intervals of four sides is many times a classification's
    loss, and takes the features that both share for itself where the weight is 1 and data are few.

    `coder` must be the one the detector decodes with. Raises ValueError without one and for a negative beta or weight.
    """

    requires = frozenset({"intervals"})

    def __init__(
        self, coder: IntervalCoder | None, beta: float = 1.0, regression_weight: float = 1.0, places_weight: float = 1.0
    ) -> None:
        super().__init__()
        if coder is None:
            raise ValueError("Expected a detector that tells sides by intervals (localization=dense_intervals).")
        if min(beta, regression_weight, places_weight) < 0:
            raise ValueError(
                "Expected beta, regression_weight and places_weight of at least 0, got "
                f"{beta}, {regression_weight} and {places_weight}."
            )
        self.coder, self.beta = coder, beta
        self.regression_weight, self.places_weight = regression_weight, places_weight

    def forward(self, matched: Matched) -> Tensor:
        """One loss per positive ``[P]``, float32, unweighted."""
        return self.of(matched.deltas, matched.target_boxes, matched.anchor_boxes)

    def of(self, outputs: Tensor, boxes: Tensor, regions: Tensor) -> Tensor:
        """``outputs [P, 8 · K]`` against ``boxes [P, 4]`` seen from ``regions [P, 4]``: ``[P]``, float32 or wider."""
        target = self.coder.encode(boxes, regions)
        scores, offsets = self.coder.split(outputs.to(torch.promote_types(outputs.dtype, torch.float32)))
        if self.coder.probability == "softmax":
            places = -scores.log_softmax(-1).gather(-1, target.interval[..., None])[..., 0]
        else:
            right = F.one_hot(target.interval, self.coder.intervals).to(scores)
            places = F.binary_cross_entropy_with_logits(scores, right, reduction="none").sum(-1)
        offset = offsets.gather(-1, target.interval[..., None])[..., 0]
        rest = F.smooth_l1_loss(offset, target.offset.to(offset), reduction="none", beta=self.beta) * target.inside
        return (self.places_weight * places + self.regression_weight * rest).sum(-1)

    def extra_repr(self) -> str:
        return (
            f"intervals={self.coder.intervals}, beta={self.beta}, regression_weight={self.regression_weight}, "
            f"places_weight={self.places_weight}"
        )
