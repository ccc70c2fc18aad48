"""From dense predictions to final detections, for the whole batch at once."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

from detlab.boxes import clip_boxes
from detlab.structures import Anchors, Detections, Predictions


class Candidates(NamedTuple):
    """Boxes of a batch on their way to detections, in falling score: boxes float32 ``[N, 4]`` xyxy pixels,
    scores float32 ``[N]``, labels int64 ``[N]``, images int64 ``[N]`` (position in the batch)."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    images: Tensor

    def select(self, index: Tensor) -> Candidates:
        return Candidates(*(field[index] for field in self))


@runtime_checkable
class Suppression(Protocol):
    """Removes, rescores or moves candidates; what it returns is again in falling score."""

    def __call__(self, candidates: Candidates) -> Candidates: ...


class ClassNMS:
    """Greedy non-maximum suppression within each class of each image: a box is dropped when its IoU with a kept
    box of higher score exceeds `iou`.

    Raises ValueError for `iou` outside [0, 1].
    """

    def __init__(self, iou: float = 0.5) -> None:
        if not 0 <= iou <= 1:
            raise ValueError(f"Expected an NMS IoU in [0, 1], got {iou}.")
        self.iou = iou

    def __call__(self, candidates: Candidates) -> Candidates:
        if len(candidates.scores) == 0:
            return candidates
        # On CUDA a call costs more than the pairs it compares, on the CPU it is the other way round.
        by_class = candidates.boxes.device.type == "cpu"
        return candidates.select((nms_by_class if by_class else nms_by_image)(candidates, self.iou))


def nms_by_class(candidates: Candidates, iou: float) -> Tensor:
    """One NMS call for each class of each image → kept indices in rising order, int64."""
    groups = candidates.images * (candidates.labels.max() + 1) + candidates.labels
    return _nms_of_parts(candidates.boxes, candidates.scores, groups, iou)


def nms_by_image(candidates: Candidates, iou: float) -> Tensor:
    """One NMS call for each image, its classes shifted apart → kept indices in rising order, int64.

    In float64: torchvision's `batched_nms` shifts in float32, which costs up to a tenth of a pixel once every class
    of a batch is in one call.
    """
    boxes = candidates.boxes.double()
    shifted = boxes + (candidates.labels * (boxes.max() - boxes.min() + 1))[:, None]
    return _nms_of_parts(shifted, candidates.scores.double(), candidates.images, iou)


def _nms_of_parts(boxes: Tensor, scores: Tensor, parts: Tensor, iou: float) -> Tensor:
    order = parts.argsort(stable=True)
    counts = torch.unique_consecutive(parts[order], return_counts=True)[1].tolist()
    boxes, scores = boxes[order], scores[order]
    kept, start = [], 0
    for count in counts:
        part = slice(start, start + count)
        kept.append(nms(boxes[part], scores[part], iou) + start)
        start += count
    return order[torch.cat(kept)].sort().values


class Postprocess:
    """Scores → per-level top-k → suppression → at most `max_detections` per image.

    A candidate is an (anchor, class) whose classification score exceeds `score_threshold`. Candidates are ranked by
    that score, or, where there is a quality branch, by sqrt(score · quality) (`quality="ignore"` leaves it out); the
    best `topk_per_level` of every pyramid level go on. Boxes are clipped to the picture; boxes without area and
    non-finite scores or boxes are dropped.

    Raises ValueError for counts below 1 or a threshold outside [0, 1).
    """

    def __init__(
        self,
        nms: Suppression | None = None,
        score_threshold: float = 0.05,
        topk_per_level: int = 1000,
        max_detections: int = 100,
        quality: Literal["auto", "ignore"] = "auto",
    ) -> None:
        if not 0 <= score_threshold < 1:
            raise ValueError(f"Expected score_threshold in [0, 1), got {score_threshold}.")
        if topk_per_level < 1 or max_detections < 1:
            raise ValueError(
                f"Expected topk_per_level and max_detections of at least 1, got {topk_per_level}, {max_detections}."
            )
        if quality not in ("auto", "ignore"):
            raise ValueError(f"Expected quality auto or ignore, got {quality!r}.")
        self.nms: Suppression = ClassNMS() if nms is None else nms
        self.score_threshold = score_threshold
        self.topk_per_level = topk_per_level
        self.max_detections = max_detections
        self.quality = quality

    @torch.no_grad()
    def __call__(self, predictions: Predictions, anchors: Anchors, sizes: Tensor) -> list[Detections]:
        """``sizes [B, 2]`` (height, width) of the pictures' content → B detections, in the batch's pixels."""
        return self._split(self.nms(self.candidates(predictions, anchors, sizes)), len(sizes))

    def candidates(self, predictions: Predictions, anchors: Anchors, sizes: Tensor) -> Candidates:
        """What goes into the suppression."""
        num_classes = predictions.logits.shape[-1]
        quality = predictions.quality if self.quality == "auto" else None
        scores, index = self._top(predictions.logits, quality, anchors.level_sizes)  # [B, K]
        anchor = index.div(num_classes, rounding_mode="floor")
        boxes = predictions.boxes.gather(1, anchor[..., None].expand(-1, -1, 4)).float()
        finite = boxes.isfinite().all(-1)
        boxes = clip_boxes(boxes, sizes)
        has_area = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        image, slot = (finite & has_area & (scores >= 0)).nonzero(as_tuple=True)
        found = Candidates(boxes[image, slot], scores[image, slot], index[image, slot] % num_classes, image)
        return found.select(found.scores.argsort(descending=True, stable=True))

    def _top(self, logits: Tensor, quality: Tensor | None, level_sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Best of each level: scores ``[B, K]`` float32 (−1: none) and positions in the flattened (A, C)."""
        scores, positions, start = [], [], 0
        for size in level_sizes:
            level = logits[:, start : start + size]
            rank = level if quality is None else _log_unified(level, quality[:, start : start + size, None])
            # False for NaN, too, which top-k would otherwise rank first.
            rank = rank.masked_fill(~(level > self._logit_threshold), -torch.inf)
            best, where = rank.flatten(1).topk(min(self.topk_per_level, size * logits.shape[-1]))
            score = best.float().sigmoid() if quality is None else best.float().exp()
            scores.append(score.masked_fill(best == -torch.inf, -1.0))
            positions.append(where + start * logits.shape[-1])
            start += size
        return torch.cat(scores, 1), torch.cat(positions, 1)

    @property
    def _logit_threshold(self) -> float:
        t = self.score_threshold
        return math.log(t / (1 - t)) if t > 0 else -math.inf

    def _split(self, candidates: Candidates, batch: int) -> list[Detections]:
        by_image = candidates.select(candidates.images.argsort(stable=True))
        counts = torch.bincount(candidates.images, minlength=batch).tolist()
        fields = (by_image.boxes, by_image.scores, by_image.labels)
        return [
            Detections(*(part[: self.max_detections] for part in parts))
            for parts in zip(*(field.split(counts) for field in fields))
        ]


def _log_unified(logits: Tensor, quality: Tensor) -> Tensor:
    """log sqrt(sigmoid(logits) · sigmoid(quality)), float32; −∞ where the quality is not a number."""
    quality = quality.float().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return (F.logsigmoid(logits.float()) + F.logsigmoid(quality)) / 2
