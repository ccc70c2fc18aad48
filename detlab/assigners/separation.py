"""Which of an object's candidate anchors are positive, by the mixture fitted to their losses (PAA, Fig. 3)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from detlab.assigners.mixture import fit_two_gaussians

Scheme = Literal["a", "b", "c", "d"]

UNDECIDED = -1


def check_scheme(scheme: str) -> None:
    """Raises ValueError for a scheme that Fig. 3 has not."""
    if scheme not in get_args(Scheme):
        raise ValueError(f"Expected scheme a, b, c or d, got {scheme!r}.")


@torch.no_grad()
def separate(losses: Tensor, mask: Tensor, scheme: Scheme = "c") -> Tensor:
    """Losses of G objects' candidates ``[G, K]`` (candidates where ``mask [G, K]``) → 1 / 0 / −1 for positive /
    negative / ignored, int64 ``[G, K]``, 0 where there is no candidate.

    A sample is of the low-loss component if that one is at least as probable as the other. The *peak* of a component
    is its most likely sample under the mixture, of equally likely ones that of least loss.

    - c: positive up to the low-loss peak (samples of the other component with less loss included), the rest negative.
    - b: as c, but the other samples of the low-loss component are ignored.
    - a: those too are positive: what is more probably of the low-loss component (which, where it is the wider one, may
      own the far end, too), and all up to its peak.
    - d: as a, but samples of the high-loss component up to its peak are ignored.

    c is what the authors' code does since August 2020, and their advice. Of the others the paper has a drawing and no
    words: this is our reading. All samples of equal loss are on the same side. An object whose low-loss component has
    no sample, or which has one candidate, takes all. Raises ValueError for an unknown scheme.
    """
    check_scheme(scheme)
    mixture = fit_two_gaussians(losses, mask)
    low_share, high_share = mixture.responsibilities.unbind(-1)
    low, high = mask & (low_share >= high_share), mask & (low_share < high_share)
    losses = losses.double()
    core = mask & (losses <= _peak(losses, mixture.log_likelihood, low))
    positive = core if scheme in "bc" else core | low
    result = positive.long()
    if scheme == "b":
        result = result.masked_fill(low & ~core, UNDECIDED)
    if scheme == "d":
        near = losses <= _peak(losses, mixture.log_likelihood, high)
        result = result.masked_fill(high & ~positive & near, UNDECIDED)
    alone = ~low.any(1, keepdim=True) | (mask.sum(1, keepdim=True) == 1)
    return torch.where(alone, mask.long(), result)


def _peak(losses: Tensor, log_likelihood: Tensor, members: Tensor) -> Tensor:
    """Loss of the most likely of `members`, ``[G, 1]``; −∞ where there are none."""
    likelihood = log_likelihood.masked_fill(~members, -torch.inf)
    best = members & (likelihood == likelihood.amax(1, keepdim=True))
    peak = losses.masked_fill(~best, torch.inf).amin(1, keepdim=True)
    return peak.masked_fill(peak == torch.inf, -torch.inf)
