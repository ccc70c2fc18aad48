"""Which colour is which class, under a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from detlab.visualization.boxes import sans
from detlab.visualization.style import FAINT, INK, colour

GAP = 16  # pixels around and between
ROW = 26


def legend_height(names: Sequence[str], width: int) -> int:
    """Pixels that `draw_legend` takes for these names on lines of `width` pixels."""
    return _place(names, width)[1]


def draw_legend(
    draw: ImageDraw.ImageDraw, present: Sequence[int], classes: Sequence[str], left: int, top: int, width: int
) -> None:
    """A patch of colour and the name of each class in `present`, wrapped at `width` pixels."""
    rows, _ = _place([classes[k] for k in present], width)
    for (x, y, name), k in zip(rows, present):
        corner = (left + x, top + y)
        draw.rounded_rectangle((*corner, corner[0] + 16, corner[1] + 16), 3, fill=colour(k), outline=FAINT)
        draw.text((corner[0] + 24, corner[1] + 8), name, fill=INK, font=sans(16), anchor="lm")


def with_legend(picture: NDArray[np.uint8], labels: ArrayLike, classes: Sequence[str]) -> NDArray[np.uint8]:
    """``picture [H, W, 3]`` with the colours of the classes in ``labels [N]`` below it → ``[H', W, 3]``."""
    present: list[int] = np.unique(np.asarray(labels, np.int64)).tolist()
    if not present:
        return picture
    height, width = picture.shape[:2]
    inner = max(width - 2 * GAP, 1)
    canvas = Image.new("RGB", (width, height + GAP + legend_height([classes[k] for k in present], inner)), "white")
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw_legend(ImageDraw.Draw(canvas), present, classes, GAP, height + GAP, inner)
    return np.asarray(canvas).copy()


def _place(names: Sequence[str], width: int) -> tuple[list[tuple[int, int, str]], int]:
    """Where each name goes, (x, y, name), and the height they take."""
    placed: list[tuple[int, int, str]] = []
    x = y = 0
    for name in names:
        wide = 24 + int(sans(16).getlength(name)) + 20
        if x and x + wide > width:
            x, y = 0, y + ROW
        placed.append((x, y, name))
        x += wide
    return placed, (y + 36 if names else 0)
