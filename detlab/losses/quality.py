"""Losses of the quality branch: how well the box at an anchor will sit, learned as a probability.

Each object has `target(matched) -> [P]` in [0, 1], also used to weight the box loss, and is called with a `Matched`
for the binary cross-entropy against it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from detlab.losses.classification import cross_entropy_elementwise
from detlab.ops.boxes import aligned_iou
from detlab.structures import Matched


class QualityLoss(nn.Module, ABC):
    """Binary cross-entropy of the quality logits against `target`.

    `predicts_iou`: whether the branch predicts the IoU of its box, so that evaluation measures how well.
    """

    requires = frozenset({"quality"})
    predicts_iou = False

    @abstractmethod
    def target(self, matched: Matched) -> Tensor:
        """What the branch should say, ``[P]`` in [0, 1], without gradient."""

    def forward(self, matched: Matched) -> Tensor:
        """One loss per positive ``[P]``, float32, unweighted."""
        if matched.quality is None:
            raise ValueError(
                f"Expected predictions with a quality branch for {type(self).__name__}, got a head without one."
            )
        return cross_entropy_elementwise(matched.quality, self.target(matched))


class Centerness(QualityLoss):
    """Target: how near the anchor's centre is to the middle of its ground truth (Tian et al. 2019, Eq. 3)."""

    def target(self, matched: Matched) -> Tensor:
        return centerness(matched.anchor_boxes, matched.target_boxes)


class PredictedIoU(QualityLoss):
    """Target: IoU of the predicted box, taken as a constant, with its ground truth (Wu et al. 2020)."""

    predicts_iou = True

    def target(self, matched: Matched) -> Tensor:
        return predicted_iou(matched)


@torch.no_grad()
def predicted_iou(matched: Matched) -> Tensor:
    """IoU of each positive's predicted box with its ground truth ``[P]`` in [0, 1], without gradient."""
    return aligned_iou(matched.boxes.detach().float(), matched.target_boxes)


@torch.no_grad()
def centerness(anchor_boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) · min(t, b) / max(t, b)) for the distances of the anchor's centre to the sides.

    ``[P, 4]`` and ``[P, 4]`` xyxy → ``[P]`` in [0, 1]; 0 for a centre on or outside the border.
    """
    center = (anchor_boxes[..., :2] + anchor_boxes[..., 2:]) / 2
    before, after = center - target_boxes[..., :2], target_boxes[..., 2:] - center
    near, far = torch.minimum(before, after).clamp(min=0), torch.maximum(before, after)
    ratio = near / far.clamp(min=torch.finfo(far.dtype).tiny)
    return (ratio[..., 0] * ratio[..., 1]).sqrt()
