"""Smooth-L1 on encoded offsets (Girshick 2015, Eq. 3; Ren et al. 2015, Eq. 2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from detlab.ops.boxes import BoxCoder
from detlab.structures import Matched


class SmoothL1(nn.Module):
    """Smooth-L1 between predicted and true offsets, summed over the four coordinates.

    Quadratic below `beta`, linear above; 0 is plain L1. `coder` must be the one the detector decodes with.
    Raises ValueError for a negative beta.
    """

    def __init__(self, coder: BoxCoder, beta: float = 1 / 9) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f"Expected beta of at least 0, got {beta}.")
        self.coder = coder
        self.beta = beta

    def forward(self, matched: Matched) -> Tensor:
        """One loss per positive ``[P]``, float32, unweighted."""
        target = self.coder.encode(matched.target_boxes, matched.anchor_boxes)
        return smooth_l1(matched.deltas, target, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


def smooth_l1(deltas: Tensor, target: Tensor, beta: float = 1 / 9) -> Tensor:
    """``deltas [..., 4]`` against ``target [..., 4]`` → sum over the last axis ``[...]``, in `target`'s dtype."""
    return F.smooth_l1_loss(deltas.to(target.dtype), target, reduction="none", beta=beta).sum(-1)
