"""Sprites fill their boxes exactly and paint only where they are."""

from __future__ import annotations

import numpy as np
import pytest

from detlab.data.scenes.painter import extent, inside, paint, random_pose, rasterise
from detlab.data.scenes.shapes import DISTRACTORS, SHAPES, Shape

ALL = [*SHAPES, *DISTRACTORS]


@pytest.mark.parametrize("shape", ALL)
@pytest.mark.parametrize("length", [14.0, 60.0])
def test_the_box_is_tight_round_the_raster(shape: Shape, length: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        sprite = rasterise(shape, random_pose(rng, length, 180.0, 0.78), rng.uniform(20, 100, 2))
        touched = sprite.cover > 0.02
        rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
        found = (columns[0] + sprite.x, rows[0] + sprite.y, columns[-1] + 1 + sprite.x, rows[-1] + 1 + sprite.y)
        # The pixels touched reach at most one pixel beyond an edge that cuts through them, and a sharp tip may
        # cover too little of its pixel to count.
        assert np.abs(np.array(found) - sprite.box).max() < 1.6
        assert found[0] <= sprite.box[0] + 1
        assert np.all(sprite.box[:2] >= (sprite.x, sprite.y))


def test_an_axis_aligned_square_covers_its_pixels_by_their_exact_share() -> None:
    square = Shape((np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]),))
    sprite = rasterise(square, 5 * np.eye(2), np.array([10.0, 20.0]))
    assert sprite.box.tolist() == [5, 15, 15, 25]
    full = np.zeros_like(sprite.cover)
    full[15 - sprite.y : 25 - sprite.y, 5 - sprite.x : 15 - sprite.x] = 1
    assert np.abs(sprite.cover - full).max() <= 0.26  # one sub-pixel line at most
    assert sprite.cover.sum() == pytest.approx(100, rel=0.08)


def test_a_pose_keeps_the_length_and_turns_within_its_limit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = random_pose(rng, 40.0, 0.0, 0.78)
        assert np.linalg.norm(pose, axis=0).max() == pytest.approx(20.0, rel=0.03)
        assert pose[1, 0] == pytest.approx(0.0)


@pytest.mark.parametrize("squeeze", [0.25, 0.78, 1.0])
def test_a_pose_squeezes_either_side_down_to_its_limit(squeeze: float) -> None:
    rng = np.random.default_rng(0)
    square = Shape((np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]),))
    sides = []
    for _ in range(400):
        pose = random_pose(rng, 2.0, 0.0, squeeze)
        sides.append(np.linalg.norm(pose, axis=0))
        assert extent(square, pose)[2:] == pytest.approx(np.abs(pose).sum(axis=1))
    across, down = np.array(sides).T / np.array(sides).max(axis=1)
    assert min(across.min(), down.min()) >= squeeze * 0.98
    if squeeze < 1:
        assert across.min() < squeeze + 0.03
        assert down.min() < squeeze + 0.03


@pytest.mark.parametrize("centre", [(60.0, 60.0), (-3.0, 50.0), (119.0, 121.0)])
def test_paint_changes_the_object_and_its_shadow_only(centre: tuple[float, float]) -> None:
    picture = np.full((120, 120, 3), 128, np.float32)
    sprite = rasterise(SHAPES[7], 15 * np.eye(2), np.array(centre))
    paint(np.random.default_rng(1), picture, sprite, contrast=0.2)
    changed = np.abs(picture - 128).max(axis=2) > 1
    rows, columns, own_rows, own_columns = inside(sprite, 120)
    allowed = np.zeros((120, 120), bool)
    allowed[rows, columns] = True
    assert not changed[~allowed].any()
    solid = sprite.cover[own_rows, own_columns] == 1
    assert solid.any()
    assert changed[rows, columns][solid].mean() > 0.9


def test_the_body_keeps_its_distance_from_the_ground() -> None:
    rng = np.random.default_rng(2)
    ground = np.array([200.0, 40.0, 60.0], np.float32)
    for _ in range(20):
        picture = np.tile(ground, (80, 80, 1)).astype(np.float32)
        sprite = rasterise(SHAPES[3], 30 * np.eye(2), np.array([40.0, 40.0]))
        paint(rng, picture, sprite, contrast=0.3)
        rows, columns, own_rows, own_columns = inside(sprite, 80)
        solid = sprite.cover[own_rows, own_columns] == 1
        distance = np.linalg.norm(picture[rows, columns] - ground, axis=2)[solid] / (255 * np.sqrt(3))
        assert np.median(distance) > 0.15
