"""Appendix G: with the wrong target Theorem 2 fails once positives are ranked properly."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.alrp.figure_wrong_target import Course, descend


@pytest.fixture(scope="module")
def right() -> Course:
    return descend("localization", steps=110)


@pytest.fixture(scope="module")
def wrong() -> Course:
    return descend("zero", steps=110)


def test_the_right_target_is_balanced_and_stops(right):
    course = right
    assert course.negatives == pytest.approx(course.positives, rel=1e-6, abs=1e-12)
    assert course.positives[0] > 0.5
    assert course.positives[-1] == 0
    assert course.margin[-1] == course.margin[-20]


def test_a_target_of_zero_never_stops(right, wrong):
    course = wrong
    assert course.negatives[:10] == pytest.approx(course.positives[:10])  # each has negatives above it at first
    assert (course.negatives <= course.positives + 1e-9).all()
    assert course.negatives[-1] == 0
    assert course.positives[-1] > 0.3
    assert (np.diff(course.margin)[-30:] > 0.01).all()
    assert course.loss[-1] > course.loss.min() + 0.01
    assert course.loss[-1] > right.loss[-1]


def test_a_course_is_that_of_its_seed():
    assert np.array_equal(descend("zero", steps=5).loss, descend("zero", steps=5).loss)
    assert not np.array_equal(descend("zero", steps=5).loss, descend("zero", steps=5, seed=1).loss)
