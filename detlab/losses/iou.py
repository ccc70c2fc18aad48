"""IoU losses on decoded boxes: IoU, GIoU, DIoU, CIoU, all as 1 − (the respective overlap).

GIoU: Rezatofighi et al. 2019 (https://arxiv.org/abs/1902.09630). DIoU and CIoU: Zheng et al. 2020
(https://arxiv.org/abs/1911.08287).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from detlab.structures import Matched

IoUKind = Literal["iou", "giou", "diou", "ciou"]

# Square pixels (or pixels) below which a denominator counts as empty.
_EPS = 1e-7


class IoULoss(nn.Module):
    """1 − IoU of each positive's predicted box with its ground truth (giou, diou, ciou likewise)."""

    def __init__(self, kind: IoUKind = "giou") -> None:
        super().__init__()
        if kind not in ("iou", "giou", "diou", "ciou"):
            raise ValueError(f"Expected kind iou, giou, diou or ciou, got {kind!r}.")
        self.kind: IoUKind = kind

    def forward(self, matched: Matched) -> Tensor:
        """One loss per positive ``[P]``, unweighted."""
        return iou_loss(matched.boxes, matched.target_boxes, self.kind)

    def extra_repr(self) -> str:
        return f"kind={self.kind}"


def iou_loss(boxes: Tensor, targets: Tensor, kind: IoUKind = "giou") -> Tensor:
    """``boxes [..., 4]`` against ``targets [..., 4]``, xyxy, broadcast → ``[...]``, float32 or wider.

    Ranges: iou [0, 1], giou [0, 2], diou [0, 2], ciou [0, 3). Written with elementwise operations only, so nothing
    waits for the device, and with guarded denominators, so boxes without area give finite losses and gradients.
    """
    boxes, targets = _at_least_float32(boxes), _at_least_float32(targets)
    x1, y1, x2, y2 = boxes.unbind(-1)
    tx1, ty1, tx2, ty2 = targets.unbind(-1)
    width, height, target_width, target_height = x2 - x1, y2 - y1, tx2 - tx1, ty2 - ty1
    inter = (torch.minimum(x2, tx2) - torch.maximum(x1, tx1)).clamp(min=0) * (
        torch.minimum(y2, ty2) - torch.maximum(y1, ty1)
    ).clamp(min=0)
    union = width * height + target_width * target_height - inter
    iou = inter / union.clamp(min=_EPS)
    if kind == "iou":
        return 1 - iou

    hull_width = torch.maximum(x2, tx2) - torch.minimum(x1, tx1)
    hull_height = torch.maximum(y2, ty2) - torch.minimum(y1, ty1)
    if kind == "giou":
        hull = hull_width * hull_height
        return 1 - iou + (hull - union) / hull.clamp(min=_EPS)

    distance = ((x1 + x2 - tx1 - tx2).square() + (y1 + y2 - ty1 - ty2).square()) / 4
    loss = 1 - iou + distance / (hull_width.square() + hull_height.square()).clamp(min=_EPS)
    if kind == "diou":
        return loss

    shape = torch.atan2(target_width.clamp(min=_EPS), target_height.clamp(min=_EPS)) - torch.atan2(
        width.clamp(min=_EPS), height.clamp(min=_EPS)
    )
    v = 4 / math.pi**2 * shape.square()
    with torch.no_grad():  # α is a constant of the optimisation (Sec. "CIoU loss", Eq. 11)
        trade_off = v / (1 - iou + v).clamp(min=_EPS)
    return loss + trade_off * v


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
