"""Background far from every labelled box counts less (soft sampling, Wu et al. 2018, https://arxiv.org/abs/1806.06986)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from detlab.assigners.overlap import image_chunks, pad_targets, pairwise_iou
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.none import AllBackground
from detlab.structures import Anchors, Matched, PseudoLabels, Targets


class SoftSampling(PseudoLabelCallback):
    """Weights of background anchors by their highest IoU o with a labelled box of their image.

    mode "soft": a Gompertz curve, w(o) = floor + (1 − floor) · exp(−b · exp(−c · o)), which is near `floor` for anchors
    without overlap (their section 3.2; their values are the defaults). mode "hard": 0 for o < `overlap`, else 1: what
    the proxy paper cites, background without overlap is dropped. Anchors with a label keep their weight. In an image
    without boxes all background counts as far.

    The classes that an image's annotators looked for do not count here: of two treatments this is one.
    Raises ValueError for an unknown mode or values out of range.
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> set[str]:
        return {"one_stage"} | (set() if options.get("mode") == "hard" else {"soft_weights"})

    def __init__(
        self,
        mode: Literal["soft", "hard"] = "soft",
        floor: float = 0.25,
        b: float = 50.0,
        c: float = 20.0,
        overlap: float = 0.1,
    ) -> None:
        super().__init__()
        if mode not in ("soft", "hard"):
            raise ValueError(f"Expected mode soft or hard, got {mode!r}.")
        if not 0 <= floor <= 1 or not 0 <= overlap <= 1:
            raise ValueError(f"Expected floor and overlap in [0, 1], got {floor} and {overlap}.")
        if b < 0 or c < 0:
            raise ValueError(f"Expected b and c of at least 0, got {b} and {c}.")
        self.mode, self.floor, self.b, self.c, self.overlap = mode, floor, b, c, overlap

    def transform_targets(self, targets: list[Targets]) -> list[Targets]:
        return AllBackground().transform_targets(targets)

    def apply_to_matches(
        self,
        matched: Matched,
        anchors: Anchors,
        targets: list[Targets],
        labels: PseudoLabels | None,  # noqa: ARG002
    ) -> Matched:
        weights = self.weight(highest_iou(anchors, targets)).masked_fill_(matched.labels >= 0, 1.0)  # [B, A]
        object_weights = matched.object_weights
        return matched._replace(
            class_weights=matched.class_weights * weights[..., None],
            object_weights=None if object_weights is None else object_weights * weights,
        )

    def weight(self, overlap: Tensor) -> Tensor:
        """IoU → weight of the background, elementwise."""
        if self.mode == "hard":
            return (overlap >= self.overlap).float()
        return self.floor + (1 - self.floor) * (-self.b * (-self.c * overlap).exp()).exp()


@torch.no_grad()
def highest_iou(anchors: Anchors, targets: list[Targets]) -> Tensor:
    """Of each anchor with any box of its image that is not flagged `ignore`: float32 ``[B, A]``, 0 without boxes."""
    boxes, padded = anchors.boxes.float(), pad_targets(targets)
    result = boxes.new_zeros(len(targets), len(boxes))
    for images in image_chunks(padded, len(boxes)):
        iou = pairwise_iou(padded.boxes[images], boxes).mul_(padded.matchable[images, :, None])
        result[images] = iou.amax(1)
    return result
