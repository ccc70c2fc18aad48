"""How a batch of pictures is looked at in a test: once, at several sizes and mirrored, or by several detectors; see
``conf/testing/``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from detlab.postprocess import Postprocess
from detlab.postprocess.tta.ensemble import Ensemble
from detlab.postprocess.tta.multi_scale import MultiScale
from detlab.structures import Anchors, Batch, Detections, Predictions

__all__ = ["Ensemble", "MultiScale", "Single", "Testing"]


@runtime_checkable
class Testing(Protocol):
    """From a batch to the detections of each of its images, in the batch's pixels.

    detector: images ``[B, 3, H, W]`` → predictions and anchors. One that has to know the classes has a method
    ``begin(classes)``, which is called once.
    """

    def __call__(
        self, detector: Callable[[Tensor], tuple[Predictions, Anchors]], batch: Batch, postprocess: Postprocess
    ) -> list[Detections]: ...


class Single:
    """Every picture once, as the batch has it."""

    def __call__(
        self, detector: Callable[[Tensor], tuple[Predictions, Anchors]], batch: Batch, postprocess: Postprocess
    ) -> list[Detections]:
        predictions, anchors = detector(batch.images)
        return postprocess(predictions, anchors, batch.sizes)
