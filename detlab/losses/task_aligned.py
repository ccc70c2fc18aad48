"""Losses with task-aligned soft targets (Feng et al. 2021, TOOD, https://arxiv.org/abs/2108.07755, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from detlab.losses.criterion import ClassificationLoss, Criterion, LocalizationLoss
from detlab.losses.quality import QualityLoss, predicted_iou
from detlab.structures import Matched


class TaskAlignedCriterion(Criterion):
    """`Criterion` whose positives have the normalized alignment t̂ as class target and as weight of their boxes.

    t = s^alpha · u^beta of each positive, its score and the IoU of its box, is scaled per object so that the largest t̂
    is the largest IoU of the object's positives. A classification loss of soft targets with the form of Eq. 5 is
    focal loss without class balance (``loss/classification=quality_focal``); box losses are weighted by t̂ (Eq. 6), and
    everything is divided by the sum of t̂, at least 1, as in the authors' code. Soft class probabilities of
    pseudo-labels are multiplied by t̂.

    Goes with any assigner, `detlab.assigners.task_aligned.TaskAligned` is the paper's.

    Args:
        classification: of soft `class_targets`.
        localization: box loss.
        quality: loss of a quality branch, weighted by t̂ like the boxes.
        classification_weight: factor of the classification loss.
        localization_weight: factor of the box loss.
        quality_weight: factor of the quality loss.
        alpha: exponent of the score, that of the assigner.
        beta: exponent of the IoU, that of the assigner.

    Raises:
        ValueError: a weight, `alpha` or `beta` below 0.
    """

    def __init__(
        self,
        classification: ClassificationLoss,
        localization: LocalizationLoss,
        quality: QualityLoss | None = None,
        classification_weight: float = 1.0,
        localization_weight: float = 1.0,
        quality_weight: float = 1.0,
        alpha: float = 1.0,
        beta: float = 6.0,
    ) -> None:
        weights = (classification_weight, localization_weight, quality_weight)
        super().__init__(classification, localization, quality, *weights)
        if min(alpha, beta) < 0:
            raise ValueError(f"Expected alpha and beta of at least 0, got {alpha} and {beta}.")
        self.alpha, self.beta = alpha, beta

    def forward(self, matched: Matched) -> dict[str, Tensor]:
        """Compute the terms by name, normalized and weighted scalars."""
        return super().forward(align(matched, self.alpha, self.beta))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, alpha={self.alpha}, beta={self.beta}"


@torch.no_grad()
def align(matched: Matched, alpha: float, beta: float) -> Matched:
    """Give the positives of `matched` their t̂ as soft class target and as factor of their box weight."""
    target = alignment_targets(matched, alpha, beta)  # [P]
    classes = matched.logits.shape[-1]
    if matched.class_targets is None:
        soft = target.new_zeros(matched.logits.shape)
        rows = one_hot(matched.labels.flatten()[matched.positive], classes).to(target)
    else:
        soft = matched.class_targets.to(target, copy=True)
        rows = soft.flatten(0, 1)[matched.positive]
    soft.view(-1, classes)[matched.positive] = rows * target[:, None]
    return matched._replace(class_targets=soft, box_weights=matched.box_weights * target)


@torch.no_grad()
def alignment_targets(matched: Matched, alpha: float, beta: float) -> Tensor:
    """t̂ of each positive: its alignment t, scaled so that an object's largest t̂ is the largest IoU of its positives.

    Two objects of an image with the same box and class count as one.

    Returns:
        float32 ``[P]`` in [0, 1].
    """
    labels = matched.labels.flatten()[matched.positive]
    score = matched.logits.flatten(0, 1)[matched.positive, labels].float().sigmoid()
    iou = predicted_iou(matched)
    metric = score**alpha * iou**beta
    count, owner = objects_of_positives(matched)
    largest_metric = metric.new_zeros(count).scatter_reduce_(0, owner, metric, "amax")
    largest_iou = iou.new_zeros(count).scatter_reduce_(0, owner, iou, "amax")
    scale = largest_iou / largest_metric.clamp(min=torch.finfo(metric.dtype).tiny)
    return metric * scale[owner]


def objects_of_positives(matched: Matched) -> tuple[int, Tensor]:
    """Number the objects of a batch: how many have positives, and int64 ``[P]`` which is each positive's."""
    image = matched.positive.div(max(1, matched.labels.shape[1]), rounding_mode="floor")
    labels = matched.labels.flatten()[matched.positive]
    keys = torch.cat([torch.stack([image, labels], 1).to(matched.target_boxes), matched.target_boxes], 1)
    unique, owner = keys.unique(dim=0, return_inverse=True)
    return len(unique), owner
