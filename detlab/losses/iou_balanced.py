"""IoU-balanced losses: positives count by the IoU of their predicted box (Wu and Li 2020).

Both are weights around a loss of the lab. The IoU is that of the *predicted* box with its ground truth; no gradient
passes through the weights or through what normalises them.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from detlab.losses.criterion import LocalizationLoss
from detlab.losses.normalizer import reduce_mean
from detlab.losses.quality import predicted_iou
from detlab.structures import Matched

# w_loc of Table 4, by λ: the sum of the localisation loss at the first step stays as it was.
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

    weight: w_loc; None takes the paper's for its five λ (`W_LOC`), the others need a number (``detlab balance``
    estimates one). normalize: Eq. 5, the weights keep the sum of `base` over the positives, each with its box
    weight, at every step, and w_loc is 1. per_level: as in `IoUBalancedClassification`, of Eq. 5 only.
    Raises ValueError for a negative lambda_ or weight, for a λ without w_loc, for a weight beside `normalize` and for
    per_level without it.
    """

    def __init__(
        self,
        base: LocalizationLoss,
        lambda_: float = 1.5,
        weight: float | None = None,
        normalize: bool = False,
        per_level: bool = False,
    ) -> None:
        super().__init__()
        if lambda_ < 0 or (weight is not None and weight < 0):
            raise ValueError(f"Expected lambda_ and weight of at least 0, got {lambda_} and {weight}.")
        if weight is not None and normalize:
            raise ValueError(f"Expected no weight with normalize=true, which keeps the sum by itself, got {weight}.")
        if per_level and not normalize:
            raise ValueError("Expected normalize=true with per_level=true, got false.")
        if weight is None and not normalize and lambda_ not in W_LOC:
            known = ", ".join(f"{value:g}" for value in W_LOC)
            raise ValueError(
                f"Expected a weight for lambda_={lambda_:g}: the paper gives one for {known} only, and "
                "'detlab balance' with the same options estimates others."
            )
        self.base = base
        self.lambda_ = lambda_
        self.weight = 1.0 if normalize else W_LOC[lambda_] if weight is None else weight
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
