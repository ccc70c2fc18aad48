"""Task-aligned assignment (Feng et al. 2021, TOOD, https://arxiv.org/abs/2108.07755, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detlab.assigners.overlap import PaddedTargets, image_chunks, overlaps_crowd, pad_targets
from detlab.ops.boxes import aligned_iou
from detlab.structures import BACKGROUND, IGNORED, Anchors, Assignment, Predictions, Targets


class TaskAligned:
    """Positives of an object are the `topk` anchors with the highest alignment t = s^alpha · u^beta (Eq. 1).

    s is the predicted score of the object's class, a sigmoid, and u the IoU of the predicted box with the object. Only
    anchors whose center is strictly inside the object and whose t is above 0 are candidates; of equal t the lower index
    is taken. An anchor that several objects take goes to the one with the larger t, at equal t to the first. All other
    anchors are background, except those with `ignore_iof_thr` of their area inside an object flagged `ignore`: they are
    ignored. An object that holds no anchor's center has no positives.

    These are the hard matches; the soft targets t̂ are `detlab.losses.task_aligned.TaskAlignedCriterion`'s.

    Args:
        alpha: exponent of the score.
        beta: exponent of the IoU.
        topk: positives of an object at most.
        ignore_iof_thr: share of an anchor inside an ignored object from which it is ignored.

    Raises:
        ValueError: `alpha` or `beta` below 0, `topk` below 1, `ignore_iof_thr` outside (0, 1], and in the call without
            predictions.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 6.0, topk: int = 13, ignore_iof_thr: float = 0.5) -> None:
        if min(alpha, beta) < 0:
            raise ValueError(f"Expected alpha and beta of at least 0, got {alpha} and {beta}.")
        if topk < 1:
            raise ValueError(f"Expected topk of at least 1, got {topk}.")
        if not 0 < ignore_iof_thr <= 1:
            raise ValueError(f"Expected ignore_iof_thr in (0, 1], got {ignore_iof_thr}.")
        self.alpha, self.beta, self.topk = alpha, beta, topk
        self.ignore_iof_thr = ignore_iof_thr

    @torch.no_grad()
    def __call__(self, anchors: Anchors, targets: list[Targets], predictions: Predictions | None = None) -> Assignment:
        """``anchors [A]`` and B images' targets and predictions → gt_index int64 ``[B, A]``."""
        if predictions is None:
            raise ValueError("Expected predictions for TaskAligned, which goes by their alignment; got none.")
        boxes, padded = anchors.boxes.float(), pad_targets(targets)
        index = torch.full((len(targets), len(boxes)), BACKGROUND, device=boxes.device)
        if not len(boxes):
            return Assignment(index)
        labels = _pad_labels(targets)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        for images in image_chunks(padded, 4 * len(boxes)):
            part = PaddedTargets(*(field[images] for field in padded))
            score = class_scores(predictions.logits[images], labels[images])
            iou = aligned_iou(part.boxes[:, :, None], predictions.boxes[images, None].float())  # [b, G, A]
            metric = alignment(score, iou, self.alpha, self.beta).nan_to_num_(nan=0.0)
            metric.masked_fill_(~(centers_inside(centers, part.boxes) & part.matchable[..., None]), 0.0)
            index[images] = largest_alignment_wins(metric, self.topk)
        crowd = overlaps_crowd(padded, boxes, self.ignore_iof_thr)
        return Assignment(index.masked_fill_(crowd & (index < 0), IGNORED))


def alignment(score: Tensor, iou: Tensor, alpha: float, beta: float) -> Tensor:
    """t = s^alpha · u^beta of scores and IoUs in [0, 1], broadcast (Eq. 1)."""
    return score**alpha * iou**beta


def class_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """Sigmoid scores of each object's class, float32 ``[B, G, A]``, of ``logits [B, A, C]`` and ``labels [B, G]``."""
    index = labels[..., None].expand(-1, -1, logits.shape[1])
    return logits.transpose(1, 2).gather(1, index).float().sigmoid()


def centers_inside(centers: Tensor, boxes: Tensor) -> Tensor:
    """Whether ``centers [A, 2]`` are strictly inside ``boxes [B, G, 4]``: bool ``[B, G, A]``."""
    return ((centers > boxes[..., None, :2]) & (centers < boxes[..., None, 2:])).all(-1)


def largest_alignment_wins(metric: Tensor, topk: int) -> Tensor:
    """Match anchors to objects by their alignment.

    Args:
        metric: float32 ``[B, G, A]``, at least 0; 0: no candidate.
        topk: anchors of an object at most.

    Returns:
        gt_index ``[B, A]``: of the objects that have the anchor among their `topk` the one of the largest t.
    """
    best = largest(metric, min(topk, metric.shape[-1]))  # [B, G, K]
    chosen = torch.zeros_like(metric).scatter_(-1, best, metric.gather(-1, best))
    value, winner = chosen.max(1)  # at a tie the first
    return torch.where(value > 0, winner, BACKGROUND)


def largest(values: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest of non-negative float32 ``values [..., n]``; at a tie the lower index.

    Bits of non-negative floats sort like the floats, so value and index fit into one integer key.
    """
    last = values.shape[-1] - 1
    key = values.contiguous().view(torch.int32).to(torch.int64) << 32
    key |= last - torch.arange(last + 1, device=values.device)
    return last - (key.topk(count).values & 0xFFFFFFFF)


def _pad_labels(targets: list[Targets]) -> Tensor:
    """Labels int64 ``[B, G]``, padded with 0 to the G ≥ 1 of `pad_targets`."""
    labels = pad_sequence([t.labels for t in targets], batch_first=True)
    return labels if labels.shape[1] else labels.new_zeros(len(targets), 1)
