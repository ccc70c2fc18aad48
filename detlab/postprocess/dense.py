"""From dense predictions to final detections, for the whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from detlab.ops.boxes import clip_boxes
from detlab.postprocess.candidates import Candidates, Suppression
from detlab.postprocess.nms import ClassNMS
from detlab.structures import Anchors, Detections, Predictions


class Postprocess:
    """Scores → per-level top-k → suppression → at most `max_detections` per image.

    A candidate is an (anchor, class) whose classification score exceeds `score_threshold`: the sigmoid of its logit or,
    where there is an objectness (YOLO), sigmoid(objectness) · p(class). Candidates are ranked by that score, or, where
    there is a quality branch, by sqrt(score · quality), and with an objectness, or `quality="product"`, by score ·
    quality (Li et al. 2021, section 2.2); `quality="ignore"` leaves it out. The best `topk_per_level` of
    every pyramid level go on. Boxes are clipped to the picture; boxes without area and non-finite scores or boxes are
    dropped.

    classes: p(class) where there is an objectness, as the loss had it: "softmax" over the classes or "sigmoid" of each.
    Boxes may be one per anchor or, of a second stage, one per class.

    Raises ValueError for counts below 1 or a threshold outside [0, 1).
    """

    @staticmethod
    def provides(options: Mapping[str, Any]) -> set[str]:
        return {str(options.get("classes", "softmax"))}

    def __init__(
        self,
        nms: Suppression | None = None,
        score_threshold: float = 0.05,
        topk_per_level: int = 1000,
        max_detections: int = 100,
        quality: Literal["auto", "product", "ignore"] = "auto",
        classes: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        if not 0 <= score_threshold < 1:
            raise ValueError(f"Expected score_threshold in [0, 1), got {score_threshold}.")
        if topk_per_level < 1 or max_detections < 1:
            raise ValueError(
                f"Expected topk_per_level and max_detections of at least 1, got {topk_per_level}, {max_detections}."
            )
        if quality not in ("auto", "product", "ignore"):
            raise ValueError(f"Expected quality auto, product or ignore, got {quality!r}.")
        if classes not in ("softmax", "sigmoid"):
            raise ValueError(f"Expected classes softmax or sigmoid, got {classes!r}.")
        self.nms: Suppression = ClassNMS() if nms is None else nms
        self.score_threshold = score_threshold
        self.topk_per_level = topk_per_level
        self.max_detections = max_detections
        self.quality = quality
        self.classes = classes

    @torch.no_grad()
    def __call__(self, predictions: Predictions, anchors: Anchors, sizes: Tensor) -> list[Detections]:
        """``sizes [B, 2]`` (height, width) of the pictures' content → B detections, in the batch's pixels."""
        return self.finish(self.candidates(predictions, anchors, sizes), len(sizes))

    def candidates(self, predictions: Predictions, anchors: Anchors, sizes: Tensor) -> Candidates:
        """What goes into the suppression."""
        num_classes = predictions.logits.shape[-1]
        quality = None if self.quality == "ignore" else predictions.quality
        objectness = predictions.objectness
        scores, index = self._top(predictions.logits, quality, objectness, anchors.level_sizes)  # [B, K]
        anchor = index.div(num_classes, rounding_mode="floor")
        own = predictions.boxes.dim() == 4  # every class of an anchor has a box of its own
        place = (index if own else anchor)[..., None].expand(-1, -1, 4)
        boxes = predictions.boxes.flatten(1, -2).gather(1, place).float()
        finite = boxes.isfinite().all(-1)
        boxes = clip_boxes(boxes, sizes)
        has_area = (boxes[..., 2:] > boxes[..., :2]).all(-1)
        image, slot = (finite & has_area & (scores >= 0)).nonzero(as_tuple=True)
        found = Candidates(boxes[image, slot], scores[image, slot], index[image, slot] % num_classes, image)
        return found.select(found.scores.argsort(descending=True, stable=True))

    def finish(self, candidates: Candidates, batch: int) -> list[Detections]:
        """Suppression, and the best of each of the `batch` images."""
        kept = self.nms(candidates)
        by_image = kept.select(kept.images.argsort(stable=True))
        counts = torch.bincount(kept.images, minlength=batch).tolist()
        fields = (by_image.boxes, by_image.scores, by_image.labels)
        return [
            Detections(*(part[: self.max_detections] for part in parts))
            for parts in zip(*(field.split(counts) for field in fields))
        ]

    def _top(
        self, logits: Tensor, quality: Tensor | None, objectness: Tensor | None, level_sizes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Best of each level: scores ``[B, K]`` float32 (−1: none) and positions in the flattened (A, C)."""
        scores, positions, start = [], [], 0
        is_logarithm = quality is not None or objectness is not None
        for size in level_sizes:
            part = slice(start, start + size)
            level = logits[:, part]
            if objectness is not None:
                rank = _log_joint(level, objectness[:, part, None], self.classes)
                passes = rank > self._log_threshold
                rank = rank if quality is None else rank + _log_quality(quality[:, part, None])
            else:
                power = 1.0 if self.quality == "product" else 0.5
                rank = level if quality is None else _log_unified(level, quality[:, part, None], power)
                passes = level > self._logit_threshold
            # False for NaN, too, which top-k would otherwise rank first.
            rank = rank.masked_fill(~passes, -torch.inf)
            best, where = rank.flatten(1).topk(min(self.topk_per_level, size * logits.shape[-1]))
            score = best.float().exp() if is_logarithm else best.float().sigmoid()
            scores.append(score.masked_fill(best == -torch.inf, -1.0))
            positions.append(where + start * logits.shape[-1])
            start += size
        return torch.cat(scores, 1), torch.cat(positions, 1)

    @property
    def _logit_threshold(self) -> float:
        t = self.score_threshold
        return math.log(t / (1 - t)) if t > 0 else -math.inf

    @property
    def _log_threshold(self) -> float:
        return math.log(self.score_threshold) if self.score_threshold > 0 else -math.inf


def _log_unified(logits: Tensor, quality: Tensor, power: float) -> Tensor:
    """power · log(sigmoid(logits) · sigmoid(quality)), float32; −∞ where the quality is not a number."""
    return (F.logsigmoid(logits.float()) + _log_quality(quality)) * power


def _log_quality(quality: Tensor) -> Tensor:
    quality = quality.float().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return F.logsigmoid(quality)


def _log_joint(logits: Tensor, objectness: Tensor, classes: Literal["softmax", "sigmoid"]) -> Tensor:
    """log(sigmoid(objectness) · p(class)), float32."""
    logits = logits.float()
    log_p = logits.log_softmax(-1) if classes == "softmax" else F.logsigmoid(logits)
    return log_p + F.logsigmoid(objectness.float())
