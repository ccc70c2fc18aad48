"""Textures: scalar fields in 0..1 that say how much of a second colour covers the first."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

FREE_PATTERNS: tuple[str, ...] = ("plain", "ramp", "cloud", "spots", "stripes", "checks")


def cloud(rng: np.random.Generator, height: int, width: int, cell: float) -> Field:
    """Smooth noise ``[height, width]`` in 0..1 whose blobs are about `cell` pixels wide."""
    shape = (int(height / cell) + 2, int(width / cell) + 2)
    coarse = rng.random(shape, dtype=np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def pattern(rng: np.random.Generator, kind: str, u: Field, v: Field) -> Field:
    """The texture `kind` at the object coordinates `u`, `v` ``[h, w]`` (−1..1 over the object), in 0..1.

    Raises KeyError for an unknown kind.
    """
    if kind == "plain":
        return np.full_like(u, rng.uniform(0, 0.3))
    if kind == "ramp":
        angle = rng.uniform(0, 2 * np.pi)
        return np.clip(0.5 + 0.5 * (np.cos(angle) * u + np.sin(angle) * v), 0, 1).astype(np.float32)
    if kind == "cloud":
        height, width = u.shape
        return cloud(rng, height, width, max(2.0, max(height, width) / rng.uniform(3, 6)))
    return _waves(rng, kind, u, v)


def _waves(rng: np.random.Generator, kind: str, u: Field, v: Field) -> Field:
    """Stripes, checks and spots: products of two waves over the object, 2 to 3 cycles across, soft-edged."""
    turn = rng.uniform(0, np.pi)
    cycles = np.pi * rng.uniform(2.0, 3.0)
    phases = rng.uniform(0, 2 * np.pi, 2)
    along = np.sin(cycles * (np.cos(turn) * u + np.sin(turn) * v) + phases[0])
    if kind == "stripes":
        wave = 3 * along
    else:
        across = np.sin(cycles * (np.cos(turn) * v - np.sin(turn) * u) + phases[1])
        wave = {"checks": 4 * along * across, "spots": 6 * (along + across - 0.9)}[kind]
    return np.clip(0.5 + 0.5 * wave, 0, 1).astype(np.float32)
