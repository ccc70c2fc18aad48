"""Where objects go, and which of them may hide which."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detlab.data.scenes.painter import Sprite, extent, inside, random_pose, rasterise
from detlab.data.scenes.shapes import DISTRACTORS, SHAPES
from detlab.data.scenes.style import Style

NO_CLASS = -1  # the label of a distractor
_TRIES = 12  # places tried for an object before it is given up


class Placed:
    """The objects of a scene so far, and which of them owns each pixel."""

    def __init__(self, size: int, min_visible: float) -> None:
        self.size, self.min_visible = size, min_visible
        self.owner = np.full((size, size), -1, np.int64)
        self.boxes: list[NDArray[np.floating]] = []
        self.labels: list[int] = []
        self.full: list[int] = []
        self.seen: list[int] = []

    def add(self, sprite: Sprite, label: int) -> bool:
        """Put the sprite on top, unless too little of it or of one below would stay visible; say whether."""
        rows, columns, own_rows, own_columns = inside(sprite, self.size)
        solid = sprite.cover > 0.5
        mask = solid[own_rows, own_columns]
        region = self.owner[rows, columns]
        full, seen = int(solid.sum()), int(mask.sum())
        left = np.array(self.seen) - np.bincount(region[mask] + 1, minlength=len(self.seen) + 1)[1:]
        objects = np.array(self.labels) != NO_CLASS
        if seen < max(self.min_visible * full, 1) or np.any(objects & (left < self.min_visible * np.array(self.full))):
            return False
        region[mask] = len(self.seen)
        self.seen = [*left.tolist(), seen]
        self.boxes.append(sprite.box)
        self.labels.append(label)
        self.full.append(full)
        return True

    def annotations(
        self, distractor: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """Boxes ``[G, 4]`` clipped to the picture, labels ``[G]``, areas ``[G]``. distractor: the label of things of no
        class, of which those stay out that later objects hide too much of; None: all of them stay out."""
        labels = [distractor if label == NO_CLASS and self._shows(i) else label for i, label in enumerate(self.labels)]
        keep = [i for i, label in enumerate(labels) if label not in (NO_CLASS, None)]
        boxes = np.array([self.boxes[i] for i in keep], np.float32).reshape(-1, 4)
        return (
            np.clip(boxes, 0, self.size),
            np.array([labels[i] for i in keep], np.int32),
            np.array([self.seen[i] for i in keep], np.float32),
        )

    def _shows(self, number: int) -> bool:
        return self.seen[number] >= max(self.min_visible * self.full[number], 1)


def place(style: Style, size: int, rng: np.random.Generator, placed: Placed, label: int) -> Sprite | None:
    """Try places for one object, beside or over an earlier one with the chance `style.occlusion`, else apart."""
    shape = SHAPES[label] if label != NO_CLASS else DISTRACTORS[rng.integers(len(DISTRACTORS))]
    overlap = rng.random() < style.occlusion
    length = size * np.exp(rng.uniform(*np.log(style.object_size)))
    for attempt in range(_TRIES):
        pose = random_pose(rng, length, style.rotation, style.squeeze)
        box = extent(shape, pose)
        centre = _random_centre(rng, box, size)
        if placed.boxes and overlap:
            centre = np.clip(_beside(rng, box, placed.boxes), 0, size)
        elif attempt < _TRIES // 2 and _crowded(box + np.tile(centre, 2), placed.boxes):
            continue
        sprite = rasterise(shape, pose, centre)
        if placed.add(sprite, label):
            return sprite
    return None


def _random_centre(rng: np.random.Generator, box: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Anywhere such that up to an eighth of the box's width or height sticks out of the picture."""
    sides = (box[2:] - box[:2]) * 0.375
    low, high = np.minimum(sides, size / 2), np.maximum(size - sides, size / 2)
    return rng.uniform(low, high) - (box[:2] + box[2:]) / 2


def _beside(
    rng: np.random.Generator, box: NDArray[np.float64], others: list[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """A centre at which the box touches or overlaps one of the others."""
    other = others[rng.integers(len(others))]
    angle = rng.uniform(0, 2 * np.pi)
    reach = ((box[2:] - box[:2]) + (other[2:] - other[:2])) / 2 * rng.uniform(0.5, 1.0)
    return (other[:2] + other[2:]) / 2 + reach * (np.cos(angle), np.sin(angle))


def _crowded(box: NDArray[np.float64], others: list[NDArray[np.floating]]) -> bool:
    """Whether the box shares more than a tenth of itself with another."""
    if not others:
        return False
    stack = np.stack(others)
    sides = np.minimum(box[2:], stack[:, 2:]) - np.maximum(box[:2], stack[:, :2])
    return bool(np.any(np.prod(np.clip(sides, 0, None), axis=1) > 0.1 * np.prod(box[2:] - box[:2])))
