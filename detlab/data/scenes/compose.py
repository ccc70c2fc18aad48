"""A whole scene: ground, objects of which classes and how many, light and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detlab.data.scenes.background import draw_background, expose
from detlab.data.scenes.painter import paint
from detlab.data.scenes.placement import NO_CLASS, Placed, place
from detlab.data.scenes.shapes import CLASSES, GROUPS
from detlab.data.scenes.style import Style, class_probabilities

_GROUP_OF = np.array([number for number, names in enumerate(GROUPS.values()) for _ in names])  # [C]


class Scene(NamedTuple):
    """image uint8 ``[size, size, 3]`` RGB; boxes float32 ``[G, 4]`` xyxy pixels of the whole object clipped to
    the picture; labels int32 ``[G]``; areas float32 ``[G]``: pixels of the object that can be seen."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    areas: NDArray[np.float32]


def draw_scene(style: Style, size: int, rng: np.random.Generator, label_distractors: bool = False) -> Scene:
    """Draw one picture. An object that finds no place where everything stays visible enough is left out.

    label_distractors: things of no class that can be seen well enough have the label after the last class's; the
    picture is the same."""
    picture = draw_background(rng, size, style.clutter)
    placed = Placed(size, style.min_visible)
    labels = _draw_labels(style, rng)
    distractors = rng.integers(style.distractors[0], style.distractors[1] + 1)
    for label in rng.permutation(np.concatenate([labels, np.full(distractors, NO_CLASS, np.int64)])):
        sprite = place(style, size, rng, placed, int(label))
        if sprite is not None:
            paint(rng, picture, sprite, style.contrast)
    return Scene(
        expose(rng, picture, style.lighting, style.noise),
        *placed.annotations(len(CLASSES) if label_distractors else None),
    )


def _draw_labels(style: Style, rng: np.random.Generator) -> NDArray[np.int64]:
    """Classes of the objects; of two or more, both groups have one."""
    chances = class_probabilities(style)
    count = int(rng.integers(style.objects[0], style.objects[1] + 1))
    labels = rng.choice(len(CLASSES), count, p=chances)
    groups = _GROUP_OF[labels]
    if count >= 2 and (groups == groups[0]).all():
        missing = chances * (_GROUP_OF != groups[0])
        labels[0] = rng.choice(len(CLASSES), p=missing / missing.sum())
    return labels
