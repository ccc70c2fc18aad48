"""How far a head that predicts the IoU of its boxes is off (Kim and Lee 2020, Table 2 right)."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MeanAbsoluteError


class IoUError(MeanAbsoluteError):
    """Mean absolute difference of predicted and true IoU over everything since the last `reset`; nan without any.

    Over which boxes the paper averages, it does not say. `LitDetector` measures the boxes of those anchors that the
    run's own assigner calls positive on the evaluation pictures, before any suppression, each against the ground truth
    that it is assigned to: what the head was trained on, on other pictures.
    """

    def update(self, predicted: Tensor, true: Tensor) -> None:
        """predicted, true: ``[P]`` in 0..1, of the same boxes in the same order; P may be 0.

        Raises RuntimeError for different shapes.
        """
        super().update(predicted.float(), true.float())
