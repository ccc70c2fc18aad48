"""Visibility bookkeeping against full-size masks counted from scratch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detlab.data.scenes.painter import Sprite, random_pose, rasterise
from detlab.data.scenes.placement import NO_CLASS, Placed, place
from detlab.data.scenes.shapes import SHAPES
from detlab.data.scenes.style import Style

SIZE, BORDER = 96, 128


def full_mask(sprite: Sprite) -> NDArray[np.bool_]:
    """The sprite on a canvas with a border so wide that nothing is cut off."""
    canvas = np.zeros((SIZE + 2 * BORDER,) * 2, np.bool_)
    height, width = sprite.cover.shape
    canvas[sprite.y + BORDER :, sprite.x + BORDER :][:height, :width] = sprite.cover > 0.5
    return canvas


def visible_shares(sprites: list[Sprite]) -> list[tuple[float, int]]:
    """(share, pixels) of each sprite that no later one hides and that lies in the picture."""
    window = np.zeros((SIZE + 2 * BORDER,) * 2, np.bool_)
    window[BORDER:-BORDER, BORDER:-BORDER] = True
    result = []
    for i, sprite in enumerate(sprites):
        own = full_mask(sprite)
        left = own & window
        for other in sprites[i + 1 :]:
            left &= ~full_mask(other)
        result.append((float(left.sum() / own.sum()), int(left.sum())))
    return result


@pytest.mark.parametrize("min_visible", [0.2, 0.5, 0.9])
def test_everything_annotated_stays_visible_enough(min_visible: float) -> None:
    rng = np.random.default_rng(0)
    placed, sprites, labels = Placed(SIZE, min_visible), [], []
    for number in range(60):
        label = NO_CLASS if number % 4 == 3 else number % 12
        sprite = rasterise(SHAPES[label], random_pose(rng, 30.0, 180.0, 0.78), rng.uniform(-10, SIZE + 10, 2))
        trial = visible_shares([*sprites, sprite])
        fits = trial[-1][0] >= min_visible and all(
            share >= min_visible for (share, _), kind in zip(trial, labels) if kind != NO_CLASS
        )
        assert placed.add(sprite, label) == fits
        if fits:
            sprites.append(sprite)
            labels.append(label)
    pixels = [count for (_, count), label in zip(visible_shares(sprites), labels) if label != NO_CLASS]
    boxes, kept, areas = placed.annotations()
    assert 3 < len(kept) < 45
    assert areas.tolist() == pixels
    assert kept.tolist() == [label for label in labels if label != NO_CLASS]
    assert boxes.min() >= 0
    assert boxes.max() <= SIZE


def test_a_sprite_outside_is_refused() -> None:
    placed = Placed(SIZE, 0.1)
    assert not placed.add(rasterise(SHAPES[0], 10 * np.eye(2), np.array([-50.0, 200.0])), 0)
    boxes, labels, areas = placed.annotations()
    assert boxes.shape == (0, 4)
    assert labels.shape == areas.shape == (0,)


def test_without_occlusion_boxes_hardly_overlap_while_there_is_room() -> None:
    def overlaps(occlusion: float) -> int:
        found = 0
        for seed in range(30):
            rng = np.random.default_rng(seed)
            placed = Placed(256, 0.3)
            for label in range(4):
                assert place(Style(occlusion=occlusion, object_size=(0.1, 0.2)), 256, rng, placed, label) is not None
            found += sum(int(before < after) for before, after in zip(placed.seen, placed.full))
        return found

    assert overlaps(0.0) < 0.5 * overlaps(1.0)
