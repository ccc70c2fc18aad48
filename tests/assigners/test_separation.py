"""The four separations against scikit-learn, set by set, and on losses small enough to judge by eye."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from detlab.assigners import paa
from detlab.assigners.separation import UNDECIDED, Scheme, separate
from tests.assigners.literal_paa import SCHEMES, separated
from tests.assigners.score_sets import score_sets

# A decision that was taken by less (in probability or log-likelihood) is one of rounding: see `Literal.margin`.
ROUNDING = 1e-12


def on_row(losses: list[float], scheme: Scheme = "c") -> list[int]:
    values = torch.tensor([losses], dtype=torch.float64)
    return separate(values, torch.ones_like(values, dtype=torch.bool), scheme)[0].tolist()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equals_scikit_learn_but_where_samples_tie_within_rounding(scheme: Scheme) -> None:
    """Allowed to differ: sets of which two samples are equally likely, or one is of both components with the same
    probability, as far as float64 can tell. At most 1 in 200 sets does."""
    sets = score_sets()
    found = separate(sets.values, sets.mask, scheme)
    pairs = enumerate(zip(found, sets.mask, sets.literal, strict=True))
    differing = [number for number, (row, mask, one) in pairs if row[mask].tolist() != one.verdicts[scheme]]
    unexplained = [(n, sets.kind[n]) for n in differing if sets.literal[n].margin > ROUNDING]
    assert unexplained == []
    assert len(differing) <= 0.005 * len(sets.kind), [(n, sets.kind[n]) for n in differing]
    decided = sum(one.margin > ROUNDING for one in sets.literal)
    assert decided > 0.85 * len(sets.kind), "too many sets are excused"
    assert found[~sets.mask].count_nonzero() == 0


def test_schemes_differ_on_many_sets() -> None:
    """Or the test above would show less than it seems to."""
    sets = score_sets()
    found = {scheme: separate(sets.values, sets.mask, scheme) for scheme in SCHEMES}
    for one, other in combinations(SCHEMES, 2):
        assert (found[one] != found[other]).any(1).sum() > 0.3 * len(sets.kind), (one, other)


@pytest.mark.parametrize(
    ("scheme", "verdict"),
    [
        ("a", [1, 1, 1, 0, 0, 0]),
        ("b_between_peaks", [1, 1, -1, -1, 0, 0]),
        ("c", [1, 1, 0, 0, 0, 0]),
        ("d_rest_of_low", [1, 1, -1, 0, 0, 0]),
    ],
)
def test_two_heaps_of_three(scheme: Scheme, verdict: list[int]) -> None:
    """Around 0.2 and 2.1, far apart: the middle one of either heap is its peak."""
    losses = [0.1, 0.2, 0.3, 2.0, 2.1, 2.2]
    assert on_row(losses, scheme) == verdict
    order = [5, 2, 3, 0, 4, 1]
    assert on_row([losses[i] for i in order], scheme) == [verdict[i] for i in order]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_lesser_losses_of_the_other_component_are_positive_too(scheme: Scheme) -> None:
    """A narrow heap at 1.0 inside a wide one: 0.2 is of the wide one, yet nobody leaves out the cheapest."""
    losses = [0.2, 0.99, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.01, 1.9, 3.0]
    values = torch.tensor([losses], dtype=torch.float64)
    share = paa.fit_two_gaussians(values, torch.ones_like(values, dtype=torch.bool)).responsibilities[0, :, 0]
    assert share[0] < 0.5 < share[2], "0.2 must be of the wide heap for this to test anything"
    assert on_row(losses, scheme)[0] == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_candidate_equal_candidates_and_no_candidates(scheme: Scheme) -> None:
    assert on_row([123.0], scheme) == [1]
    assert on_row([0.7, 0.7, 0.7, 0.7], scheme) == [1, 1, 1, 1]
    losses = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    mask = torch.tensor([[False, False, False], [False, False, True]])
    assert separate(losses, mask, scheme).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert separate(losses[:0], mask[:0], scheme).shape == (0, 3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_candidates(scheme: Scheme) -> None:
    """One for each component, its peak: nothing is between."""
    assert on_row([0.2, 0.9], scheme) == [1, 0]
    assert on_row([0.9, 0.2], scheme) == [0, 1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_low_loss_component_without_samples_gives_all(scheme: Scheme) -> None:
    """Nearly equal losses, most at the upper end: the high component ends a little more probable for each."""
    losses = [1.0, 1.002, 1.002]
    values = torch.tensor([losses], dtype=torch.float64)
    share = paa.fit_two_gaussians(values, torch.ones_like(values, dtype=torch.bool)).responsibilities[0, :, 0]
    assert (share < 0.5).all(), "a sample is of the low-loss component: nothing was tested"
    assert on_row(losses, scheme) == [1, 1, 1]
    assert separated(np.array(losses)).verdicts[scheme] == [1, 1, 1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_heaps_far_apart_equal_scikit_learn(scheme: Scheme) -> None:
    """A narrow heap near 0 gives samples near 100,000 a likelihood of exp(−10^15): nothing may be lost beside it."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        losses = np.r_[0.1 + 1e-4 * rng.random(5), 1e5 + rng.normal(0, 0.3, 12)]
        assert on_row(losses.tolist(), scheme) == separated(losses).verdicts[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equal_losses_share_a_side(scheme: Scheme) -> None:
    generator = torch.Generator().manual_seed(0)
    losses = (torch.rand(200, 30, generator=generator) * 8).round() / 8
    mask = torch.rand(200, 30, generator=generator) < 0.8
    found = separate(losses, mask, scheme)
    for row, verdict, there in zip(losses, found, mask, strict=True):
        for value in row[there].unique():
            assert len(verdict[there & (row == value)].unique()) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_positives_are_the_cheapest(scheme: Scheme) -> None:
    """But for a, whose low-loss component may skip samples of the other one between two of its own."""
    sets = score_sets()
    found = separate(sets.values, sets.mask, scheme)
    if scheme != "a":
        dearest = sets.values.masked_fill(found != 1, -torch.inf).amax(1, keepdim=True)
        assert ((found == 1) == (sets.mask & (sets.values <= dearest))).all()
    cheapest = sets.values.masked_fill(~sets.mask, torch.inf).argmin(1)
    assert (found.gather(1, cheapest[:, None]) == 1).all()


def test_schemes_agree_where_fig_3_does() -> None:
    sets = score_sets()
    a, b, c, d = (separate(sets.values, sets.mask, scheme) for scheme in SCHEMES)
    assert torch.equal(a == 1, d != 0)
    assert torch.equal(b == 1, c == 1)
    assert torch.equal(d == 1, c == 1)
    assert (a != UNDECIDED).all()
    assert (c != UNDECIDED).all()
    assert ((b == UNDECIDED) & (d != UNDECIDED)).any()
    assert ((b != UNDECIDED) & (d == UNDECIDED)).any()


def test_what_is_ignored_between_the_peaks_is_less_than_any_negative() -> None:
    """In order of rising loss b says positive, ignored, negative, and never goes back."""
    sets = score_sets()
    found = separate(sets.values, sets.mask, "b_between_peaks")
    place = torch.where(found == 1, 0, torch.where(found == UNDECIDED, 1, 2))
    rising = sets.values.masked_fill(~sets.mask, torch.inf).argsort(dim=1, stable=True)
    place, there = place.gather(1, rising), sets.mask.gather(1, rising)
    assert ((place[:, 1:] >= place[:, :-1]) | ~there[:, 1:]).all()


def test_without_a_high_loss_component_none_is_negative_between_the_peaks() -> None:
    """Nearly equal losses, most at the lower end: the low component ends a little more probable for each."""
    losses = [1.0, 1.0, 1.0, 1.001]
    values = torch.tensor([losses], dtype=torch.float64)
    share = paa.fit_two_gaussians(values, torch.ones_like(values, dtype=torch.bool)).responsibilities[0, :, 0]
    assert (share >= 0.5).all(), "a sample is of the high-loss component: nothing was tested"
    assert on_row(losses, "b_between_peaks") == [1, 1, 1, -1]
    assert separated(np.array(losses)).verdicts["b_between_peaks"] == [1, 1, 1, -1]
    assert on_row(losses, "c") == [1, 1, 1, 0]


def test_rows_with_nan_leave_the_others_alone_and_float32_is_read_as_float64() -> None:
    generator = torch.Generator().manual_seed(1)
    losses = torch.rand(20, 12, generator=generator)
    mask = torch.ones(20, 12, dtype=torch.bool)
    plain = separate(losses, mask)
    assert torch.equal(separate(losses.double(), mask), plain)
    losses[5, 3] = float("nan")
    found = separate(losses, mask)
    others = torch.arange(20) != 5
    assert torch.equal(found[others], plain[others])
    assert set(found[5].tolist()) <= {0, 1}


def test_type_device_and_gradient() -> None:
    losses = torch.rand(3, 4, requires_grad=True)
    found = separate(losses, torch.ones(3, 4, dtype=torch.bool))
    assert found.dtype == torch.int64
    assert not found.requires_grad
    assert paa.separate is separate


@pytest.mark.parametrize("scheme", ["e", "", "C", "ab", "b", "d"])
def test_refuses_other_schemes(scheme: str) -> None:
    """b and d alone named other separations once: no config of then may be read as one of now."""
    with pytest.raises(ValueError, match="Expected scheme a, b_between_peaks, c or d_rest_of_low, got"):
        separate(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), scheme)  # type: ignore[arg-type]
