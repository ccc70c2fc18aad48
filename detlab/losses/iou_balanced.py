"""IoU-balanced losses: positives count by the IoU of their predicted box (Wu and Li 2020).

Both are weights around a loss of the lab. The IoU is that of the *predicted* box with its ground truth; no gradient
passes through the weights or through what normalises them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from detlab.losses.criterion import LocalizationLoss
from detlab.losses.normalizer import reduce_mean
from detlab.losses.quality import predicted_iou
from detlab.losses.regression import SmoothL1
from detlab.structures import Matched

# w_loc of Table 4, by λ, of smooth-L1 on COCO: the sum of the localization loss at the first step stays as it was.
W_LOC = {0.0: 1.0, 0.5: 1.575, 1.0: 2.226, 1.5: 3.049, 1.8: 3.649}

_LEVELS = 16  # of a pyramid, at most

# Below it a sum of weighted losses counts as empty.
_TINY = 1e-12


class Elementwise(Protocol):
    """A classification loss that can also be taken element by element: `Focal`, `CrossEntropy`."""

    def __call__(self, matched: Matched, own_weights: Tensor | None = None) -> Tensor: ...

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor: ...


class IoUBalancedClassification(nn.Module):
    """`base` with each positive's loss weighted by IoU^η, its sum over the positives unchanged (Eqs. 1–2).

    A positive's loss is that of its anchor at its own class; all else counts as in `base`. per_level: normalise the
    positives of each pyramid level by themselves, as the authors' later code does, instead of all together.
    Raises ValueError for a negative eta.
    """

    def __init__(self, base: Elementwise, eta: float = 1.5, per_level: bool = False) -> None:
        super().__init__()
        if eta < 0:
            raise ValueError(f"Expected eta of at least 0, got {eta}.")
        self.base = base
        self.eta = eta
        self.per_level = per_level

    def forward(self, matched: Matched) -> Tensor:
        """`Matched` → weighted sum, unnormalised: the value of `base`, with other gradients."""
        loss = self._own_losses(matched)
        groups = matched.level if self.per_level else None
        return self.base(matched, balanced_weights(loss, predicted_iou(matched).pow(self.eta), groups))

    @torch.no_grad()
    def _own_losses(self, matched: Matched) -> Tensor:
        """Each positive's loss at its own class ``[P]``, with its weight."""
        row, column = matched.positive, matched.labels.flatten()[matched.positive]
        shared = matched.class_weights.shape[-1] == 1
        weights = matched.class_weights.flatten(0, 1)[row, torch.zeros_like(column) if shared else column]
        logits, targets = matched.logits.detach().flatten(0, 1)[row, column], matched.class_targets
        own = torch.ones_like(logits) if targets is None else targets.flatten(0, 1)[row, column]
        return self.base.elementwise(logits, own) * weights

    def extra_repr(self) -> str:
        return f"eta={self.eta}, per_level={self.per_level}"


class IoUBalancedLocalization(nn.Module):
    """`base` with each positive's loss weighted by w_loc · IoU^λ (Eqs. 3–4), or normalised (Eq. 5).

    Args:
        base: A loss per positive.
        lambda_: λ, at least 0.
        weight: w_loc, a number or a mapping from λ to known ones. It is that of one loss, detector and data set
            (``detlab balance`` estimates it). None takes the paper's (`W_LOC`), which are those of smooth-L1.
        normalize: Eq. 5: the weights keep the sum of `base` over the positives, each with its box weight, at every
            step, and w_loc is 1.
        per_level: As in `IoUBalancedClassification`, of Eq. 5 only.

    Raises:
        ValueError: A negative lambda_ or weight, no w_loc for this λ or this base, a number beside `normalize`, or
            per_level without it.
    """

    def __init__(
        self,
        base: LocalizationLoss,
        lambda_: float = 1.5,
        weight: float | Mapping[float, float] | None = None,
        normalize: bool = False,
        per_level: bool = False,
    ) -> None:
        if lambda_ < 0:
            raise ValueError(f"Expected lambda_ of at least 0, got {lambda_}.")
        if isinstance(weight, int | float) and normalize:
            raise ValueError(f"Expected no weight with normalize=true, which keeps the sum by itself, got {weight}.")
        if per_level and not normalize:
            raise ValueError("Expected normalize=true with per_level=true, got false.")
        super().__init__()
        self.base = base
        self.lambda_ = lambda_
        self.weight = 1.0 if normalize else _w_loc(base, lambda_, weight)
        self.normalize = normalize
        self.per_level = per_level

    def forward(self, matched: Matched) -> Tensor:
        """One loss per positive ``[P]``, weighted by its IoU."""
        loss = self.base(matched)
        weights = predicted_iou(matched).pow(self.lambda_).to(loss.dtype)
        if self.normalize:
            groups = matched.level if self.per_level else None
            weights = balanced_weights(loss.detach() * matched.box_weights, weights, groups)
        return self.weight * weights * loss

    def extra_repr(self) -> str:
        return f"lambda_={self.lambda_}, weight={self.weight}, normalize={self.normalize}, per_level={self.per_level}"


def _w_loc(base: LocalizationLoss, lambda_: float, weight: float | Mapping[float, float] | None) -> float:
    if weight is None and lambda_ > 0 and not isinstance(base, SmoothL1):
        raise ValueError(
            f"Expected a weight for lambda_={lambda_:g}: the paper's are those of smooth-L1, not of "
            f"{type(base).__name__}; 'detlab balance' with the same options estimates one, normalize=true needs none."
        )
    known = W_LOC if weight is None else weight
    if isinstance(known, Mapping):
        if lambda_ not in known:
            raise ValueError(
                f"Expected a weight for lambda_={lambda_:g}: {'the paper gives' if weight is None else 'there is'} one "
                f"for {', '.join(f'{value:g}' for value in known)} only, and 'detlab balance' with the same options "
                "estimates others."
            )
        known = known[lambda_]
    if known < 0:
        raise ValueError(f"Expected a weight of at least 0, got {known}.")
    return known


@torch.no_grad()
def balanced_weights(losses: Tensor, weights: Tensor, groups: Tensor | None = None) -> Tensor:
    """`weights [P]` scaled so that Σ weights · losses = Σ losses (Eqs. 2, 5), for each of the `groups [P]` by itself.

    The sums are those of all processes. losses: ``[P]`` ≥ 0; groups: int64 below 16. Where the weighted sum is zero
    (no box overlaps its object) the weights are 1, which keeps the sum, too.
    """
    weights = weights.to(losses.dtype)
    groups = torch.zeros(len(losses), dtype=torch.int64, device=losses.device) if groups is None else groups
    sums = losses.new_zeros(2, _LEVELS)
    sums[0].index_add_(0, groups, losses)
    sums[1].index_add_(0, groups, weights * losses)
    before, after = reduce_mean(sums)[:, groups]
    return torch.where(after > _TINY, weights * before / after.clamp(min=_TINY), 1.0)
