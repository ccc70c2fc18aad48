"""Error-driven optimisation of ranking-based losses: one frame for AP, aLRP, NDCG and Rank & Sort.

A loss L = 1/Z · Σ_{i ∈ P} ℓ(i) is spread over pairs by a probability p(j|i), into the primary terms
L_ij = ℓ(i) · p(j|i) (Oksuz et al. 2020, Definition 1, Theorem 1). The update of x_ij = s_j − s_i that mends a pair is
Δx_ij = L*_ij − L_ij, with L*_ij its target, and the gradient of a score follows as Σ_j Δx_ij − Σ_j Δx_ji (Eq. 5).
With L*_ij = ℓ*(i) · p(j|i), a positive i gets −(ℓ(i) − ℓ*(i)) / Z, and each j its share p(j|i) of the opposite.

So a loss is a function of `Ranked` that says ℓ, ℓ* and p: see `detlab.losses.ranking`, where each is a few lines.
Adding one is writing such a function and handing it to `error_driven`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from detlab.losses.ramp import RampSums, ramp_among, ramp_among_better

# Elements whose index is made at once; on a GPU each makes the host wait.
_CHUNK = {"cpu": 2**20}
_CHUNK_ELSEWHERE = 2**26

# N_FP below which no negative stands above a positive (Algorithm A.1, line 28).
EPSILON = 1e-5


class Ranked:
    """Where each positive stands: float64 ``[P]``, in the order of the positives within the logits.

    scores: the logits of the positives; negatives: those of the negatives, in any precision; delta: half the
    ramp's width.
    """

    def __init__(self, scores: Tensor, negatives: Tensor, delta: float) -> None:
        self.scores, self.negatives, self.delta = scores, negatives, delta
        self._sums = RampSums(scores, negatives, delta)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def false_positives(self) -> Tensor:
        """N_FP(i) = Σ_{j ∈ N} H(x_ij)."""
        return self._sums.of_others()

    @cached_property
    def rank_positive(self) -> Tensor:
        """rank⁺(i) = 1 + Σ_{k ∈ P, k ≠ i} H(x_ik)."""
        return 1 + self.above(torch.ones_like(self.scores))

    @cached_property
    def rank(self) -> Tensor:
        """rank(i) = rank⁺(i) + N_FP(i) (Eq. 3)."""
        return self.rank_positive + self.false_positives

    def above(self, values: Tensor) -> Tensor:
        """Σ_{k ∈ P, k ≠ i} values_k · H(x_ik) ``[P]``."""
        return ramp_among(self.scores, values, self.delta)

    def above_and_better(self, values: Tensor, qualities: Tensor) -> Tensor:
        """Σ_{k ∈ P} values_k · H(x_ik) over the k of higher quality than i ``[P]``."""
        return ramp_among_better(self.scores, values, qualities, self.delta)

    def onto_negatives(self, shares: Tensor) -> Tensor:
        """Σ_i shares_i · H(x_ij) for every negative j, float32 unless they are float64."""
        return self._sums.onto_others(shares, loss_dtype(self.negatives))

    def check(self) -> Tensor:
        """0, or not a number if a negative that matters is none or infinite."""
        return self._sums.check()


class Gradient(NamedTuple):
    """Of the scores: positives ``[P]``, negatives ``[N]`` or None for zeros."""

    positives: Tensor
    negatives: Tensor | None


class Spread(Protocol):
    """p(j|i): over whom the error of a positive is spread."""

    def __call__(self, ranked: Ranked, updates: Tensor) -> Gradient:
        """`updates [P]` = ℓ(i) − ℓ*(i) → gradient: minus the update at i, plus p(j|i) of it at each j."""
        ...


def over_false_positives(ranked: Ranked, updates: Tensor) -> Gradient:
    """p(j|i) = H(x_ij) / N_FP(i): alike over the negatives above i. Without any, i stays as it is."""
    mistaken = ranked.false_positives >= EPSILON
    updates = torch.where(mistaken, updates, 0)
    return Gradient(-updates, ranked.onto_negatives(updates / ranked.false_positives.clamp(min=EPSILON)))


def over_false_positives_if_any(ranked: Ranked, updates: Tensor) -> Gradient:
    """As `over_false_positives`, but a positive below no negative is pushed up all the same (Appendix G): what
    is spread is then less than what is taken, and Theorem 2 does not hold."""
    return Gradient(-updates, over_false_positives(ranked, updates).negatives)


class Term(NamedTuple):
    """error: ℓ(i) ``[P]``; target: ℓ*(i) ``[P]``, its value where i is ranked properly; spread: p(j|i)."""

    error: Tensor
    target: Tensor
    spread: Spread = over_false_positives


class Loss(NamedTuple):
    """value: what is reported; terms and z: what the gradient comes from."""

    value: Tensor
    terms: Sequence[Term]
    z: float

    @staticmethod
    def of(
        error: Tensor, target: Tensor | None = None, z: float | None = None, spread: Spread = over_false_positives
    ) -> Loss:
        """One term, whose sum is the value (Theorem 1); target: zeros unless given, z: |P| unless given."""
        z = max(len(error), 1) if z is None else z
        return Loss(error.sum() / z, [Term(error, torch.zeros_like(error) if target is None else target, spread)], z)


def error_driven(logits: Tensor, targets: Tensor, loss: Callable[[Ranked], Loss], delta: float = 1.0) -> Tensor:
    """A ranking loss with its error-driven gradient, a scalar of float32 (float64 for float64 logits).

    ``logits [...]``, ``targets [...]`` of the same shape: 1 positive, 0 negative, −1 ignored. All elements are ranked
    together. `loss` gets float64 tensors without gradient. Without positives the value is zero with a zero gradient.
    Raises ValueError for other shapes and for a delta that is not a number above zero.
    """
    if targets.shape != logits.shape:
        raise ValueError(f"Expected targets of the logits' shape {tuple(logits.shape)}, got {tuple(targets.shape)}.")
    check_delta(delta)
    with torch.no_grad():
        dtype, flat, kind = loss_dtype(logits), logits.reshape(-1), targets.reshape(-1)
        positive = (kind == 1).nonzero()[:, 0]
        scores = flat.index_select(0, positive).double()
        negative = _relevant(flat, kind, scores, delta)
        ranked = Ranked(scores, _select(flat, negative), delta)
        found = loss(ranked)
        value = (found.value + ranked.check()).to(dtype) if len(scores) else flat.new_zeros((), dtype=dtype)
        if not logits.requires_grad:
            return value
        gradient = torch.zeros(flat.shape, dtype=dtype, device=flat.device)
        parts = [term.spread(ranked, (term.error - term.target) / found.z) for term in found.terms]
        onto_negatives = [part.negatives for part in parts if part.negatives is not None]
        if onto_negatives:
            gradient.masked_scatter_(negative, sum(onto_negatives[1:], onto_negatives[0]).to(dtype))
        onto_positives = torch.stack([part.positives for part in parts]).sum(0)
        gradient.index_copy_(0, positive, onto_positives.to(dtype))
    return _WithGradient.apply(logits, value, gradient.view(logits.shape))


def _relevant(flat: Tensor, kind: Tensor, scores: Tensor, delta: float) -> Tensor:
    """Which negatives reach any positive's ramp, bool like `flat`: the others have no part in value or gradient. Not a
    number counts as reaching, and makes the loss one."""
    if not len(scores):
        return torch.zeros_like(kind, dtype=torch.bool)
    lowest = scores.min()
    lowest = lowest - delta - 0.01 * (lowest.abs() + delta)  # whatever the logits' precision makes of it
    return (kind == 0) & ~(flat < lowest.to(flat.dtype))


def _select(values: Tensor, mask: Tensor) -> Tensor:
    """``values[mask]``; a chunk at a time its index needs little memory."""
    step = _CHUNK.get(values.device.type, _CHUNK_ELSEWHERE)
    chunks = zip(values.split(step), mask.split(step), strict=True)
    return torch.cat([values[:0], *(v.index_select(0, m.nonzero()[:, 0]) for v, m in chunks)])


def check_delta(delta: float) -> None:
    """Raise ValueError unless the half-width of a ramp is a number above zero."""
    if not 0 < delta < math.inf:
        raise ValueError(f"Expected delta above 0, got {delta}.")


def loss_dtype(x: Tensor) -> torch.dtype:
    """The precision of losses and gradients of `x`."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


class _WithGradient(torch.autograd.Function):
    """`value`, whose gradient to the logits is `gradient`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_output).to(ctx.dtype), None, None
