"""Ranges of the knobs, and the class frequencies they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detlab.data.scenes.shapes import CLASSES, GROUPS
from detlab.data.scenes.style import RANKS, Style, class_probabilities


@pytest.mark.parametrize(
    "knobs",
    [
        {"frequencies": "odd"},
        {"tail": -1},
        {"rotation": 181},
        {"occlusion": 1.1},
        {"min_visible": 0.0},
        {"clutter": -0.1},
        {"contrast": 0.6},
        {"lighting": 2},
        {"noise": float("nan")},
        {"squeeze": 0.05},
        {"squeeze": 1.1},
        {"objects": (3, 2)},
        {"objects": (1, 2, 3)},
        {"distractors": (-1, 2)},
        {"object_size": (0.0, 0.5)},
        {"object_size": (0.1, 1.5)},
    ],
)
def test_out_of_range(knobs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Expected {next(iter(knobs))}"):
        Style(**knobs)


def test_even_frequencies() -> None:
    assert class_probabilities(Style()) == pytest.approx(np.full(12, 1 / 12))


def test_long_tailed_frequencies_follow_the_power_law() -> None:
    chances = class_probabilities(Style(frequencies="long_tailed", tail=2.0))
    assert chances.sum() == pytest.approx(1)
    by_rank = chances[[CLASSES.index(name) for name in RANKS]]
    assert by_rank / by_rank[0] == pytest.approx(np.arange(1, 13) ** -2.0)


def test_the_tail_runs_through_both_groups() -> None:
    assert sorted(RANKS) == sorted(CLASSES)
    vehicles = class_probabilities(Style(frequencies="long_tailed"))[: len(GROUPS["vehicles"])].sum()
    assert 0.4 < vehicles < 0.6


def test_lists_as_configs_hand_them_over_are_the_same_style() -> None:
    assert Style(objects=[1, 4]) == Style(objects=(1, 4))  # type: ignore[arg-type]
