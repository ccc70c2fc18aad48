"""Rules for the size a picture is given to the detector in; each is a function of its own size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


class Resize(ABC):
    """A rule ``(height, width, rng) -> (height, width)``, in pixels, never below 1."""

    @abstractmethod
    def __call__(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]: ...


class Unchanged(Resize):
    """The size of the file."""

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:  # noqa: ARG002
        return height, width


class Shortest(Resize):
    """Shorter side to `size`, or as near to it as keeps the longer side within `max_size`; keeps the aspect.

    Several sizes: one is drawn evenly per picture (multi-scale training).
    """

    def __init__(self, size: int | Sequence[int] = 800, max_size: int = 1333) -> None:
        self.sizes = (size,) if isinstance(size, int) else tuple(size)
        self.max_size = max_size
        if not self.sizes or min(self.sizes) < 1 or max_size < max(self.sizes):
            raise ValueError(f"Expected sizes in 1..max_size, got size {size} and max_size {max_size}.")

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
        size = self.sizes[int(rng.integers(len(self.sizes)))] if len(self.sizes) > 1 else self.sizes[0]
        scale = min(size / min(height, width), self.max_size / max(height, width))
        return _scaled(height, width, scale)


class Longest(Resize):
    """Longer side to `size`; keeps the aspect."""

    def __init__(self, size: int = 320) -> None:
        if size < 1:
            raise ValueError(f"Expected a size of at least 1 pixel, got {size}.")
        self.size = size

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:  # noqa: ARG002
        return _scaled(height, width, self.size / max(height, width))


class Fixed(Resize):
    """Always ``size = (height, width)``, whatever the aspect."""

    def __init__(self, size: tuple[int, int] = (512, 512)) -> None:
        height, width = size
        if min(height, width) < 1:
            raise ValueError(f"Expected a height and width of at least 1 pixel, got {tuple(size)}.")
        self.size = (height, width)

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:  # noqa: ARG002
        return self.size


def resize_image(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bilinear where a side grows; the mean over the covered area where both shrink, as bilinear would alias."""
    old_height, old_width = image.shape[:2]
    if (height, width) == (old_height, old_width):
        return image
    shrinks = height <= old_height and width <= old_width
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=mode)  # type: ignore[return-value]


def _scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(round(height * scale), 1), max(round(width * scale), 1)
