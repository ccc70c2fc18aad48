"""The outlines of the scene objects, as polygons in a unit frame (x right, y down, about −1..1).

Twelve classes in two groups of six. Within a group they come in confusable pairs: car / van, truck / bus,
jet / glider; star5 / star6, arrow / chevron, striped / checked (the last pair differs in texture only).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # [V, 2]

GROUPS: dict[str, tuple[str, ...]] = {
    "vehicles": ("car", "van", "truck", "bus", "jet", "glider"),
    "signs": ("star5", "star6", "arrow", "chevron", "striped", "checked"),
}
CLASSES: tuple[str, ...] = tuple(name for group in GROUPS.values() for name in group)


@dataclass(frozen=True)
class Shape:
    """outline: polygons whose union is the object; dark: wheels and the like; light: windows and the like.

    pattern: the texture that belongs to the class, or None where any texture may cover it.
    """

    outline: tuple[Polygon, ...]
    dark: tuple[Polygon, ...] = ()
    light: tuple[Polygon, ...] = ()
    pattern: str | None = None


def _polygon(*points: tuple[float, float]) -> Polygon:
    return np.array(points, dtype=np.float64)


def _box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return _polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _regular(sides: int, radius: float = 1.0, centre: tuple[float, float] = (0.0, 0.0)) -> Polygon:
    angles = 2 * np.pi * np.arange(sides) / sides
    return radius * np.stack([np.sin(angles), -np.cos(angles)], axis=1) + centre


def _star(points: int, inner: float) -> Polygon:
    star = _regular(2 * points)
    star[1::2] *= inner
    return star


def _mirrored(*half: tuple[float, float]) -> Polygon:
    """The polygon of `half` (from bow to stern) and its mirror image in the y axis."""
    return np.array([*half, *((-x, y) for x, y in reversed(half))])


def _fit(shape: Shape) -> Shape:
    """The shape centred on its bounding box and scaled to a longer side of 2."""
    corners = np.concatenate(shape.outline)
    low, high = corners.min(axis=0), corners.max(axis=0)

    def move(polygons: tuple[Polygon, ...]) -> tuple[Polygon, ...]:
        return tuple((polygon - (low + high) / 2) * (2 / (high - low).max()) for polygon in polygons)

    return Shape(move(shape.outline), move(shape.dark), move(shape.light), shape.pattern)


def _wheels(*xs: float, y: float = 0.42, radius: float = 0.2) -> tuple[Polygon, ...]:
    return tuple(_regular(12, radius, (x, y)) for x in xs)


def _car() -> Shape:
    body = _polygon(
        (-1, 0.42), (-1, 0.05), (-0.68, -0.02), (-0.4, -0.42), (0.25, -0.42), (0.58, 0), (1, 0.1), (1, 0.42)
    )
    windows = (
        _polygon((-0.5, -0.02), (-0.32, -0.32), (-0.1, -0.32), (-0.1, -0.02)),
        _polygon((0.0, -0.02), (0.0, -0.32), (0.18, -0.32), (0.42, -0.02)),
    )
    wheels = _wheels(-0.56, 0.56)
    return Shape((body, *wheels), wheels, windows)


def _van() -> Shape:
    body = _polygon((-1, 0.42), (-1, -0.6), (0.5, -0.6), (0.78, -0.08), (1, 0.02), (1, 0.42))
    window = _polygon((0.2, -0.46), (0.44, -0.46), (0.64, -0.08), (0.2, -0.08))
    wheels = _wheels(-0.56, 0.56)
    return Shape((body, *wheels), wheels, (window,))


def _truck() -> Shape:
    cargo, cab, chassis = _box(-1, -0.6, 0.36, 0.3), _box(0.5, -0.34, 1, 0.42), _box(-1, 0.2, 1, 0.42)
    wheels = _wheels(-0.72, -0.3, 0.7)
    return Shape((cargo, cab, chassis, *wheels), wheels, (_box(0.7, -0.22, 0.92, 0.04),))


def _bus() -> Shape:
    windows = tuple(_box(x, -0.42, x + 0.28, -0.08) for x in (-0.9, -0.52, -0.14, 0.24, 0.62))
    wheels = _wheels(-0.6, 0.6)
    return Shape((_box(-1, -0.56, 1, 0.42), *wheels), wheels, windows)


def _jet() -> Shape:
    outline = _mirrored(
        (0, -1), (0.14, -0.72), (0.15, -0.3), (0.95, 0.35), (0.95, 0.55), (0.15, 0.3), (0.12, 0.66), (0.4, 0.9),
        (0.4, 1.0), (0, 0.9),
    )  # fmt: skip
    return Shape((outline,), light=(_box(-0.08, -0.75, 0.08, -0.5),))


def _glider() -> Shape:
    outline = _mirrored(
        (0, -0.72), (0.13, -0.5), (0.13, -0.3), (1.0, -0.26), (1.0, 0.02), (0.13, 0.06), (0.09, 0.5), (0.36, 0.54),
        (0.36, 0.72), (0, 0.74),
    )  # fmt: skip
    return Shape((outline,), light=(_box(-0.08, -0.5, 0.08, -0.25),))


def _arrow() -> Shape:
    return Shape((_mirrored((0, -1), (0.75, -0.15), (0.28, -0.15), (0.28, 1)),))


def _chevron() -> Shape:
    return Shape((_mirrored((0, -0.85), (0.85, 0.1), (0.85, 0.85), (0, -0.05)),))


_DRAWN: dict[str, Shape] = {
    "car": _car(),
    "van": _van(),
    "truck": _truck(),
    "bus": _bus(),
    "jet": _jet(),
    "glider": _glider(),
    "star5": Shape((_star(5, 0.45),)),
    "star6": Shape((_star(6, 0.56),)),
    "arrow": _arrow(),
    "chevron": _chevron(),
    "striped": Shape((_regular(32),), pattern="stripes"),
    "checked": Shape((_regular(32),), pattern="checks"),
}
SHAPES: tuple[Shape, ...] = tuple(_fit(_DRAWN[name]) for name in CLASSES)

# Things of no class. The discs keep a texture that is neither striped nor checked, so that the outline alone
# does not make a "striped" or "checked".
DISTRACTORS: tuple[Shape, ...] = tuple(
    _fit(shape)
    for shape in (
        Shape((_regular(32),), pattern="spots"),
        Shape((_regular(32),), pattern="cloud"),
        Shape((_regular(3),)),
        Shape((_box(-1, -0.45, 1, 0.45),)),
        Shape((_box(-1, -0.3, 1, 0.3), _box(-0.3, -1, 0.3, 1))),
        Shape((_polygon((-0.8, -1), (-0.2, -1), (-0.2, 0.45), (0.8, 0.45), (0.8, 1), (-0.8, 1)),)),
        Shape((_polygon((-1, 0.5), (-0.5, -0.5), (1, -0.5), (0.5, 0.5)),)),
        Shape((_regular(6),)),
    )
)
