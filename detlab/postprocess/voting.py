"""Score voting: each kept box becomes a weighted mean of the boxes around it (Kim and Lee 2020, section 3.3)."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from detlab.ops.boxes import aligned_iou
from detlab.postprocess.candidates import Candidates, Suppression, best_of_images
from detlab.postprocess.nms import ClassNMS

# Pairs of a box and one that may vote on it, looked at at a time. On CUDA a call costs more than the pairs it looks at,
# on the CPU more pairs only leave the cache.
PAIRS, PAIRS_CPU = 2**20, 2**17


class ScoreVoting:
    """`nms`, and then a vote of everything that went into it on each box that is left (Eqs. 9-10).

    Votes stay inside one image and one class. Scores, order and number of boxes are those of `nms`. The constants are
    the authors' released code's; the paper prints sigma 0.0025 and IoU > 0 (`score_voting` says more).
    use_scores: weight a vote by its score, too; without, by its overlap alone, which the paper recommends where there
    is no quality branch. limit: keep and vote on only so many boxes of each image, since `Postprocess` drops the
    rest anyway; None: on all.

    Raises ValueError for a sigma of 0 or less, a min_iou outside [0, 1) or a limit below 1.
    """

    def __init__(
        self,
        nms: Suppression | None = None,
        sigma: float = 0.025,
        min_iou: float = 0.01,
        use_scores: bool = True,
        limit: int | None = None,
    ) -> None:
        _refuse(sigma, min_iou)
        if limit is not None and limit < 1:
            raise ValueError(f"Expected a limit of at least 1 box, got {limit}.")
        self.nms: Suppression = ClassNMS() if nms is None else nms
        self.sigma = sigma
        self.min_iou = min_iou
        self.use_scores = use_scores
        self.limit = limit

    def __call__(self, candidates: Candidates) -> Candidates:
        kept = self.nms(candidates)
        if self.limit is not None:
            kept = best_of_images(kept, self.limit)
        if len(kept.scores) == 0:
            return kept
        classes = candidates.labels.max() + 1
        voted = score_voting(
            kept.boxes,
            kept.images * classes + kept.labels,
            candidates.boxes,
            candidates.scores if self.use_scores else None,
            candidates.images * classes + candidates.labels,
            self.sigma,
            self.min_iou,
        )
        return kept._replace(boxes=voted)


@torch.no_grad()
def score_voting(
    boxes: Tensor,
    labels: Tensor,
    candidate_boxes: Tensor,
    candidate_scores: Tensor | None,
    candidate_labels: Tensor,
    sigma: float = 0.025,
    min_iou: float = 0.01,
) -> Tensor:
    """Each of ``boxes [N, 4]`` as the mean of the candidates of its class that overlap it by more than `min_iou`,
    weighted by p_i · s_i with p_i = exp(−(1 − IoU)² / sigma) → ``[N, 4]`` xyxy.

    ``labels [N]`` and ``candidate_labels [M]`` int64, ``candidate_boxes [M, 4]`` xyxy in the same pixels,
    ``candidate_scores [M]`` ≥ 0 the scores that NMS ranked by, or None for p_i alone. A box on which no candidate votes
    stays as it is. Half precision is computed and returned in float32. Equal to a loop over the boxes whatever the
    number of pairs, of which a bounded number is looked at at a time.

    The formula is the paper's (Eqs. 9-10) and the released code's alike; only the constants differ, by ten in sigma.
    Defaults: the code, 0.025 and 0.01. Printed: σ_t = 0.0025 (section 4.1) and IoU > 0.

    Raises ValueError for a sigma of 0 or less or a min_iou outside [0, 1).
    """
    _refuse(sigma, min_iou)
    kind = torch.promote_types(boxes.dtype, torch.float32)
    boxes = boxes.to(kind)
    order = candidate_labels.argsort(stable=True)
    by_label, voters = candidate_labels[order], candidate_boxes[order].to(kind)
    # Weights are kept as logarithms, which do not underflow, however far the voters or low the scores.
    log_scores = voters.new_zeros(len(voters)) if candidate_scores is None else candidate_scores[order].to(kind).log()
    first = torch.searchsorted(by_label, labels.contiguous())
    count = torch.searchsorted(by_label, labels.contiguous(), right=True) - first
    widest = int(count.max()) if len(count) else 0
    planes = F.pad(voters.T, (0, widest)).contiguous()  # windows may reach beyond the last
    voted = boxes.clone()
    for rows, width in _chunks(count, PAIRS if boxes.is_cuda else PAIRS_CPU):
        row, slot = _meeting(boxes[rows], planes, first[rows], count[rows], width).nonzero(as_tuple=True)
        voter = first[rows][row] + slot
        own, others = boxes[rows[row]], voters[voter]  # [P, 4]
        iou = aligned_iou(own, others)
        log_weight = (log_scores[voter] - (1 - iou) ** 2 / sigma).masked_fill(~(iou > min_iou), -torch.inf)
        largest = log_weight.new_full((len(rows),), torch.finfo(kind).min).scatter_reduce(0, row, log_weight, "amax")
        weight = (log_weight - largest[row]).exp()
        summed = torch.cat([weight[None], weight * (others - own).T])  # [5, P]
        sums = weight.new_zeros(5, len(rows)).scatter_add(1, row.expand(5, -1), summed)
        # The largest weight of a row is 1, if there is one: less than 1 is 0.
        voted[rows] += (sums[1:] / sums[0].clamp(min=1)).T
    return voted


def _meeting(boxes: Tensor, planes: Tensor, first: Tensor, count: Tensor, width: int) -> Tensor:
    """Whether ``boxes [R, 4]`` have area in common with each of the voters ``first[r] … first[r] + count[r] − 1`` →
    bool ``[R, width]``.

    All that is done for every pair. ``planes [4, M]`` are the voters' coordinates, so that windows of them are copied
    in one piece each.
    """
    x1, y1, x2, y2 = (plane.unfold(0, width, 1)[first] for plane in planes)  # [R, width] each
    left, top, right, bottom = boxes.T[..., None]
    slot = torch.arange(width, device=boxes.device)
    return (
        (torch.minimum(x2, right) > torch.maximum(x1, left))
        & (torch.minimum(y2, bottom) > torch.maximum(y1, top))
        & (slot < count[:, None])
    )


def _chunks(counts: Tensor, pairs: int) -> Iterator[tuple[Tensor, int]]:
    """Rows ``[R]`` of like counts, and the largest of these, R times which is at most `pairs` where R > 1."""
    by_count = counts.argsort(descending=True, stable=True)
    falling = counts[by_count].tolist()
    start = 0
    while start < len(falling) and falling[start] > 0:
        width = falling[start]
        half = bisect.bisect_right(falling, -width / 2, lo=start, key=lambda count: -count)
        end = min(start + max(1, pairs // width), half)
        yield by_count[start:end], width
        start = end


def _refuse(sigma: float, min_iou: float) -> None:
    if not sigma > 0 or not 0 <= min_iou < 1:
        raise ValueError(f"Expected sigma above 0 and min_iou in [0, 1), got {sigma} and {min_iou}.")
