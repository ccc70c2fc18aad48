"""The fast ranking losses against their equations, and the theorems they have to obey."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detlab.losses import error_driven as error_driven_module
from detlab.losses import ramp as ramp_module
from detlab.losses.error_driven import Loss, Ranked, error_driven
from detlab.losses.ramp import Pieces, ramp_among, ramp_among_better
from detlab.losses.ranking import alrp_loss, ap_loss, ndcg_loss, rank_sort_loss
from tests.losses.literal_ranking import (
    Found,
    literal_alrp,
    literal_ap,
    literal_ndcg,
    literal_rank_sort,
    ramp,
)

Case = tuple[Tensor, Tensor, Tensor]


def case(positives: int, negatives: int, ignored: int = 0, seed: int = 0, scale: float = 2.0) -> Case:
    """logits, targets, one value in [0, 1] per positive; shuffled, of three axes when that is possible."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.tensor([1] * positives + [0] * negatives + [-1] * ignored)
    kind = kind[torch.randperm(len(kind), generator=generator)]
    logits = torch.randn(len(kind), generator=generator, dtype=torch.float64) * scale + kind
    return logits, kind, torch.rand(positives, generator=generator, dtype=torch.float64)


def ties() -> Case:
    logits, targets, values = case(12, 40, 5, seed=3)
    return (logits * 2).round() / 2, targets, (values * 4).round() / 4


def all_below() -> Case:
    logits, targets, values = case(6, 30)
    return torch.where(targets == 1, logits + 100, logits), targets, values


def far_apart() -> Case:
    logits, targets, values = case(8, 60, seed=5)
    return logits * 1e4, targets, values


def equal() -> Case:
    kinds = torch.tensor([1, 0, -1] * 10)
    return torch.full((30,), 0.25, dtype=torch.float64), kinds, torch.full((10,), 0.5, dtype=torch.float64)


def alone() -> Case:
    kinds = torch.tensor([-1, -1, 1, -1, -1])
    return torch.zeros(5, dtype=torch.float64), kinds, torch.ones(1, dtype=torch.float64)


CASES: dict[str, Case] = {
    "random": case(9, 200, 20),
    "many positives": case(150, 300, 10, seed=1),
    "one positive": case(1, 50, 3, seed=2),
    "one of each": case(1, 1, seed=4),
    "no negative": case(7, 0, 4, seed=6),
    "ties": ties(),
    "all equal": equal(),
    "all negatives below": all_below(),
    "all negatives far below or above": far_apart(),
    "all ignored but one": alone(),
}

LOSSES: dict[str, tuple[Callable[..., Any], Callable[..., Found]]] = {
    "ap": (lambda x, t, _: ap_loss(x, t), lambda x, t, _: literal_ap(x, t)),
    "ap plain": (lambda x, t, _: ap_loss(x, t, 0.7, False), lambda x, t, _: literal_ap(x, t, 0.7, False)),
    "alrp": (alrp_loss, literal_alrp),
    "alrp wrong target": (
        lambda x, t, e: alrp_loss(x, t, e, target="zero"),
        lambda x, t, e: literal_alrp(x, t, e, wrong=True),
    ),
    "ndcg": (lambda x, t, _: ndcg_loss(x, t), lambda x, t, _: literal_ndcg(x, t)),
    "ndcg printed": (lambda x, t, _: ndcg_loss(x, t, 0.5, True), lambda x, t, _: literal_ndcg(x, t, 0.5, True)),
    "rank and sort": (rank_sort_loss, literal_rank_sort),
}


def run(loss: Callable[..., Any], logits: Tensor, targets: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """value, gradient of the logits; the localisation part where there is one."""
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, targets, values)
    value, localization = value if isinstance(value, tuple) else (value, torch.zeros(()))
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient, localization


def close(found: Tensor, expected: Tensor, rtol: float = 1e-6) -> None:
    """Within `rtol` of each element, or of what float64 sums of this size can give."""
    floor = 1e-13 * float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=max(floor, 1e-14))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("which", LOSSES)
def test_values_and_gradients_are_those_of_the_literal_loop(which: str, name: str) -> None:
    fast, literal = LOSSES[which]
    value, gradient, localization = run(fast, *CASES[name])
    expected = literal(*CASES[name])
    assert value.item() == pytest.approx(expected.value, rel=1e-6, abs=1e-12)
    close(gradient, expected.gradient)
    if which.startswith("alrp"):
        assert localization.item() == pytest.approx(expected.localization, rel=1e-6)


@pytest.mark.parametrize("seed", range(25))
def test_random_sizes_scales_and_widths(seed: int) -> None:
    generator = torch.Generator().manual_seed(1000 + seed)
    positives, negatives = (int(torch.randint(1, n, (), generator=generator)) for n in (40, 400))
    scale = float(10 ** torch.empty(()).uniform_(-2, 2, generator=generator))
    delta = float(10 ** torch.empty(()).uniform_(-1.5, 1, generator=generator))
    logits, targets, values = case(positives, negatives, 7, seed, scale)
    for fast, literal in [(ap_loss, literal_ap), (ndcg_loss, literal_ndcg)]:
        value, gradient, _ = run(lambda x, t, _, f=fast: f(x, t, delta), logits, targets, values)
        expected = literal(logits, targets, delta)  # type: ignore[operator]
        assert value.item() == pytest.approx(expected.value, rel=1e-6, abs=1e-12)
        close(gradient, expected.gradient)
    for fast, literal in [(alrp_loss, literal_alrp), (rank_sort_loss, literal_rank_sort)]:
        value, gradient, _ = run(lambda x, t, v, f=fast: f(x, t, v, delta), logits, targets, values)
        expected = literal(logits, targets, values, delta)  # type: ignore[operator]
        assert value.item() == pytest.approx(expected.value, rel=1e-6, abs=1e-12)
        close(gradient, expected.gradient)


def test_the_errors_of_alrp_get_autograds_gradient() -> None:
    for logits, targets, values in CASES.values():
        errors = values.clone().requires_grad_()
        classification, localization = alrp_loss(logits.clone().requires_grad_(), targets, errors)
        (gradient,) = torch.autograd.grad(localization, errors)
        expected = literal_alrp(logits, targets, values).errors_gradient
        assert expected is not None
        close(gradient, expected)
        assert torch.autograd.grad(classification, errors, allow_unused=True) == (None,)


@pytest.mark.parametrize("which", LOSSES)
@pytest.mark.parametrize("shape", [(0,), (6,), (2, 3, 4)])
def test_without_positives_all_is_zero(which: str, shape: tuple[int, ...]) -> None:
    logits, targets = torch.randn(shape), torch.zeros(shape, dtype=torch.int8)
    value, gradient, localization = run(LOSSES[which][0], logits, targets, torch.zeros(0))
    assert value.item() == localization.item() == 0
    assert torch.equal(gradient, torch.zeros(shape))


def test_without_positives_the_errors_are_reached_all_the_same() -> None:
    errors = torch.zeros(4, requires_grad=True)
    _, localization = alrp_loss(torch.zeros(3), torch.zeros(3), errors[:0])
    (gradient,) = torch.autograd.grad(localization, errors)
    assert torch.equal(gradient, torch.zeros(4))


@pytest.mark.parametrize("which", LOSSES)
def test_shape_order_and_dtype_of_the_targets_do_not_matter(which: str) -> None:
    logits, targets, values = case(24, 90, 6)
    fast = LOSSES[which][0]
    value, gradient, _ = run(fast, logits, targets, values)
    shaped = run(fast, logits.view(4, 5, 6), targets.view(4, 5, 6).to(torch.int8), values)
    assert shaped[0] == value
    assert torch.equal(shaped[1].flatten(), gradient)
    order = torch.randperm(len(logits))
    inside = targets[order] == 1
    place = (targets == 1).cumsum(0) - 1
    again = run(fast, logits[order], targets[order], values[place[order][inside]])
    assert again[0].item() == pytest.approx(value.item(), rel=1e-9)
    close(again[1], gradient[order], 1e-9)


@pytest.mark.parametrize("which", LOSSES)
def test_one_shift_of_all_logits_changes_nothing(which: str) -> None:
    logits, targets, values = case(20, 90)
    value, gradient, _ = run(LOSSES[which][0], logits, targets, values)
    moved = run(LOSSES[which][0], logits - 1000, targets, values)
    assert moved[0].item() == pytest.approx(value.item(), rel=1e-9)
    torch.testing.assert_close(moved[1], gradient, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("which", ["ap", "ap plain", "alrp", "ndcg", "rank and sort"])
def test_theorem_1_and_theorem_2(which: str, seed: int) -> None:
    """The primary terms sum to the loss where every positive has someone to spread its error over, and positives and
    negatives get gradients of one size. Sorting spreads among positives: there the sums of all signs cancel."""
    logits, targets, values = case(5 + seed, 40 + 20 * seed, 4, seed, scale=1.0)
    logits = torch.cat([logits, logits.max()[None] + 3])  # a negative above all
    targets = torch.cat([targets, torch.zeros(1, dtype=torch.int64)])
    fast, literal = LOSSES[which]
    value, gradient, _ = run(fast, logits, targets, values)
    if which == "alrp":  # the ramp, not the step, orders the errors that the primary terms hold
        among = ramp_among(logits[targets == 1], values, 1.0)
        rank = Ranked(logits[targets == 1], logits[targets == 0], 1.0).rank
        value = value + ((values + among) / rank).mean()
    assert float(value) == pytest.approx(literal(logits, targets, values).primary, rel=1e-9)
    if which != "rank and sort":
        positives, negatives = gradient[targets == 1], gradient[targets == 0]
        assert (positives <= 0).all()
        assert (negatives >= 0).all()
        assert positives.abs().sum().item() == pytest.approx(negatives.abs().sum().item(), rel=1e-9)
    assert gradient.sum().item() == pytest.approx(0, abs=1e-12)
    assert (gradient[targets == -1] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_of_ap_loss_the_gradients_sum_to_the_value(seed: int) -> None:
    """The target is zero, so positives get the loss itself (Appendix F.2)."""
    logits, targets, values = case(9, 80, seed=seed)
    value, gradient, _ = run(LOSSES["ap"][0], logits, targets, values)
    assert gradient[targets == 1].sum().item() == pytest.approx(-value.item(), rel=1e-6)


def test_the_wrong_target_breaks_theorem_2() -> None:
    """Well ranked positives are pushed up on and on (Appendix G)."""
    logits, targets, errors = CASES["all negatives below"]
    _, right, _ = run(alrp_loss, logits, targets, errors)
    _, wrong, _ = run(LOSSES["alrp wrong target"][0], logits, targets, errors)
    assert (right == 0).all()
    assert (wrong[targets == 1] < 0).all()
    assert (wrong[targets == 0] == 0).all()


def test_perfect_rankings_cost_nothing() -> None:
    logits = torch.tensor([9.0, 6.0, 3.0, -3.0, -6.0])
    targets = torch.tensor([1, 1, 1, 0, 0])
    assert ap_loss(logits, targets).item() == 0
    assert ndcg_loss(logits, targets).item() == pytest.approx(0, abs=1e-7)
    assert rank_sort_loss(logits, targets, torch.tensor([0.9, 0.7, 0.5])).item() == pytest.approx(0, abs=1e-7)
    assert rank_sort_loss(logits, targets, torch.tensor([0.5, 0.7, 0.9])).item() > 0.05
    assert ndcg_loss(logits, targets, printed_maximum=True).item() > 0.3


def test_bounds() -> None:
    for seed in range(20):
        logits, targets, values = case(8, 60, seed=seed, scale=5.0)
        for fast in (LOSSES["ap"][0], LOSSES["ndcg"][0], LOSSES["ap plain"][0]):
            assert 0 <= run(fast, logits, targets, values)[0].item() <= 1
        assert sum(v.item() for v in alrp_loss(logits, targets, values)) <= 1


@pytest.mark.slow
def test_a_million_negatives() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1_000_020, generator=generator) * 2 - 2
    targets = torch.zeros(len(logits), dtype=torch.int8)
    positive = torch.randperm(len(logits), generator=generator)[:20]
    targets[positive] = 1
    values = torch.rand(20, generator=generator)
    for which in ("ap", "alrp", "ndcg", "rank and sort"):
        fast, literal = LOSSES[which]
        value, gradient, _ = run(fast, logits, targets, values)
        expected = literal(logits, targets, values)
        assert value.item() == pytest.approx(expected.value, rel=1e-6)
        torch.testing.assert_close(gradient.double(), expected.gradient, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("which", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits(which: str, dtype: torch.dtype) -> None:
    """Exactly the loss of the rounded logits; only the gradient is rounded once more."""
    logits, targets, values = case(20, 200, 5)
    half = logits.to(dtype)
    value, gradient, _ = run(LOSSES[which][0], half, targets, values)
    expected = LOSSES[which][1](half, targets, values)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert value.item() == pytest.approx(expected.value, rel=1e-6)
    torch.testing.assert_close(gradient, expected.gradient.to(dtype), rtol=0.01, atol=1e-6)


def test_small_gradients_survive_float16_under_a_loss_scale() -> None:
    logits = torch.cat([torch.zeros(1), torch.linspace(-1, 1, 50_000)]).half().requires_grad_()
    targets = (torch.arange(50_001) == 0).long()
    (ap_loss(logits, targets) * 2**12).backward()
    assert logits.grad is not None
    assert (logits.grad[1:] > 0).float().mean() > 0.9


@pytest.mark.parametrize("which", LOSSES)
def test_a_broken_number_is_not_hidden(which: str) -> None:
    for place in (0, 1):  # the positive, the negative
        logits, targets = torch.tensor([0.0, 0.0, -1.0]), torch.tensor([1, 0, 0])
        logits[place] = math.nan
        value, _, localization = run(LOSSES[which][0], logits, targets, torch.ones(1))
        assert (value + localization).isnan()


def test_without_gradient_and_twice_backward() -> None:
    logits, targets, _ = case(5, 20)
    assert not ap_loss(logits, targets).requires_grad
    leaf = logits.clone().requires_grad_()
    loss = ap_loss(leaf, targets) * 3
    (once,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (twice,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(once, twice)
    close(once, 3 * literal_ap(logits, targets).gradient)


@pytest.mark.parametrize("seed", range(10))
def test_sums_over_the_better_against_every_pair(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, values = (torch.randn(70, generator=generator, dtype=torch.float64) for _ in range(2))
    qualities = torch.randint(0, 1 + 3 * seed, (70,), generator=generator).double()
    pairs = ramp(scores[None] - scores[:, None], 0.4) * values
    better = qualities[None] > qualities[:, None]
    close(ramp_among_better(scores, values, qualities, 0.4), (pairs * better).sum(1), 1e-9)
    same = (qualities[None] == qualities[:, None]) & ~torch.eye(70, dtype=torch.bool)
    close(ramp_among(scores, values, 0.4, qualities.long()), (pairs * same).sum(1), 1e-9)


def test_a_loss_of_ones_own_is_a_few_lines() -> None:
    """Reciprocal rank, in the frame: ℓ(i) = 1 − 1 / rank(i)."""
    logits, targets, _ = case(6, 40)

    def reciprocal_rank(x: Tensor, t: Tensor, _: Tensor) -> Tensor:
        return error_driven(x, t, lambda ranked: Loss.of(1 - 1 / ranked.rank))

    value, gradient, _ = run(reciprocal_rank, logits, targets, targets)
    scores = logits[targets == 1]
    ranks = [1 + sum(float(ramp(other - s, 1.0)) for other in logits[targets >= 0]) - 0.5 for s in scores]
    assert value.item() == pytest.approx(sum(1 - 1 / rank for rank in ranks) / 6)
    assert gradient.sum().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ap_loss(torch.zeros(3), torch.zeros(4)), "targets of the logits' shape"),
        (lambda: ap_loss(torch.zeros(3), torch.zeros(3), delta=0.0), "delta above 0"),
        (lambda: ap_loss(torch.zeros(3), torch.zeros(3), delta=math.inf), "delta above 0"),
        (lambda: alrp_loss(torch.zeros(3), torch.ones(3), torch.zeros(2)), "one localisation error for each of 3"),
        (lambda: alrp_loss(torch.zeros(1), torch.ones(1), torch.zeros(1), target="x"), "target"),  # type: ignore[arg-type]
        (lambda: rank_sort_loss(torch.zeros(3), torch.ones(3), torch.zeros(2)), "one quality for each of 3"),
    ],
)
def test_refuses_what_does_not_fit(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("which", LOSSES)
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    whole = run(LOSSES[which][0], *CASES["random"])
    monkeypatch.setitem(ramp_module._CHUNK, "cpu", 7)
    monkeypatch.setitem(error_driven_module._CHUNK, "cpu", 11)
    for found, expected in zip(run(LOSSES[which][0], *CASES["random"]), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("seed", range(8))
def test_pieces_are_those_of_a_binary_search(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    edges = (torch.randn(1 + 40 * seed, generator=generator).double() * 10.0 ** (seed - 4)).sort().values
    if seed == 3:
        edges[-1] = 1e9  # all others in one cell
    if seed == 4:
        edges = edges.round().sort().values  # many of one value
    values = torch.cat([edges, torch.randn(3000, generator=generator).double() * 10.0 ** (seed - 4)])
    special = torch.tensor([math.inf, -math.inf, math.nan, 1e300, -1e300, 0.0], dtype=torch.float64)
    values = torch.cat([values, edges.nextafter(edges + 1), edges.nextafter(edges - 1), special])
    assert torch.equal(Pieces(edges)(values), torch.bucketize(values, edges, out_int32=True))
    assert torch.equal(Pieces(edges)(values[:0]), torch.zeros(0, dtype=torch.int32))
