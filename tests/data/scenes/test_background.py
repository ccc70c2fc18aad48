"""Ground and exposure: ranges, and what the knobs do."""

from __future__ import annotations

import numpy as np
import pytest

from detlab.data.scenes.background import draw_background, expose


@pytest.mark.parametrize("size", [32, 129])
@pytest.mark.parametrize("clutter", [0.0, 1.0])
def test_ground_is_a_float_picture(size: int, clutter: float) -> None:
    ground = draw_background(np.random.default_rng(0), size, clutter)
    assert ground.shape == (size, size, 3)
    assert ground.dtype == np.float32
    assert np.isfinite(ground).all()


def test_clutter_adds_edges() -> None:
    def edges(clutter: float) -> float:
        grounds = [draw_background(np.random.default_rng(seed), 96, clutter) for seed in range(10)]
        return float(np.mean([np.abs(np.diff(ground, axis=0)).mean() for ground in grounds]))

    assert edges(1.0) > 1.3 * edges(0.0)


def test_exposure_without_light_and_noise_leaves_the_picture() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (40, 40, 3)).astype(np.float32)
    assert (expose(np.random.default_rng(1), picture, 0.0, 0.0) == np.rint(picture)).all()


def test_exposure_clips_and_leaves_its_argument_alone() -> None:
    picture = np.full((64, 64, 3), 250, np.float32)
    noisy = expose(np.random.default_rng(1), picture, 1.0, 1.0)
    assert noisy.dtype == np.uint8
    assert noisy.std() > 3
    assert (picture == 250).all()
