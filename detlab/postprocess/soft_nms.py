"""Soft-NMS: what overlaps a better box loses score instead of going (Bodla et al. 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from detlab.ops.boxes import aligned_iou
from detlab.postprocess.candidates import Candidates


class SoftNMS:
    """Within each class of each image the best box is taken again and again, and each time the scores of the others
    fall with their IoU with it.

    method "gaussian": by exp(−IoU² / sigma); "linear": by 1 − IoU where IoU ≥ `iou`.
    What falls to `score_threshold` or below is dropped. Equal scores: the candidate that came first is taken first.
    Boxes are as they came, scores those with which they were taken, in falling order.
    limit: so many boxes of a class are taken at most, since `Postprocess` drops the rest anyway; None: all. All classes
    and images take their next box in one step; there are as many steps as boxes are taken of one class.

    Raises ValueError for another method, a sigma of 0 or less, an iou outside [0, 1], a score_threshold outside [0, 1)
    or a limit below 1.
    """

    def __init__(
        self,
        method: Literal["gaussian", "linear"] = "gaussian",
        sigma: float = 0.5,
        iou: float = 0.3,
        score_threshold: float = 0.001,
        limit: int | None = None,
    ) -> None:
        if method not in ("gaussian", "linear"):
            raise ValueError(f"Expected method gaussian or linear, got {method!r}.")
        if not sigma > 0 or not 0 <= iou <= 1:
            raise ValueError(f"Expected sigma above 0 and an iou in [0, 1], got {sigma} and {iou}.")
        if not 0 <= score_threshold < 1:
            raise ValueError(f"Expected score_threshold in [0, 1), got {score_threshold}.")
        if limit is not None and limit < 1:
            raise ValueError(f"Expected a limit of at least 1 box, got {limit}.")
        self.method = method
        self.sigma = sigma
        self.iou = iou
        self.score_threshold = score_threshold
        self.limit = limit

    @torch.no_grad()
    def __call__(self, candidates: Candidates) -> Candidates:
        if len(candidates.scores) == 0:
            return candidates
        classes = candidates.labels.max() + 1
        part = torch.unique(candidates.images * classes + candidates.labels, return_inverse=True)[1]
        scores = self._take(candidates.boxes, candidates.scores, part)
        taken = scores.argsort(descending=True, stable=True)[: int((scores > 0).sum())]
        return candidates._replace(scores=scores).select(taken)

    def _take(self, boxes: Tensor, scores: Tensor, part: Tensor) -> Tensor:
        """The score with which each of ``boxes [N, 4]`` is taken, 0 where it is not; ``part [N]`` from 0."""
        count, parts = len(scores), int(part.max()) + 1
        place = torch.arange(count, device=part.device)
        left, taken = scores.clone(), torch.zeros_like(scores)
        for _ in range(count if self.limit is None else self.limit):
            best = left.new_zeros(parts).scatter_reduce(0, part, left, "amax")
            is_best = (left == best[part]) & (left > self.score_threshold)
            first = part.new_full((parts,), count).scatter_reduce(0, part, place.where(is_best, count), "amin")
            index = first[first < count]
            if len(index) == 0:
                break
            taken[index] = left[index]
            left[index] = 0
            chosen = boxes[first.clamp(max=count - 1)]  # [parts, 4]; of no meaning where nothing was taken
            left *= self._decay(aligned_iou(chosen[part], boxes))
        return taken

    def _decay(self, iou: Tensor) -> Tensor:
        if self.method == "gaussian":
            return (-(iou**2) / self.sigma).exp()
        return torch.where(iou >= self.iou, 1 - iou, 1)
