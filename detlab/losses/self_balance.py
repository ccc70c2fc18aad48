"""Self-balancing of a localisation loss by what the last epoch was like (Oksuz et al. 2020, §4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detlab.losses.normalizer import reduce_mean

_TINY = 1e-6  # of a mean localisation loss: below it nothing was measured


class SelfBalance(nn.Module):
    """The factor of the box gradient: the last epoch's mean L / mean L_loc, `initial` before there is one.

    As in the original code it is the ratio of the means, over all processes. Its buffers, the count of iterations
    among them, are part of the checkpoint, so a resumed run goes on with the same factor and changes it when the
    whole run would have.

    period: batches between updates; None: an epoch, once `begin` has told how long that is.
    Raises ValueError for an initial factor or a period that is not above 0.
    """

    weight: Tensor
    sums: Tensor

    def __init__(self, initial: float = 50.0, period: int | None = None) -> None:
        super().__init__()
        if initial <= 0 or (period is not None and period < 1):
            raise ValueError(f"Expected initial and period above 0, got {initial} and {period}.")
        self.period = period
        self.register_buffer("weight", torch.tensor(float(initial)))
        self.register_buffer("sums", torch.zeros(3, dtype=torch.float64))  # of L, of L_loc, batches

    def begin(self, batches_per_epoch: int) -> None:
        """Training begins, or goes on: an epoch has so many batches."""
        self.period = self.period or batches_per_epoch

    def forward(self, total: Tensor, localization: Tensor) -> Tensor:
        """Take note of this batch's L and L_loc (scalars); return the factor in force, without gradient."""
        seen = reduce_mean(torch.stack([total.detach(), localization.detach(), torch.ones_like(total.detach())]))
        weight = self.weight.clone()
        self.sums += seen
        if self.period is not None and int(self.sums[2].round()) >= self.period:
            if self.sums[1] > _TINY * self.sums[2]:
                self.weight.fill_(float(self.sums[0] / self.sums[1]))
            self.sums.zero_()
        return weight

    def extra_repr(self) -> str:
        return f"weight={float(self.weight):g}, period={self.period}"
