"""Self-balancing of a localization loss by what the last period was like (Oksuz et al. 2020, §4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detlab.losses.normalizer import reduce_mean

_TINY = 1e-6  # of a mean localization loss: below it nothing was measured
_PARTS = 100  # the original code's period, 3,665 iterations, is an epoch and the hundredth part of its training


class SelfBalance(nn.Module):
    """The factor of the box gradient: the last period's mean L / mean L_loc, `initial` before there is one.

    As in the original code it is the ratio of the means, over all processes, and the last iteration of a period has
    the new factor already, which that iteration's losses are part of. The paper speaks of the last epoch; in a short
    training an epoch is a large part of it, through which a factor would be stale, so that a period is no longer than
    a hundredth of the training.

    Iterations are steps of the optimizer, which `after_step` counts: a step may be several calls, of groups of
    pictures or of batches whose gradients are accumulated. In the last iteration of a period each call has the factor
    of all calls up to it. The buffers, the count of iterations among them, are part of the checkpoint, so a resumed
    run goes on with the same factor and changes it when the whole run would have.

    period: iterations between updates; None: an epoch or 1 % of the training, whichever is shorter, once `begin` has
    told how long they are.
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
        self.register_buffer("sums", torch.zeros(3, dtype=torch.float64))  # of L, of L_loc, iterations that are over

    def begin(self, epoch: int, iterations: int) -> None:
        """Training begins, or goes on: an epoch, and the whole training, have so many iterations."""
        self.period = self.period or max(1, min(epoch, iterations // _PARTS))

    def forward(self, total: Tensor, localization: Tensor) -> Tensor:
        """Take note of this batch's L and L_loc (scalars); return the factor in force, without gradient."""
        self.sums[:2] += reduce_mean(torch.stack([total.detach(), localization.detach()]))
        self._renew()
        return self.weight.clone()

    def after_step(self) -> None:
        """The optimizer has made a step: an iteration is over, and with the last of a period the period."""
        self._renew()  # the last iteration may have had no batch
        if self._last():
            self.sums.zero_()
        else:
            self.sums[2] += 1

    def _renew(self) -> None:
        """In the last iteration of a period the factor becomes the ratio of its means so far."""
        if self._last() and self.sums[1] > _TINY * (self.sums[2] + 1):
            self.weight.fill_(float(self.sums[0] / self.sums[1]))

    def _last(self) -> bool:
        """Whether the iteration that is not over yet is the last of its period."""
        return self.period is not None and int(self.sums[2]) + 1 >= self.period

    def extra_repr(self) -> str:
        return f"weight={float(self.weight):g}, period={self.period}"
