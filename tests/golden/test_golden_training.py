"""The first steps of every method are what they were."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.golden import training

MACHINE, RECORDED = training.read()
# On other processors sums run in another order: see the README of this folder for what was measured.
USUAL = 1e-4
TOLERANCE = {"teacher": 5e-2}  # a student's: which boxes of a raw teacher survive its suppression hangs by a thread


@pytest.mark.slow
@pytest.mark.parametrize("name", training.CASES)
def test_losses_are_as_recorded(name: str) -> None:
    assert name in RECORDED, "Not recorded: python -m tests.golden.record training"
    new = training.train(name)
    off = training.deviation(RECORDED[name], new)
    if training.machine() == MACHINE:
        at = next((step for step, value in enumerate(off) if value), None)
        told = f"From step {at} on by up to {max(off):.1e} of the loss." if at is not None else ""
        assert new == RECORDED[name], f"{told} If that is meant: python -m tests.golden.record training"
    else:
        assert max(off) <= TOLERANCE.get(name, USUAL)


def test_no_case_is_another_s() -> None:
    for one, other in combinations(RECORDED, 2):
        assert RECORDED[one]["loss"] != RECORDED[other]["loss"], f"{one} does not differ from {other}"


def test_a_deviation_is_of_the_step_s_own_total() -> None:
    old = {"loss": [4.0] * 20, "loss_box": [0.0] * 20, "teacher/loss": [2.0] * 20}
    assert training.deviation(old, old) == [0.0] * 20
    new = old | {"loss_box": [0.0, 1.0] + [0.0] * 18, "teacher/loss": [2.0] * 19 + [float("nan")]}
    assert training.deviation(old, new) == [0.0, 0.25] + [0.0] * 17 + [float("inf")]
    with pytest.raises(AssertionError, match="The losses were"):
        training.deviation(old, {"loss": [4.0] * 20})
