"""How strongly the IoU-balanced localization loss pulls at an offset: its bound, and the loss itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from detlab.losses.iou_balanced import IoUBalancedLocalization
from detlab.losses.regression import SmoothL1
from detlab.ops.boxes import BoxCoder
from detlab.structures import Matched

DELTA = 0.111  # where smooth-L1 turns linear


def gradient_bound(
    d: ArrayLike, lambda_: float, weight: float, size: bool, delta: float = DELTA
) -> NDArray[np.float64]:
    """Upper bound of |∂(w · smooth-L1) / ∂d| for an anchor as large as its object (w_t = w_s): Eq. 11 of Wu and Li
    2020 for an offset ``d [N]`` of the center, Eq. 12 for one of the size.

    weight: w_loc. A center further away than the box is wide (a d beyond ±1) overlaps nothing: 0. Eq. 7, and with it
    Eq. 11, is a bound for predicted boxes of the object's width: a wider one may overlap it more.
    """
    distance = np.abs(np.asarray(d, float))
    iou = np.exp(-distance) if size else np.clip((1 - distance) / (1 + distance), 0, None)
    return weight * iou**lambda_ * np.minimum(distance / delta, 1)


def gradient_of_loss(
    offsets: ArrayLike, coordinate: int, lambda_: float, weight: float, delta: float = DELTA
) -> NDArray[np.float64]:
    """|∂L / ∂d| at one coordinate (0 … 3: cx, cy, w, h) of ``offsets [N, 4]`` of real boxes from their anchors ``[N]``.

    By autograd through the loss that training uses; the ground truth is the anchor itself, a square.
    """
    deltas = torch.tensor(np.asarray(offsets, np.float32)).requires_grad_()
    anchors = torch.tensor([100.0, 100.0, 132.0, 132.0]).expand(len(deltas), 4)
    coder = BoxCoder()
    loss = IoUBalancedLocalization(SmoothL1(coder, beta=delta), lambda_=lambda_, weight=weight)
    loss(_matched(deltas, anchors, coder)).sum().backward()
    assert deltas.grad is not None
    return deltas.grad[:, coordinate].abs().double().numpy()


def _matched(deltas: Tensor, anchors: Tensor, coder: BoxCoder) -> Matched:
    """Positives of one class, all in one image, each with its own anchor."""
    count = len(deltas)
    return Matched(
        logits=torch.zeros(1, count, 1),
        labels=torch.zeros(1, count, dtype=torch.int64),
        class_weights=torch.ones(1, count, 1),
        class_targets=None,
        positive=torch.arange(count),
        boxes=coder.decode(deltas, anchors),
        deltas=deltas,
        anchor_boxes=anchors,
        target_boxes=anchors,
        quality=None,
        box_weights=torch.ones(count),
        level=torch.zeros(count, dtype=torch.int64),
    )
