"""How scenes look: the knobs that the drawing code takes, with their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detlab.data.scenes.shapes import CLASSES

# From frequent to rare: the groups alternate, and of each confusable pair one is frequent, the other rare.
RANKS: tuple[str, ...] = (
    "car", "star5", "arrow", "truck", "jet", "striped", "checked", "glider", "bus", "chevron", "star6", "van",
)  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How scenes look; see `ScenesSource` for the meaning and the ranges, which are checked here (ValueError)."""

    frequencies: Literal["even", "long_tailed"] = "even"
    tail: float = 1.0
    objects: tuple[int, int] = (2, 7)
    object_size: tuple[float, float] = (0.16, 0.5)
    rotation: float = 20.0
    occlusion: float = 0.3
    min_visible: float = 0.4
    distractors: tuple[int, int] = (0, 3)
    clutter: float = 0.5
    contrast: float = 0.2
    lighting: float = 0.6
    noise: float = 0.5
    squeeze: float = 0.78

    def __post_init__(self) -> None:
        if self.frequencies not in ("even", "long_tailed"):
            raise ValueError(f"Expected frequencies 'even' or 'long_tailed', got {self.frequencies!r}.")
        for name, low, high in (
            ("tail", 0, 10),
            ("rotation", 0, 180),
            ("occlusion", 0, 1),
            ("min_visible", 0.1, 1),
            ("clutter", 0, 1),
            ("contrast", 0, 0.5),
            ("lighting", 0, 1),
            ("noise", 0, 1),
            ("squeeze", 0.1, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"Expected {name} in {low}..{high}, got {getattr(self, name)}.")
        for name in ("objects", "object_size", "distractors"):
            pair = tuple(getattr(self, name))
            if len(pair) != 2:
                raise ValueError(f"Expected {name} (min, max), got {pair}.")
            object.__setattr__(self, name, pair)  # configs hand over lists
        for name in ("objects", "distractors"):
            least, most = getattr(self, name)
            if not 0 <= least <= most <= 50:
                raise ValueError(f"Expected {name} (min, max) with 0 <= min <= max <= 50, got ({least}, {most}).")
        least, most = self.object_size
        if not 0 < least <= most <= 1:
            raise ValueError(f"Expected object_size (min, max) with 0 < min <= max <= 1, got ({least}, {most}).")


def class_probabilities(style: Style) -> NDArray[np.float64]:
    """The chance ``[C]`` of each class: even, or ∝ rank^−tail in the order of `RANKS`."""
    ranks = np.array([RANKS.index(name) + 1 for name in CLASSES])
    weights = np.ones(len(CLASSES)) if style.frequencies == "even" else ranks**-style.tail
    return weights / weights.sum()
