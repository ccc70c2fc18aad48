"""Transforms that change pixels and leave boxes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detlab.data.transforms.backend import A
from detlab.data.transforms.windows import MEAN_COLOUR


class PhotometricDistort(A.ImageOnlyTransform):
    """SSD's distortion of brightness, contrast, saturation and hue, each drawn with probability `each`.

    brightness: ± grey levels of 255. contrast, saturation: factor in 1 ± the value, contrast before or after the
    colours by the toss of a coin. hue: ± degrees. swap: probability of shuffling the channels.
    """

    def __init__(
        self,
        brightness: float = 32.0,
        contrast: float = 0.5,
        saturation: float = 0.5,
        hue: float = 18.0,
        swap: float = 0.0,
        each: float = 0.5,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if not (0 <= brightness <= 255 and 0 <= contrast <= 1 and 0 <= saturation <= 1 and 0 <= hue <= 180):
            raise ValueError(
                "Expected brightness in 0..255, contrast and saturation in 0..1 and hue in 0..180, "
                f"got {brightness}, {contrast}, {saturation} and {hue}."
            )
        if not (0 <= swap <= 1 and 0 <= each <= 1):
            raise ValueError(f"Expected probabilities in 0..1, got swap {swap} and each {each}.")
        self.brightness, self.contrast = brightness, contrast
        self.saturation, self.hue = saturation, hue
        self.swap, self.each = swap, each

    def get_params(self) -> dict[str, Any]:
        rng = self.random_generator
        chosen = rng.uniform(size=4) < self.each
        spread = np.array([self.brightness, self.contrast, self.saturation, self.hue])
        draw = rng.uniform(-1, 1, 4) * spread * chosen
        return {
            "add": float(draw[0]),
            "contrast": 1 + float(draw[1]),
            "saturation": 1 + float(draw[2]),
            "hue": float(draw[3]),
            "contrast_last": bool(rng.uniform() < 0.5),
            "order": rng.permutation(3) if rng.uniform() < self.swap else None,
        }

    def apply(
        self,
        img: NDArray[np.uint8],
        *args: Any,  # noqa: ARG002
        add: float,
        contrast: float,
        saturation: float,
        hue: float,
        contrast_last: bool,
        order: NDArray[np.int64] | None,
        **params: Any,  # noqa: ARG002
    ) -> NDArray[np.uint8]:
        levels = np.arange(256, dtype=np.float32)
        first = levels + add
        first, last = (first, levels * contrast) if contrast_last else (first * contrast, levels)
        img = _look_up(img, first)
        if saturation != 1 or hue:
            hsv = np.asarray(cv2.cvtColor(img, cv2.COLOR_RGB2HSV), np.uint8)
            # OpenCV's 8-bit hue counts 0..179 in steps of two degrees.
            table = np.stack([(levels + round(hue / 2)) % 180, levels * saturation, levels], 1)
            img = np.asarray(cv2.cvtColor(_look_up(hsv, table), cv2.COLOR_HSV2RGB), np.uint8)
        img = _look_up(img, last)
        return img if order is None else np.ascontiguousarray(img[..., order])


class Cutout(A.ImageOnlyTransform):
    """Fill up to `holes[1]` squares with one colour (DeVries & Taylor 2017).

    size: smallest and largest side as a fraction of the picture's shorter side. Boxes stay, also of objects that
    are covered: the student of a semi-supervised pair is to find them from what surrounds them.
    """

    def __init__(
        self,
        holes: tuple[int, int] = (1, 5),
        size: tuple[float, float] = (0.05, 0.2),
        fill: Sequence[float] = MEAN_COLOUR,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        if not 1 <= holes[0] <= holes[1]:
            raise ValueError(f"Expected 1 <= fewest <= most holes, got {tuple(holes)}.")
        if not 0 < size[0] <= size[1] <= 1:
            raise ValueError(f"Expected 0 < smallest <= largest size <= 1, got {tuple(size)}.")
        self.holes, self.size = tuple(holes), tuple(size)
        self.fill = tuple(float(value) for value in fill)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        height, width = params["shape"][:2]
        rng = self.random_generator
        count = int(rng.integers(self.holes[0], self.holes[1] + 1))
        side = np.maximum(rng.uniform(*self.size, (count, 1)) * min(height, width), 1)
        # Centred anywhere, so that squares reach over the edges and every pixel is as likely to be covered.
        centre = rng.uniform(size=(count, 2)) * (width, height)
        return {"squares": np.concatenate([centre - side / 2, centre + side / 2], 1).round().clip(0).astype(int)}

    def apply(
        self,
        img: NDArray[np.uint8],
        *args: Any,  # noqa: ARG002
        squares: NDArray[np.int64],
        **params: Any,  # noqa: ARG002
    ) -> NDArray[np.uint8]:
        img = img.copy()
        for x1, y1, x2, y2 in squares:
            img[y1:y2, x1:x2] = np.round(self.fill)
        return img


def _look_up(image: NDArray[np.uint8], table: NDArray[Any]) -> NDArray[np.uint8]:
    """Map levels through ``table [256]`` or ``[256, 3]``, clipped to 0..255; no copy where it changes nothing."""
    rounded = np.rint(table).clip(0, 255).astype(np.uint8)
    if rounded.ndim == 1:
        if np.array_equal(rounded, np.arange(256)):
            return image
        return cv2.LUT(image, rounded)  # type: ignore[return-value]
    return cv2.LUT(image, rounded.reshape(1, 256, 3))  # type: ignore[return-value]
