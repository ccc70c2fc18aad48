"""The criterion of aLRP: one loss for classification and localisation (Oksuz et al. 2020, Section 4)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from detlab.losses.error_driven import check_delta
from detlab.losses.iou import iou_loss
from detlab.losses.ranking import alrp_loss
from detlab.losses.ranking_classification import ranking_targets, share_of_process
from detlab.losses.self_balance import SelfBalance
from detlab.structures import Matched


class ALRPCriterion(nn.Module):
    """aLRP loss of a batch: `Matched` → its terms classification and localization, whose sum it is.

    kind: the error of a box, "iou": (1 − IoU) / (1 − τ), "giou": (1 − GIoU) / 2 / (1 − τ), which at τ = 0.5 is
    1 − GIoU, in 0..2, so that the loss may exceed 1 (as in the original code, unclipped). delta: half the width of the
    ramp, the paper's only hyper-parameter. self_balance: the gradient of the localisation term, not its value, is
    multiplied by the ratio of the last period, `initial` before (§4.2); period: its optimizer steps, None: an epoch or
    1 % of the training, whichever is shorter (`SelfBalance`). target: see `detlab.losses.ranking.alrp_loss`.

    `watched` holds what training logs beside the losses: ``box_factor``, the factor of the last batch.

    All elements of the batch of this process are ranked together; of several processes the losses are averaged by
    their positives. A class weight of 0 takes an element out; other weights do not count, as a rank knows none. The
    head must have no quality branch.
    Raises ValueError for an unknown kind, a delta not above 0, tau outside [0, 1), a bad initial or period.
    """

    provides: frozenset[str] = frozenset()  # a ranking has no soft weights
    requires = frozenset({"one_stage"})

    def __init__(
        self,
        kind: Literal["iou", "giou"] = "giou",
        delta: float = 1.0,
        self_balance: bool = True,
        tau: float = 0.5,
        initial: float = 50.0,
        period: int | None = None,
        target: Literal["localization", "zero"] = "localization",
    ) -> None:
        super().__init__()
        if kind not in ("iou", "giou"):
            raise ValueError(f"Expected kind iou or giou, got {kind!r}.")
        check_delta(delta)
        if not 0 <= tau < 1:
            raise ValueError(f"Expected tau in [0, 1), got {tau}.")
        if target not in ("localization", "zero"):
            raise ValueError(f"Expected target localization or zero, got {target!r}.")
        self.kind: Literal["iou", "giou"] = kind
        self.delta = delta
        self.tau = tau
        self.target: Literal["localization", "zero"] = target
        self.balance = SelfBalance(initial, period) if self_balance else None
        self.watched: dict[str, Tensor] = {}

    def forward(self, matched: Matched) -> dict[str, Tensor]:
        """Scalars by name, normalised; their values are L_cls and L_loc, unweighted (Eq. 11)."""
        if matched.quality is not None:
            raise ValueError("Expected a head without a quality branch for aLRP, which ranks by class scores alone.")
        targets, kept = ranking_targets(matched)
        loss = iou_loss(matched.boxes, matched.target_boxes, self.kind)
        errors = (loss if self.kind == "iou" else loss / 2) / (1 - self.tau)
        share = share_of_process(matched)
        parts = alrp_loss(matched.logits, targets, errors[kept], self.delta, self.target)
        classification, localization = (share * part for part in parts)
        if self.balance is not None and self.training and torch.is_grad_enabled():
            factor = self.balance(classification + localization, localization)
            localization = localization + (factor - 1) * (localization - localization.detach())
            self.watched["box_factor"] = factor
        return {"classification": classification, "localization": localization}

    def begin(self, epoch: int, iterations: int) -> None:
        """Called by the training loop before its first batch: how many optimizer steps an epoch, and the whole
        training, have."""
        if self.balance is not None:
            self.balance.begin(epoch, iterations)

    def after_step(self) -> None:
        """Called by the training loop after each step of the optimizer."""
        if self.balance is not None:
            self.balance.after_step()

    def extra_repr(self) -> str:
        return f"kind={self.kind}, delta={self.delta}, tau={self.tau}, target={self.target}"
