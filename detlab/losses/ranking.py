"""Ranking-based losses: AP, aLRP, NDCG, Rank & Sort, each a few lines on the error-driven frame.

All take ``logits [...]`` and ``targets [...]`` of the same shape (1 positive, 0 negative, −1 ignored), rank every
element against every other and return scalars of float32 or wider. They are means over the positives already, over
this process's batch; `delta` is half the width of the ramp that stands for the step of a rank. Without positives
they are zero with a zero gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from detlab.losses.error_driven import (
    EPSILON,
    Gradient,
    Loss,
    Ranked,
    Term,
    error_driven,
    over_false_positives,
    over_false_positives_if_any,
)


def ap_loss(logits: Tensor, targets: Tensor, delta: float = 1.0, interpolate: bool = True) -> Tensor:
    """1 − average precision (Chen et al. 2020; Oksuz et al. 2020, Eqs. 2 and 4), in [0, 1].

    ℓ(i) = N_FP(i) / rank(i) = 1 − precision(i). interpolate: a positive's precision is the highest of those at and
    below its score, and its error shrinks accordingly, as in the original code; False is the papers' plain precision.
    """

    def loss(ranked: Ranked) -> Loss:
        precision = ranked.rank_positive / ranked.rank
        if interpolate:
            order = ranked.scores.argsort()
            precision = torch.empty_like(precision).index_copy_(0, order, precision[order].cummax(0).values)
        return Loss.of(1 - precision)

    return error_driven(logits, targets, loss, delta)


def alrp_loss(
    logits: Tensor,
    targets: Tensor,
    localization_errors: Tensor,
    delta: float = 1.0,
    target: Literal["localization", "zero"] = "localization",
) -> tuple[Tensor, Tensor]:
    """Average localisation-recall-precision loss (Oksuz et al. 2020, Eqs. 9–14) → (classification, localization).

    localization_errors: E_loc ``[P]`` ≥ 0, in the order of the positives within `logits`: (1 − IoU) / (1 − τ). Their
    gradient is autograd's through the localisation part, that of the logits the error-driven one of the whole loss,
    carried by the classification part. The loss itself is the sum of the two.

    The localisation part adds up errors in the order of the scores (ties: as they stand) and divides by the rank of
    the ramp (Appendix E). In the gradient of the scores the plain errors stand (Eq. 14), not the cumulative sums of
    Algorithm A.1, line 29.

    target: "localization" is Eq. 13; "zero" the wrong target of Appendix G, under which positives are pushed up even
    when no negative is above them.
    Raises ValueError unless there is one error for each positive.
    """
    if target not in ("localization", "zero"):
        raise ValueError(f"Expected target localization or zero, got {target!r}.")
    errors = localization_errors.detach().double()
    order, ranks = torch.empty(0, dtype=torch.int64, device=logits.device), errors

    def loss(ranked: Ranked) -> Loss:
        nonlocal order, ranks
        if errors.shape != (len(ranked),):
            raise ValueError(
                f"Expected one localisation error for each of {len(ranked)} positives, got {tuple(errors.shape)}."
            )
        order, ranks = ranked.scores.argsort(descending=True, stable=True), ranked.rank
        error = (ranked.false_positives + errors + ranked.above(errors)) / ranked.rank
        right = errors / ranked.rank if target == "localization" else torch.zeros_like(errors)
        spread = over_false_positives if target == "localization" else over_false_positives_if_any
        z = max(len(ranked), 1)
        return Loss((ranked.false_positives / ranked.rank).sum() / z, [Term(error, right, spread)], z)

    classification = error_driven(logits, targets, loss, delta)
    weights = (1 / ranks[order]).flip(0).cumsum(0).flip(0).to(classification.dtype)  # Eq. A.48
    localization = (localization_errors.to(classification.dtype)[order] * weights).sum() / max(len(errors), 1)
    return classification, localization


def ndcg_loss(logits: Tensor, targets: Tensor, delta: float = 1.0, printed_maximum: bool = False) -> Tensor:
    """1 − normalised discounted cumulative gain (Oksuz et al. 2020, Appendix D), in [0, 1].

    G(i) = 1 / log₂(1 + rank(i)), ℓ(i) = (G_max / |P| − G(i)) / G_max, Z = 1; the target is that of rank 1.
    G_max is the gain of the ideal ranking, Σ_{i ≤ |P|} 1 / log₂(1 + i). The paper prints Σ log₂(1 + i), with which the
    loss does not reach 0; printed_maximum=True takes that.
    """

    def loss(ranked: Ranked) -> Loss:
        discount = torch.log2(1 + torch.arange(1, len(ranked) + 1, device=logits.device, dtype=torch.float64))
        maximum = (discount if printed_maximum else 1 / discount).sum()
        share, gain = maximum / max(len(ranked), 1), 1 / torch.log2(1 + ranked.rank)
        return Loss.of((share - gain) / maximum, ((share - 1) / maximum).expand(len(ranked)), z=1)

    return error_driven(logits, targets, loss, delta)


def rank_sort_loss(logits: Tensor, targets: Tensor, qualities: Tensor, delta: float = 0.5) -> Tensor:
    """Rank & Sort loss (Oksuz et al. 2021, https://arxiv.org/abs/2107.11669, Section 3).

    qualities: y ``[P]`` in [0, 1], in the order of the positives within `logits`, usually the IoU of their boxes; no
    gradient passes to them. Ranking: ℓ_R(i) = N_FP(i) / rank(i), target 0, spread over the negatives above i. Sorting:
    ℓ_S(i) = Σ_k H(x_ik) (1 − y_k) / rank⁺(i), target: the same mean over the k above i that are as good or better
    (i among them), spread alike over the worse ones above i. In all sums over positives i itself counts 1, as in
    Eq. 3 of the aLRP paper.
    Raises ValueError unless there is one quality for each positive.
    """
    y = qualities.detach().double()

    def loss(ranked: Ranked) -> Loss:
        if y.shape != (len(ranked),):
            raise ValueError(f"Expected one quality for each of {len(ranked)} positives, got {tuple(y.shape)}.")
        ones = torch.ones_like(y)
        worse = ranked.above_and_better(ones, -y)  # Σ_k H(x_ik) [y_k < y_i]
        worse_error = ranked.above_and_better(1 - y, -y)
        total_error = 1 - y + ranked.above(1 - y)
        sorting = total_error / ranked.rank_positive
        target = (total_error - worse_error) / (ranked.rank_positive - worse).clamp(min=1)

        def over_worse_positives(ranked: Ranked, updates: Tensor) -> Gradient:
            """p(j|i) = H(x_ij) [y_j < y_i] / Σ_k H(x_ik) [y_k < y_i]."""
            updates = torch.where(worse >= EPSILON, updates, 0)
            shares = updates / worse.clamp(min=EPSILON)
            # What falls on j is Σ_i shares_i H(s_j − s_i) over the better i, and H(x) = 1 − H(−x).
            received = _over_better(shares, y) - ranked.above_and_better(shares, y)
            return Gradient(received.clamp(min=0) - updates, None)

        ranking, z = ranked.false_positives / ranked.rank, max(len(ranked), 1)
        terms = [Term(ranking, torch.zeros_like(y)), Term(sorting, target, over_worse_positives)]
        return Loss((ranking + sorting - target).sum() / z, terms, z)

    return error_driven(logits, targets, loss, delta)


def _over_better(values: Tensor, qualities: Tensor) -> Tensor:
    """Σ values_k over the k with qualities_k > qualities_i, for every i ``[P]``."""
    levels, rank = qualities.unique(return_inverse=True)
    sums = values.new_zeros(len(levels)).index_add_(0, rank, values)
    return (sums.sum() - sums.cumsum(0))[rank]
