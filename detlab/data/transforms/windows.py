"""Transforms that look at a picture through a rectangle: crops where it lies inside, borders where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detlab.data.transforms.backend import A, TargetKind

# ImageNet's mean colour: zero after normalisation, like the padding of a batch.
MEAN_COLOUR = (123.675, 116.28, 103.53)

Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2


class Window(A.DualTransform):
    """The picture inside a rectangle that `pick` chooses in whole pixels; what lies beyond it is `fill`.

    keep_centres: drop boxes whose centre lies outside of the rectangle (SSD's rule). Else, the pipeline's
    rule about the visible part of a box decides alone.
    """

    _targets = (TargetKind.IMAGE, TargetKind.BBOXES)
    keep_centres = False

    def __init__(self, fill: Sequence[float] = MEAN_COLOUR, p: float = 1.0) -> None:
        super().__init__(p=p)
        if len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
            raise ValueError(f"Expected three fill values in 0..255, got {tuple(fill)}.")
        self.fill = tuple(float(value) for value in fill)

    def pick(self, height: int, width: int, boxes: NDArray[np.float32]) -> Rectangle:  # noqa: ARG002
        """The rectangle (x1, y1, x2, y2) for a picture with ``boxes [G, 4]`` in its pixels: all of it, here."""
        return 0, 0, width, height

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        boxes = data["bboxes"][:, :4] * np.array([width, height, width, height], np.float32)
        return {"window": self.pick(height, width, boxes)}

    def apply(self, img: NDArray[np.uint8], *args: Any, window: Rectangle, **params: Any) -> NDArray[np.uint8]:  # noqa: ARG002
        x1, y1, x2, y2 = window
        height, width = img.shape[:2]
        inner = img[max(y1, 0) : min(y2, height), max(x1, 0) : min(x2, width)]
        border = (max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0))  # top, bottom, left, right
        if not any(border):
            return inner
        return cv2.copyMakeBorder(inner, *border, cv2.BORDER_CONSTANT, value=self.fill)  # type: ignore[return-value]

    def apply_to_bboxes(
        self,
        bboxes: NDArray[np.float32],
        *args: Any,  # noqa: ARG002
        window: Rectangle,
        shape: tuple[int, ...],
        **params: Any,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        x1, y1, x2, y2 = window
        height, width = shape[:2]
        moved = bboxes.copy()
        moved[:, [0, 2]] = (bboxes[:, [0, 2]] * width - x1) / (x2 - x1)
        moved[:, [1, 3]] = (bboxes[:, [1, 3]] * height - y1) / (y2 - y1)
        if self.keep_centres:
            centres = (moved[:, :2] + moved[:, 2:4]) / 2
            moved = moved[((centres > 0) & (centres < 1)).all(1)]
        return moved


class ZoomOut(Window):
    """Place the picture somewhere on a canvas up to `max_ratio` times as wide and high (SSD, Sec. 3.6)."""

    def __init__(self, max_ratio: float = 4.0, fill: Sequence[float] = MEAN_COLOUR, p: float = 0.5) -> None:
        super().__init__(fill=fill, p=p)
        if max_ratio < 1:
            raise ValueError(f"Expected max_ratio of at least 1, got {max_ratio}.")
        self.max_ratio = max_ratio

    def pick(self, height: int, width: int, boxes: NDArray[np.float32]) -> Rectangle:  # noqa: ARG002
        return _place(height, width, 1 / self.random_generator.uniform(1, self.max_ratio), self.random_generator)


class Zoom(Window):
    """Enlarge or shrink the content by a factor drawn log-evenly from `scale`, at a random place.

    A factor above 1 crops, one below 1 adds a border; the aspect of the picture stays.
    """

    def __init__(
        self, scale: tuple[float, float] = (0.7, 1.4), fill: Sequence[float] = MEAN_COLOUR, p: float = 1.0
    ) -> None:
        super().__init__(fill=fill, p=p)
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"Expected 0 < smallest <= largest scale, got {tuple(scale)}.")
        self.scale = (float(scale[0]), float(scale[1]))

    def pick(self, height: int, width: int, boxes: NDArray[np.float32]) -> Rectangle:  # noqa: ARG002
        factor = float(np.exp(self.random_generator.uniform(*np.log(self.scale))))
        return _place(height, width, factor, self.random_generator)


class MinIoUCrop(Window):
    """SSD's crop (Liu et al. 2016, Sec. 2.2): the whole picture, or a patch that overlaps an object enough.

    One of these is drawn: the whole picture, a minimum IoU of `min_ious` between the patch and at least one
    box, or any patch. A patch has sides of `min_side`…1 of the picture's and an aspect within 1/2…2. Boxes with
    their centre in the patch stay, at least one must. Without boxes, the picture stays whole.
    """

    keep_centres = True
    trials = 50

    def __init__(
        self, min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9), min_side: float = 0.3, p: float = 1.0
    ) -> None:
        super().__init__(p=p)
        if not all(0 <= value < 1 for value in min_ious):
            raise ValueError(f"Expected min_ious in [0, 1), got {tuple(min_ious)}.")
        if not 0 < min_side <= 1:
            raise ValueError(f"Expected min_side in (0, 1], got {min_side}.")
        self.min_ious = tuple(float(value) for value in min_ious)
        self.min_side = min_side

    def pick(self, height: int, width: int, boxes: NDArray[np.float32]) -> Rectangle:
        whole = (0, 0, width, height)
        options = [None, 0.0, *self.min_ious]
        # An option that no patch fulfils is drawn again; ten times 50 failures mean that there is none.
        for _ in range(10):
            option = options[int(self.random_generator.integers(len(options)))]
            if option is None or not len(boxes):
                return whole
            patches = self._patches(height, width)
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            margins = np.minimum(centres - patches[:, None, :2], patches[:, None, 2:] - centres)  # [T, G, 2]
            inside = np.min(margins, axis=-1) > 0
            good = np.any(inside, axis=1) & (np.max(_pairwise_iou(patches, boxes), axis=1) >= option)
            if good.any():
                x1, y1, x2, y2 = (int(value) for value in patches[int(good.argmax())])
                return x1, y1, x2, y2
        return whole

    def _patches(self, height: int, width: int) -> NDArray[np.int64]:
        sides = self.random_generator.uniform(self.min_side, 1, (self.trials, 2)) * (width, height)
        corners = self.random_generator.uniform(0, 1, (self.trials, 2)) * ((width, height) - sides)
        aspect = sides[:, 0] / sides[:, 1]
        start, size = corners.astype(np.int64), np.maximum(sides.astype(np.int64), 1)
        patches = np.concatenate([start, start + size], 1)
        fitting = (aspect >= 0.5) & (aspect <= 2)
        return patches[fitting] if fitting.any() else np.array([[0, 0, width, height]])


def _place(height: int, width: int, factor: float, rng: np.random.Generator) -> Rectangle:
    """A window of 1 / factor of the picture's sides, inside it (factor > 1) or around it (factor < 1)."""
    view_width, view_height = max(round(width / factor), 1), max(round(height / factor), 1)
    x, y = (round(float(rng.uniform()) * room) for room in (width - view_width, height - view_height))
    return x, y, x + view_width, y + view_height


def _pairwise_iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    corner, other = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    shared = (other - corner).clip(0).prod(-1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1) - shared)
