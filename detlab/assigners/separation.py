"""Which of an object's candidate anchors are positive, by the mixture fitted to their losses (PAA, Fig. 3)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from detlab.assigners.mixture import fit_two_gaussians

# The letters of Fig. 3. "b" and "d" alone named other separations once: no run of then may pass for one of these.
Scheme = Literal["a", "b_between_peaks", "c", "d_rest_of_low"]

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
UNDECIDED = -1


def check_scheme(scheme: str) -> None:
    """Raises ValueError for a scheme that Fig. 3 has not."""
    if scheme not in SCHEMES:
        raise ValueError(f"Expected scheme {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}, got {scheme!r}.")


@torch.no_grad()
def separate(losses: Tensor, mask: Tensor, scheme: Scheme = "c") -> Tensor:
    """Losses of G objects' candidates ``[G, K]`` (candidates where ``mask [G, K]``) → 1 / 0 / −1 for positive /
    negative / ignored, int64 ``[G, K]``, 0 where there is no candidate.

    A sample is of the low-loss component if that one is at least as probable as the other. The *peak* of a component
    is its most likely sample under the mixture, of equally likely ones that of least loss. With a, b, c and d for the
    letters of Fig. 3, as the comments of the authors' code explain them (the paper has a drawing and no words):

    - c: positive up to the low-loss peak (samples of the other component with less loss included), the rest negative.
    - b_between_peaks: as c, but what lies between the two peaks is ignored, samples of either component; from the
      high-loss peak on, that one included, samples are negative. Without a sample of the high-loss component there is
      no such peak, and none is negative.
    - d_rest_of_low: as c, but the other samples of the low-loss component are ignored.
    - a: those too are positive: what is more probably of the low-loss component (which, where it is the wider one, may
      own the far end, too), and all up to its peak.

    c is what the authors' code does since August 2020, and their advice; the paper's best is b. All samples of equal
    loss are on the same side. An object whose low-loss component has no sample, or which has one candidate, takes all.
    Raises ValueError for an unknown scheme.
    """
    check_scheme(scheme)
    mixture = fit_two_gaussians(losses, mask)
    low_share, high_share = mixture.responsibilities.unbind(-1)
    low, high = mask & (low_share >= high_share), mask & (low_share < high_share)
    losses = losses.double()
    core = mask & (losses <= _peak(losses, mixture.log_likelihood, low))
    result = (core | low if scheme == "a" else core).long()
    if scheme == "b_between_peaks":
        result = result.masked_fill(mask & ~core & (losses < _peak(losses, mixture.log_likelihood, high)), UNDECIDED)
    elif scheme == "d_rest_of_low":
        result = result.masked_fill(low & ~core, UNDECIDED)
    alone = ~low.any(1, keepdim=True) | (mask.sum(1, keepdim=True) == 1)
    return torch.where(alone, mask.long(), result)


def _peak(losses: Tensor, log_likelihood: Tensor, members: Tensor) -> Tensor:
    """Loss of the most likely of `members`, ``[G, 1]``; ∞ where there are none."""
    likelihood = log_likelihood.masked_fill(~members, -torch.inf)
    best = members & (likelihood == likelihood.amax(1, keepdim=True))
    return losses.masked_fill(~best, torch.inf).amin(1, keepdim=True)
