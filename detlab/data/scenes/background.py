"""The ground a scene stands on, its clutter, and the light and camera noise laid over the finished picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from detlab.data.scenes.textures import cloud

Picture = NDArray[np.float32]  # [H, W, 3], 0..255


def draw_background(rng: np.random.Generator, size: int, clutter: float) -> Picture:
    """Two colours mixed by noise of two scales and a faint weave, under lines, ellipses and patches, about
    26 of them at a `clutter` (0..1) of 1."""
    colours = _ground_colours(rng)
    coarse = cloud(rng, size, size, size / rng.uniform(1.5, 5))
    fine = cloud(rng, size, size, max(1.5, size / rng.uniform(16, 48)))
    share = rng.uniform(0.1, 0.45)
    mix = ((1 - share) * coarse + share * fine + clutter * _weave(rng, size))[..., None]
    picture = np.ascontiguousarray(colours[0] + mix * (colours[1] - colours[0]), dtype=np.float32)
    _draw_clutter(rng, picture, colours.mean(axis=0), clutter)
    return picture


def _weave(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Waves in two directions ``[size, size]``, 3 to 16 across the picture, each of an amplitude up to 0.3."""
    axis = np.linspace(0, 1, size, dtype=np.float32)
    weave = np.zeros((size, size), np.float32)
    for angle in rng.uniform(0, np.pi) + np.array([0, np.pi / 2]):
        cycles = 2 * np.pi * rng.uniform(3, 16)
        phase = np.cos(angle) * cycles * axis[None, :] + (np.sin(angle) * cycles * axis[:, None] + rng.uniform(0, 6.3))
        weave += rng.uniform(0, 0.3) * np.sin(phase, dtype=np.float32)
    return weave


def _ground_colours(rng: np.random.Generator) -> NDArray[np.float32]:
    first = rng.uniform(30, 225, 3)
    second = np.clip(first + rng.normal(0, 45, 3), 10, 245)
    return np.stack([first, second]).astype(np.float32)


def _draw_clutter(rng: np.random.Generator, picture: Picture, ground: NDArray[np.float32], clutter: float) -> None:
    size = len(picture)
    layer = picture.copy()
    for kind in rng.integers(0, 3, rng.poisson(26 * clutter)):
        colour = tuple(float(c) for c in np.clip(ground + rng.normal(0, 55, 3), 0, 255))
        x, y, dx, dy = (int(c) for c in (rng.uniform(0, size, 2), rng.normal(0, 0.11 * size, 2)) for c in c)
        thick = max(1, round(size * rng.uniform(0.006, 0.02)))
        if kind == 0:
            cv2.line(layer, (x, y), (x + 3 * dx, y + 3 * dy), colour, thick, cv2.LINE_AA)
        elif kind == 1:
            axes = (1 + abs(dx) // 2, 1 + abs(dy) // 2)
            cv2.ellipse(layer, (x, y), axes, rng.uniform(0, 180), 0, 360, colour, rng.choice((-1, thick)))
        else:
            corners = np.array([x, y]) + rng.normal(0, 0.06 * size, (4, 2))
            cv2.fillPoly(layer, [corners.astype(np.int32)], colour)
    weight = rng.uniform(0.35, 0.8)
    cv2.addWeighted(layer, weight, picture, 1 - weight, 0, dst=picture)


def expose(rng: np.random.Generator, picture: Picture, lighting: float, noise: float) -> NDArray[np.uint8]:
    """Uneven light (strength `lighting` 0..1), then blur and sensor noise (`noise` 0..1): uint8 ``[H, W, 3]``."""
    size = len(picture)
    lamp = rng.uniform(-1, 1, 2)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    slope = 1 + 0.5 * lighting * (lamp[0] * axis[None, :] + lamp[1] * axis[:, None])
    tint = 1 + lighting * rng.uniform(-0.15, 0.15, 3)
    gain = 1 + lighting * rng.uniform(-0.4, 0.25)
    lit = picture * slope[..., None].astype(np.float32) * (gain * tint).astype(np.float32)
    blur = noise * rng.uniform(0, 1.6) * size / 128
    if blur > 0.3:
        cv2.GaussianBlur(lit, (0, 0), blur, dst=lit)
    lit += np.float32(noise * rng.uniform(4, 28)) * rng.standard_normal(lit.shape, dtype=np.float32)
    return np.clip(np.rint(lit, out=lit), 0, 255, out=lit).astype(np.uint8)
