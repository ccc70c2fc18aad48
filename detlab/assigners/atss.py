"""Adaptive training sample selection (Zhang et al. 2020, https://arxiv.org/abs/1912.02424)."""

from __future__ import annotations

import torch
from torch import Tensor

from detlab.assigners.overlap import PaddedTargets, image_chunks, overlaps_crowd, pad_targets
from detlab.ops.boxes import aligned_iou
from detlab.structures import BACKGROUND, IGNORED, Anchors, Assignment, Predictions, Targets


class ATSS:
    """Algorithm 1: a threshold of its own for every ground truth, from the statistics of its candidates.

    Candidates: on each pyramid level the `topk` anchors (all, on a level with fewer) whose centres are nearest to
    the box's centre; at equal distance the lower index. Threshold: mean + standard deviation of the candidates'
    IoUs, the deviation with n − 1 in the denominator as in the authors' code (0 for a single candidate).
    Positive: IoU ≥ threshold and centre strictly inside the box. An anchor claimed by several ground truths goes
    to the one with the highest IoU, at equal IoU to the first. Everything else is background, except anchors with
    `ignore_ioa` of their area inside a ground truth flagged `ignore`: those are ignored.

    `topk` counts anchors: with K anchors per location the authors take 9 · K.
    Raises ValueError for topk < 1 or `ignore_ioa` outside (0, 1].
    """

    def __init__(self, topk: int = 9, ignore_ioa: float = 0.5) -> None:
        if topk < 1:
            raise ValueError(f"Expected topk of at least 1, got {topk}.")
        if not 0 < ignore_ioa <= 1:
            raise ValueError(f"Expected ignore_ioa in (0, 1], got {ignore_ioa}.")
        self.topk = topk
        self.ignore_ioa = ignore_ioa

    @torch.no_grad()
    def __call__(
        self,
        anchors: Anchors,
        targets: list[Targets],
        predictions: Predictions | None = None,  # noqa: ARG002
    ) -> Assignment:
        """``anchors [A]`` and B images' targets → gt_index int64 ``[B, A]``."""
        boxes = anchors.boxes.float()
        padded = pad_targets(targets)
        if len(boxes) == 0:
            return Assignment(torch.full((len(targets), 0), BACKGROUND, device=boxes.device))
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        candidates = nearest_per_level(padded, centers, anchors.level_sizes, self.topk)  # [B, G, K]
        iou = aligned_iou(boxes[candidates], padded.boxes[:, :, None])  # [B, G, K]
        spread = iou.std(-1) if iou.shape[-1] > 1 else torch.zeros_like(iou[..., 0])
        threshold = iou.mean(-1) + spread
        center = centers[candidates]  # [B, G, K, 2]
        inside = ((center > padded.boxes[:, :, None, :2]) & (center < padded.boxes[:, :, None, 2:])).all(-1)
        positive = (iou >= threshold[..., None]) & inside & padded.matchable[..., None]
        index = highest_iou_wins(candidates, iou, positive, len(boxes))
        crowd = overlaps_crowd(padded, boxes, self.ignore_ioa)
        return Assignment(index.masked_fill_(crowd & (index < 0), IGNORED))


def nearest_per_level(padded: PaddedTargets, centers: Tensor, level_sizes: tuple[int, ...], topk: int) -> Tensor:
    """The `topk` anchors of each level nearest to each ground truth's centre.

    ``centers [A, 2]`` → indices into A, int64 ``[B, G, K]``, K = Σ over levels of min(topk, size).
    """
    chosen = []
    for images in image_chunks(padded, max(level_sizes)):
        boxes = padded.boxes[images]
        middle = ((boxes[..., :2] + boxes[..., 2:]) / 2)[..., None, :]  # [b, G, 1, 2]
        per_level, start = [], 0
        for size in level_sizes:
            x, y = centers[start : start + size].t().contiguous()
            distance = (x - middle[..., 0]).square_().add_((y - middle[..., 1]).square_())  # [b, G, size]
            per_level.append(smallest(distance, min(topk, size)) + start)
            start += size
        chosen.append(torch.cat(per_level, -1))
    return torch.cat(chosen)


def smallest(values: Tensor, count: int) -> Tensor:
    """Indices of the `count` smallest of non-negative float32 ``values [..., n]``; at a tie the lower index.

    `topk` leaves ties open, and on a grid of anchors they are the rule. Bits of non-negative floats sort like the
    floats, so value and index fit into one integer key.
    """
    key = values.view(torch.int32).to(torch.int64) << 32
    key |= torch.arange(values.shape[-1], device=values.device)
    return key.topk(count, largest=False).values & 0xFFFFFFFF


def highest_iou_wins(candidates: Tensor, iou: Tensor, positive: Tensor, anchor_count: int) -> Tensor:
    """``[B, G, K]`` each → gt_index ``[B, A]``: background, or the positive claim with the highest IoU."""
    batch, ground_truths, _ = candidates.shape
    anchor = candidates.flatten(1)
    claim = iou.masked_fill(~positive, -1.0).flatten(1)
    best = claim.new_full((batch, anchor_count), -1.0).scatter_reduce_(1, anchor, claim, "amax")
    wins = positive.flatten(1) & (claim == best.gather(1, anchor))
    number = torch.arange(ground_truths, device=iou.device)[:, None].expand(candidates.shape[1:]).flatten()
    number = torch.where(wins, number, ground_truths)
    index = number.new_full((batch, anchor_count), ground_truths).scatter_reduce_(1, anchor, number, "amin")
    return torch.where(index < ground_truths, index, BACKGROUND)
