import itertools
import operator
from pathlib import Path

import numpy as np
import pytest

from detlab.reporting.pages.wording import remarks
from detlab.reporting.study.claims import judge, parse_claim
from detlab.reporting.study.table import Run, TableRow


def verdict(text, *rows, source=""):
    (found,) = judge(parse_claim(text, [row.name for row in rows]), rows, source)
    return found


def test_every_seed_better_holds(row):
    found = verdict("AP: a > b", row("a", AP=[50, 52, 51]), row("b", AP=[49, 49.5, 48]), source="Table 1")
    # Differences 1, 2.5, 3.
    assert (found.decision, found.seeds, found.claim, found.source) == ("holds", 3, "AP: a > b", "Table 1")
    assert found.difference == pytest.approx(6.5 / 3)
    assert (found.low, found.high) == (1.0, 3.0)
    assert found.reason == ""


def test_every_seed_worse_fails(row):
    found = verdict("AP: a < b", row("a", AP=[50, 52, 51]), row("b", AP=[49, 49.5, 48]))
    assert (found.decision, found.low, found.high, found.reason) == ("fails", -3.0, -1.0, "")


def test_seeds_that_disagree_leave_it_undecided(row):
    found = verdict("AP: a > b", row("a", AP=[50, 50, 50]), row("b", AP=[45, 45, 50.5]))
    assert (found.decision, found.low, found.high) == ("undecided", -0.5, 5.0)
    assert found.reason == "the interval spans zero"


def test_seeds_are_paired_not_pooled(row):
    # The rows overlap widely (30 … 60 and 29 … 59), and yet each seed gains one point.
    found = verdict("AP: a > b", row("a", AP=[30, 45, 60]), row("b", AP=[29, 44, 59]))
    assert (found.decision, found.low, found.high) == ("holds", 1.0, 1.0)


def test_a_number_is_a_border_in_points(row):
    a, b = row("a", AP=[52.5, 53, 54]), row("b", AP=[50, 50, 50])
    assert verdict("AP: a - b >= 2", a, b).decision == "holds"
    assert verdict("AP: a - b >= 3", a, b).decision == "undecided"
    assert verdict("AP: a - b >= 4.1", a, b).decision == "fails"


@pytest.mark.parametrize(
    ("sign", "decision", "reason"),
    [
        (">", "undecided", "the interval touches zero"),
        (">=", "holds", ""),
        ("<=", "undecided", "the interval touches zero"),
    ],
)
def test_only_signs_with_equality_count_the_border(row, sign, decision, reason):
    # 36.3 - 35.3 is no exact one in binary; 0.363 and 0.353, as files hold them, are not either.
    found = verdict(f"AP: a - b {sign} 1", row("a", AP=[36.3, 36.3, 37]), row("b", AP=[35.3, 35.3, 35]))
    assert (found.decision, found.reason) == (decision, reason)


def test_equal_runs_are_equal_but_not_better(row):
    rows = row("a", AP=[50, 51, 52]), row("b", AP=[50, 51, 52])
    assert [verdict(f"AP: a {sign} b", *rows).decision for sign in (">", ">=", "<", "<=")] == [
        "undecided", "holds", "undecided", "holds",
    ]  # fmt: skip


def test_a_chain_is_judged_pair_by_pair_each_on_its_own_seeds(row):
    rows = [row("a", AP=[40, 41, 42]), row("b", AP=[43, 44, 45, 46]), row("c", AP=[44, 43, 46, 46.5])]
    first, second = judge(parse_claim("AP: a < b < c", ["a", "b", "c"]), rows, "Fig. 2")
    assert (first.claim, first.decision, first.seeds, first.source) == ("AP: a < b", "holds", 3, "Fig. 2")
    assert (second.claim, second.decision, second.seeds, second.source) == ("AP: b < c", "undecided", 4, "Fig. 2")


def test_other_metrics_and_ones_that_are_no_points(row):
    a = row("a", AP=[50, 51, 52], AP90=[10, 11, 12], IoU=[90, 80, 85])
    b = row("b", AP=[50, 51, 52], AP90=[8, 7, 9], IoU=[70, 75, 70])
    assert verdict("AP90: a > b", a, b).decision == "holds"
    assert verdict("AP90(a) - AP90(b) > AP(a) - AP(b)", a, b).low == pytest.approx(2.0)
    found = verdict("IoU: a - b >= 0.04", a, b)  # 0.2, 0.05, 0.15 as written, not times 100
    assert (found.low, found.high) == (pytest.approx(0.01), pytest.approx(0.16))


def test_about_the_same_is_a_claim_about_the_mean(row):
    near = verdict("AP: abs(a - b) <= 0.5", row("a", AP=[50.2, 49.9, 50.1]), row("b", AP=[50, 50, 50]))
    # Differences 0.2, -0.1, 0.1: the mean 0.0667, its interval [-0.1, 0.2], so |mean| in [0, 0.2].
    assert (near.decision, near.low, near.high) == ("holds", pytest.approx(0.3), pytest.approx(0.5))
    assert near.difference == pytest.approx(0.5 - 0.2 / 3)
    far = verdict("AP: abs(a - b) <= 0.5", row("a", AP=[52, 53, 54]), row("b", AP=[50, 50, 50]))
    assert (far.decision, far.low, far.high) == ("fails", pytest.approx(-3.5), pytest.approx(-1.5))


def test_seeds_that_swing_about_equality_do_not_prove_a_difference(row):
    # Differences 2, -2, 2: every resample's mean is 2, 2/3, -2/3 or -2, none within 0.5 of zero, but zero between.
    rows = row("a", AP=[52, 48, 52]), row("b", AP=[50, 50, 50])
    found = verdict("AP: abs(a - b) <= 0.5", *rows)
    assert (found.decision, found.low, found.high) == ("undecided", -1.5, 0.5)
    assert verdict("AP: abs(a - b) > 0.5", *rows).decision == "undecided"


def test_ends_of_several_absolute_differences_add_up(row):
    rows = row("a", AP=[52, 53, 54]), row("b", AP=[50, 50, 50]), row("c", AP=[50, 49, 51])
    found = verdict("AP: 2 * abs(a - b) - abs(b - c) > 0", *rows)
    assert (found.low, found.high) == (2 * 2 - 1, 2 * 4 - 0)


@pytest.mark.parametrize(
    ("a", "b", "seeds", "reason"),
    [
        ([50], [49], 1, "1 seed; three are needed"),
        ([50, 51], [49, 48], 2, "2 seeds; three are needed"),
        ([50, 51, 52], [49], 1, "1 seed; three are needed (no finished run of b with seeds 1, 2)"),
        ([50, None, 52], [49, 48, 47], 2, "2 seeds; three are needed (no finished run of a with seed 1)"),
        ([None], [49, 48, 47], 0, "no finished run of a with seeds 0, 1, 2"),
        ([50], [None, 49], 0, "no finished run of a with seed 1"),
        ([None], [None], 0, "no finished run of a with seed 0"),
    ],
)
def test_too_few_seeds_are_undecided_and_say_why(row, a, b, seeds, reason):
    found = verdict("AP: a > b", row("a", AP=a), row("b", AP=b))
    assert (found.decision, found.seeds, found.reason) == ("undecided", seeds, reason)
    assert (found.difference is None) == (seeds == 0)
    assert (found.low is None) == (seeds < 2)


def test_a_row_without_runs_and_a_metric_that_was_not_measured_are_said(row):
    a, nothing = row("a", AP=[50, 51, 52]), TableRow("b", "b")
    assert verdict("AP: a > b", a, nothing).reason == "no finished run of b with seeds 0, 1, 2"
    assert verdict("AP: b > 40", a, nothing).reason == "no finished run of b"
    assert verdict("oLRP: a > 40", a).reason == "no oLRP in the runs of a with seeds 0, 1, 2"
    other = row("c", AP=[50, 51, 52], oLRP=[70, None, 71])
    assert verdict("oLRP: c < 80", other).reason == "2 seeds; three are needed (no oLRP in the run of c with seed 1)"


def test_unfinished_and_failed_runs_do_not_count():
    def runs(state):
        return [Run(f"{state}/{seed}", seed, state, {"test": {"AP": 0.9}}) for seed in range(3)]

    good = TableRow("b", "b", {}, runs("finished"))
    for state in ("failed", "unfinished", "missing"):
        assert verdict("AP: a >= b", TableRow("a", "a", {}, runs(state)), good).seeds == 0
    assert verdict("AP: b > 80", good).decision == "holds"


@pytest.mark.parametrize("seed", range(40))
def test_turning_a_claim_turns_the_verdict(row, seed):
    rng = np.random.default_rng(seed)
    n, shift = int(rng.integers(3, 6)), rng.normal(0, 2)
    a = row("a", AP=50 + shift + rng.normal(size=n))
    b = row("b", AP=50 + rng.normal(size=n))
    one, other, same = (verdict(f"AP: {text}", a, b) for text in ("a > b + 0.3", "a < b + 0.3", "b + 0.3 < a"))
    turned = {"holds": "fails", "fails": "holds", "undecided": "undecided"}
    assert other.decision == turned[one.decision]
    assert (other.low, other.high, other.difference) == pytest.approx((-one.high, -one.low, -one.difference))
    assert (same.decision, same.low, same.high) == (one.decision, one.low, one.high)


@pytest.mark.parametrize(
    "text", ["a > b", "a - b >= 2 * (b - c)", "(a + b) / 2 < c + 1", "abs(a - c) <= 4", "a - 0.5 * b - 3 > c / 3"]
)
def test_intervals_equal_python_on_every_resample_of_the_seeds(row, text):
    # abs(...) included: a and c are far enough apart that no resample turns the sign.
    for seed, n in itertools.product(range(3), (3, 4, 5)):
        rng = np.random.default_rng(seed)
        values = {name: mean + rng.normal(size=n) for name, mean in (("a", 50), ("b", 48), ("c", 44))}
        left, sign, right = text.partition(next(s for s in (">=", "<=", ">", "<") if s in text))
        margins = []
        for drawn in itertools.product(range(n), repeat=n):
            means = {name: sum(column[i] for i in drawn) / n for name, column in values.items()}
            margin = operator.sub(eval(left, {"abs": abs}, means), eval(right, {"abs": abs}, means))
            margins.append(margin if sign.startswith(">") else -margin)
        found = verdict(f"AP: {text}", *(row(name, AP=column) for name, column in values.items()))
        margins.sort()
        beyond = next(i for i in range(len(margins)) if (i + 1) / len(margins) >= 0.025)
        assert found.low == pytest.approx(margins[beyond], abs=1e-6)
        assert found.high == pytest.approx(margins[-1 - beyond], abs=1e-6)


@pytest.mark.parametrize(
    ("states", "decision", "seeds", "reason"),
    [
        (["failed"] * 3, "holds", 3, ""),
        (["failed", "finished", "failed"], "fails", 3, ""),
        (["failed", "finished", "missing"], "fails", 2, ""),
        (["failed", "failed", "missing"], "undecided", 2, "1 of 3 runs have not ended"),
        (["unfinished"] * 3, "undecided", 0, "3 of 3 runs have not ended"),
        (["failed"] * 2, "undecided", 2, "2 seeds; three are needed"),
        ([], "undecided", 0, "0 seeds; three are needed"),
    ],
)
def test_a_training_fails_when_all_its_runs_have(states, decision, seeds, reason):
    row = TableRow("a", "a", {}, [Run(Path(str(seed)), seed, state) for seed, state in enumerate(states)])
    found = verdict("fails: a", row, source="Table 1")
    assert (found.claim, found.source) == ("fails: a", "Table 1")
    assert (found.decision, found.seeds, found.reason) == (decision, seeds, reason)
    assert found.difference is None


def test_the_t_interval_stands_beside_and_decides_nothing(row):
    """Margins 1, 2, 6: all agree, so that it holds, but 3 ± 4.302653 · 2.645751 / √3 includes zero."""
    rows = [row("a", AP=[51, 52, 56]), row("b", AP=[50, 50, 50])]
    (verdict,) = judge(parse_claim("AP: a > b", ["a", "b"]), rows, "Table 1")
    assert (verdict.decision, verdict.low, verdict.high) == ("holds", 1, 6)
    reach = 4.302653 * 7**0.5 / 3**0.5
    assert (verdict.t_low, verdict.t_high) == pytest.approx((3 - reach, 3 + reach))
    assert remarks(verdict) == ["Table 1", "the t interval includes zero: 3 seeds may agree by chance"]
    sure = [row("a", AP=[52, 52, 52.1]), row("b", AP=[50, 50, 50])]
    assert remarks(judge(parse_claim("AP: a > b", ["a", "b"]), sure)[0]) == []


@pytest.mark.parametrize(("seeds", "said"), [(1, True), (3, True), (4, True), (5, False)])
def test_headline_claims_want_five_seeds(row, seeds, said):
    rows = [row("a", AP=[52 + seed / 10 for seed in range(seeds)]), row("b", AP=[50] * seeds)]
    (verdict,) = judge(parse_claim("AP: a > b", ["a", "b"]), rows, headline=True)
    assert verdict.headline
    assert (f"headline claim, {seeds} of the 5 seeds that it wants" in remarks(verdict)) == said
    assert not any("headline" in words for words in remarks(judge(parse_claim("AP: a > b", ["a", "b"]), rows)[0]))
