"""The outlines: one per class, all in the same unit frame, and no two alike."""

from __future__ import annotations

import numpy as np
import pytest

from detlab.data.scenes.painter import rasterise
from detlab.data.scenes.shapes import CLASSES, DISTRACTORS, GROUPS, SHAPES, Shape


def test_twelve_classes_in_two_groups_of_six() -> None:
    assert len(SHAPES) == len(CLASSES) == len(set(CLASSES)) == 12
    assert [len(names) for names in GROUPS.values()] == [6, 6]
    assert tuple(GROUPS) == ("vehicles", "signs")


@pytest.mark.parametrize("shape", [*SHAPES, *DISTRACTORS])
def test_every_shape_is_centred_with_a_longer_side_of_two(shape: Shape) -> None:
    corners = np.concatenate(shape.outline)
    assert corners.max(axis=0) == pytest.approx(-corners.min(axis=0))
    assert (corners.max(axis=0) - corners.min(axis=0)).max() == pytest.approx(2.0)


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_details_lie_on_the_object(label: int) -> None:
    sprite = rasterise(SHAPES[label], 40 * np.eye(2), np.array([50.0, 50.0]))
    for details in (sprite.dark, sprite.light):
        assert np.all(details <= sprite.cover + 0.26)  # the lines of a fill are a sub-pixel wide


def test_outlines_differ_within_a_group_or_carry_a_pattern() -> None:
    sprites = [rasterise(shape, 30 * np.eye(2), np.array([40.0, 40.0])) for shape in SHAPES]
    for a in range(12):
        for b in range(a):
            first, second = sprites[a].cover, sprites[b].cover
            same = first.shape == second.shape and np.abs(first - second).mean() < 0.02
            assert not same or (SHAPES[a].pattern and SHAPES[a].pattern != SHAPES[b].pattern), (a, b)
