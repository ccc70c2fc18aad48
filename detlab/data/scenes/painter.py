"""One object: posed, rasterised with soft edges, coloured and laid over the picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detlab.data.scenes.background import Picture
from detlab.data.scenes.shapes import Polygon, Shape
from detlab.data.scenes.textures import FREE_PATTERNS, Field, pattern

_FINE = 4  # sub-pixels per pixel and axis
_SHIFT = 4  # fractional bits of OpenCV's polygon corners
_MARGIN = 3  # pixels round a sprite, room for its blurred shadow
_SATURATED = 255 * np.sqrt(3)  # distance from black to white


@dataclass(frozen=True)
class Sprite:
    """A posed shape: box float ``[4]`` xyxy pixels, of all of it, also where it leaves the picture.

    x, y: the picture pixel of the rasters' first element. cover, dark, light: ``[h, w]`` in 0..1, the share of
    each pixel taken by the outline, by its dark and by its light details. to_object ``[2, 2]`` and centre ``[2]``
    lead from picture pixels back to the unit frame.
    """

    shape: Shape
    box: NDArray[np.floating]
    x: int
    y: int
    cover: Field
    dark: Field
    light: Field
    to_object: NDArray[np.floating]
    centre: NDArray[np.float64]


def random_pose(rng: np.random.Generator, length: float, rotation: float, squeeze: float) -> NDArray[np.float64]:
    """Matrix ``[2, 2]`` from the unit frame to pixels: mirrored or not, one axis squeezed to `squeeze` (at most 1) to
    1 of its length, sheared, turned by at most `rotation` degrees; the frame's side of 2 becomes about `length`
    pixels along the other axis."""
    squeezed = np.diag(rng.permutation((1.0, rng.uniform(squeeze, 1.0)))) * (rng.choice((-1.0, 1.0)), 1.0)
    shear = np.array([[1.0, rng.uniform(-0.15, 0.15)], [0.0, 1.0]])
    angle = np.deg2rad(rng.uniform(-rotation, rotation))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return length / 2 * turn @ shear @ squeezed


def extent(shape: Shape, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """The bounding box ``[4]`` xyxy of the shape posed at the origin."""
    corners = np.concatenate(shape.outline) @ pose.T
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def rasterise(shape: Shape, pose: NDArray[np.float64], centre: NDArray[np.float64]) -> Sprite:
    """The shape under `pose` with its origin at `centre` (x, y pixels)."""
    box = extent(shape, pose) + np.tile(centre, 2)
    first = np.floor(box[:2]).astype(int) - _MARGIN
    width, height = np.ceil(box[2:]).astype(int) + _MARGIN - first
    canvas = np.zeros((height * _FINE, width * _FINE, 3), np.uint8)
    layers = ((shape.outline, (255, 0, 0)), (shape.dark, (255, 255, 0)), (shape.light, (255, 0, 255)))
    for polygons, colour in layers:
        for polygon in polygons:
            cv2.fillPoly(canvas, [_sub_pixels(polygon @ pose.T + centre - first)], colour, shift=_SHIFT)
    small = cv2.resize(canvas, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    cover, dark, light = np.ascontiguousarray(np.moveaxis(small, 2, 0), dtype=np.float32) / np.float32(255)
    return Sprite(shape, box, int(first[0]), int(first[1]), cover, dark, light, np.linalg.inv(pose), centre)


def _sub_pixels(corners: Polygon) -> NDArray[np.int32]:
    # OpenCV puts integer coordinates at the centres of (sub-)pixels, boxes put them at their edges.
    return np.rint((corners * _FINE - 0.5) * 2**_SHIFT).astype(np.int32)


def inside(sprite: Sprite, size: int) -> tuple[slice, slice, slice, slice]:
    """Rows and columns of the picture that the sprite lies on, then the same within the sprite's rasters."""
    height, width = sprite.cover.shape
    rows = slice(max(sprite.y, 0), max(min(sprite.y + height, size), 0))
    columns = slice(max(sprite.x, 0), max(min(sprite.x + width, size), 0))
    return (
        rows,
        columns,
        slice(rows.start - sprite.y, rows.stop - sprite.y),
        slice(columns.start - sprite.x, columns.stop - sprite.x),
    )


def paint(rng: np.random.Generator, picture: Picture, sprite: Sprite, contrast: float) -> None:
    """Lay the sprite over `picture`, in place, in colours at least about `contrast` (0..1 of black to white)
    away from the ground below it."""
    rows, columns, own_rows, own_columns = inside(sprite, len(picture))
    ground = picture[rows, columns]
    if rng.random() < 0.5:
        shadow = cv2.GaussianBlur(sprite.cover, (0, 0), 1.5)
        reach = rng.integers(-2, 3, 2)
        shadow = np.roll(shadow, reach, axis=(0, 1))[own_rows, own_columns]
        ground *= 1 - 0.5 * shadow[..., None]
    colours = _coat(rng, sprite, ground.mean(axis=(0, 1)), contrast)[own_rows, own_columns]
    ground += sprite.cover[own_rows, own_columns, None] * (colours - ground)


def _coat(
    rng: np.random.Generator, sprite: Sprite, ground: NDArray[np.float32], contrast: float
) -> NDArray[np.float32]:
    """The colours ``[h, w, 3]`` of the sprite: texture, details, edge, light from one side."""
    own = sprite.shape.pattern
    kind = FREE_PATTERNS[rng.integers(len(FREE_PATTERNS))] if own is None else own
    first = _colour_away(rng, ground, contrast)
    if own in ("stripes", "checks"):
        second = _colour_away(rng, first, max(contrast, 0.3))
    else:
        second = np.clip(first + rng.normal(0, 35, 3), 0, 255)
    height, width = sprite.cover.shape
    grid_x = np.arange(width) + (sprite.x + 0.5 - sprite.centre[0])
    grid_y = np.arange(height)[:, None] + (sprite.y + 0.5 - sprite.centre[1])
    u, v = ((row[0] * grid_x + row[1] * grid_y).astype(np.float32) for row in sprite.to_object)
    field = pattern(rng, kind, u, v)[..., None]
    colours = first + field * (second - first)
    for details, colour in ((sprite.dark, rng.uniform(10, 60, 3)), (sprite.light, _window(rng, first))):
        if details.any():
            colours += details[..., None] * (colour - colours)
    if rng.random() < 0.4:
        edge = sprite.cover - cv2.erode(sprite.cover, np.ones((3, 3), np.uint8))
        colours *= 1 - rng.uniform(0.3, 0.8) * edge[..., None]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    colours *= 1 + strength * np.clip(np.cos(angle) * u + np.sin(angle) * v, -1, 1)[..., None]
    return colours.astype(np.float32)


def _colour_away(rng: np.random.Generator, other: NDArray[np.floating], distance: float) -> NDArray[np.float64]:
    """A random colour at least `distance` from `other`, or the farthest of eight."""
    candidates = rng.uniform(15, 240, (8, 3))
    distances = np.linalg.norm(candidates - other, axis=1) / _SATURATED
    far = distances >= distance
    return candidates[np.argmax(far) if far.any() else np.argmax(distances)]


def _window(rng: np.random.Generator, body: NDArray[np.float64]) -> NDArray[np.float64]:
    step = rng.uniform(70, 110)
    return np.clip(body + (step if body.mean() < 125 else -step), 0, 255)
