"""Textures: fields in 0..1; stripes vary along one direction, checks along two."""

from __future__ import annotations

import numpy as np
import pytest

from detlab.data.scenes.textures import FREE_PATTERNS, cloud, pattern

AXIS = np.linspace(-1, 1, 48, dtype=np.float32)
U, V = np.meshgrid(AXIS, AXIS)


@pytest.mark.parametrize("kind", FREE_PATTERNS)
def test_fields_stay_in_range(kind: str) -> None:
    for seed in range(10):
        field = pattern(np.random.default_rng(seed), kind, U, V)
        assert field.shape == U.shape
        assert field.dtype == np.float32
        assert field.min() >= 0
        assert field.max() <= 1


def test_stripes_and_checks_cover_about_half() -> None:
    for kind in ("stripes", "checks"):
        shares = [pattern(np.random.default_rng(seed), kind, U, V).mean() for seed in range(20)]
        assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_stripes_have_one_direction_and_checks_two() -> None:
    def strength(kind: str, seed: int) -> float:
        """Smaller over larger eigenvalue of the mean outer product of gradients."""
        dy, dx = np.gradient(pattern(np.random.default_rng(seed), kind, U, V))
        low, high = np.linalg.eigvalsh([[np.mean(dx * dx), np.mean(dx * dy)], [np.mean(dx * dy), np.mean(dy * dy)]])
        return low / high

    assert all(strength("stripes", seed) < 0.1 < 0.4 < strength("checks", seed) for seed in range(20))


def test_unknown_kind() -> None:
    with pytest.raises(KeyError, match="zigzag"):
        pattern(np.random.default_rng(0), "zigzag", U, V)


def test_cloud_of_large_cells_is_smooth() -> None:
    smooth, rough = (cloud(np.random.default_rng(0), 64, 40, cell) for cell in (30.0, 2.0))
    assert smooth.shape == rough.shape == (64, 40)
    assert np.abs(np.diff(smooth)).mean() < 0.25 * np.abs(np.diff(rough)).mean()
