"""The criterion of Rank & Sort loss (Oksuz et al. 2021, https://arxiv.org/abs/2107.11669)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from detlab.losses.error_driven import check_delta
from detlab.losses.iou import iou_loss
from detlab.losses.quality import predicted_iou
from detlab.losses.ranking import rank_sort_loss
from detlab.losses.ranking_classification import ranking_targets, share_of_process
from detlab.structures import Matched

_TINY = 1e-6


class RankSortCriterion(nn.Module):
    """Rank & Sort loss with a balanced box loss: `Matched` → its terms classification and localization.

    Positives are ranked above negatives and sorted by the IoU of their predicted boxes. The box loss is weighted by
    the scores the positives have (sigmoid, without gradient), normalised by their sum, and brought to the size of the
    classification loss at every step: its gradient and value are those of L_RS / L_box · L_box, the ratio a constant.
    kind: iou or giou. delta: half the width of the ramp.
    Weights and ranking as in `detlab.losses.alrp.ALRPCriterion`. Raises ValueError for an unknown kind or a delta not
    above 0.
    """

    provides: frozenset[str] = frozenset()  # a ranking has no soft weights
    requires = frozenset({"one_stage"})

    def __init__(self, kind: Literal["iou", "giou"] = "giou", delta: float = 0.5) -> None:
        super().__init__()
        if kind not in ("iou", "giou"):
            raise ValueError(f"Expected kind iou or giou, got {kind!r}.")
        check_delta(delta)
        self.kind: Literal["iou", "giou"] = kind
        self.delta = delta

    def forward(self, matched: Matched) -> dict[str, Tensor]:
        """Scalars by name, normalised."""
        if matched.quality is not None:
            raise ValueError("Expected a head without a quality branch for Rank & Sort, whose scores tell the quality.")
        targets, kept = ranking_targets(matched)
        classification = rank_sort_loss(matched.logits, targets, predicted_iou(matched)[kept], self.delta)
        with torch.no_grad():
            row, column = matched.positive, matched.labels.flatten()[matched.positive]
            weights = matched.logits.flatten(0, 1)[row, column].float().sigmoid() * kept
        boxes = (iou_loss(matched.boxes, matched.target_boxes, self.kind) * weights).sum()
        boxes = boxes / weights.sum().clamp(min=_TINY)
        balance = (classification / boxes.clamp(min=_TINY)).detach()
        share = share_of_process(matched)
        return {"classification": share * classification, "localization": share * balance * boxes}

    def extra_repr(self) -> str:
        return f"kind={self.kind}, delta={self.delta}"
