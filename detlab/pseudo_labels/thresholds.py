"""A threshold and a loss weight for each class, from how much a detector finds of it (Li et al. 2021, Eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detlab.losses.normalizer import process_count, reduce_mean


class ClassThresholds(nn.Module):
    """τ_m and α_m of C classes, from the scores p · v of what the teacher found of each, accumulated online.

    With c_m the sum of the scores of class m and n̄ the mean over classes of the number of boxes,

        τ_m = clip((c_m / n̄)^γ1 · τ, limits),    α_m = clip((n̄ / c_m)^γ2, 1 / most, most).

    tau: τ. gamma1, gamma2: 0 leaves the threshold at τ and the weights at 1. limits: of τ_m, as the paper has them.
    most: of α_m, which the paper leaves unbounded; a class of which nothing was found has the lowest threshold and the
    largest weight. decay: by which the sums fade at every update, 1 for never; the paper does not say how far back its
    sums reach. Before anything was found, every threshold is τ and every weight 1.

    The sums are buffers, and so part of checkpoints, and those of all processes together.
    Raises ValueError for values out of range.
    """

    sums: Tensor
    counts: Tensor

    def __init__(
        self,
        num_classes: int,
        tau: float = 0.7,
        gamma1: float = 0.05,
        gamma2: float = 0.6,
        limits: tuple[float, float] = (0.4, 0.9),
        most: float = 5.0,
        decay: float = 0.999,
    ) -> None:
        super().__init__()
        low, high = limits
        if num_classes < 1 or not 0 <= tau <= 1 or not 0 <= low <= high <= 1:
            raise ValueError(
                f"Expected a class, tau in [0, 1] and limits in it in order, got {num_classes}, {tau} and "
                f"{tuple(limits)}."
            )
        if gamma1 < 0 or gamma2 < 0 or not most >= 1 or not 0 < decay <= 1:
            raise ValueError(
                f"Expected gamma1 and gamma2 of at least 0, most of at least 1 and decay in (0, 1], got {gamma1}, "
                f"{gamma2}, {most} and {decay}."
            )
        self.tau, self.gamma1, self.gamma2 = tau, gamma1, gamma2
        self.limits, self.most, self.decay = (low, high), most, decay
        self.register_buffer("sums", torch.zeros(num_classes))
        self.register_buffer("counts", torch.zeros(num_classes))

    @torch.no_grad()
    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add what was found in a batch: scores p · v float ``[N]``, labels int64 ``[N]``. Every process has to call
        it."""
        found = torch.zeros(2, len(self.sums), device=self.sums.device)
        found.index_add_(1, labels, torch.stack([scores.float(), torch.ones_like(scores, dtype=torch.float32)]))
        found = reduce_mean(found) * process_count()
        self.sums.mul_(self.decay).add_(found[0])
        self.counts.mul_(self.decay).add_(found[1])

    def thresholds(self) -> Tensor:
        """τ_m, float32 ``[C]``."""
        mean = self.counts.mean()
        share = torch.where(mean > 0, self.sums / mean.clamp(min=1e-12), torch.ones_like(self.sums))
        tau = share**self.gamma1 * self.tau
        return tau if self.gamma1 == 0 else tau.clamp(*self.limits)

    def weights(self) -> Tensor:
        """α_m, float32 ``[C]``."""
        mean = self.counts.mean()
        share = torch.where(mean > 0, mean / self.sums.clamp(min=1e-12), torch.ones_like(self.sums))
        return (share**self.gamma2).clamp(1 / self.most, self.most)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, gamma1={self.gamma1}, gamma2={self.gamma2}, limits={self.limits}, decay={self.decay}"
