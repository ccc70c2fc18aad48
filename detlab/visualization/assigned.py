"""Which anchors answer for which object: pictures in rows and columns, as of iterations of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from detlab.visualization.boxes import ink_on, sans
from detlab.visualization.legend import GAP
from detlab.visualization.style import INK, colour

PANEL = 300  # pixels of the longer side of each picture
HEAD, FOOT = 30, 38  # above the columns, and of the legend
TRUTH, NEGATIVE = "#ffffff", "#3c434d"
GREY, WHITE = 0.5, 0.3  # how far the pictures are brought to grey and to white, so that lines stand out


@dataclass(frozen=True, eq=False)
class Cell:
    """``image [H, W, 3]`` uint8 with boxes in its pixels, xyxy: objects ``[G, 4]``; positives ``[P, 4]``, each in the
    colour of the object ``of [P]`` that it answers for; negatives ``[N, 4]``; words below the picture."""

    image: NDArray[np.uint8]
    objects: ArrayLike
    positives: ArrayLike
    of: ArrayLike
    negatives: ArrayLike
    words: str = ""


def assignment_sheet(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]) -> NDArray[np.uint8]:
    """Rows (name, a cell per column) of pictures below the names of the columns, with a legend → ``[H', W', 3]``."""
    drawn = [[draw_cell(cell) for cell in cells] for _, cells in rows]
    wide = max([PANEL // 3, *(picture.width for pictures in drawn for picture in pictures)])
    left, step = 36, wide + GAP // 2
    heights = [max((p.height for p in pictures), default=0) + 26 for pictures in drawn]
    width = max(left + len(columns) * step + GAP // 2, 760)
    canvas = Image.new("RGB", (width, HEAD + sum(heights) + FOOT), "white")
    draw = ImageDraw.Draw(canvas)
    for number, name in enumerate(columns):
        draw.text((left + number * step, HEAD - 13), name, fill=INK, font=sans(16, bold=True), anchor="lm")
    y = HEAD
    for (name, cells), pictures, height in zip(rows, drawn, heights):
        _upright(canvas, name, y, height - 26)
        for number, (cell, picture) in enumerate(zip(cells, pictures)):
            canvas.paste(picture, (left + number * step, y))
            place = (left + number * step, y + picture.height + 11)
            draw.text(place, cell.words, fill=INK, font=sans(14), anchor="lm")
        y += height
    _legend(draw, left, y + 18)
    return np.asarray(canvas).copy()


def draw_cell(cell: Cell, negative: str = NEGATIVE) -> Image.Image:
    """One picture, `PANEL` pixels on its longer side, with negatives, of colour `negative`, below the positives."""
    scale = PANEL / max(cell.image.shape[:2])
    size = (max(1, round(cell.image.shape[1] * scale)), max(1, round(cell.image.shape[0] * scale)))
    picture = Image.fromarray(np.ascontiguousarray(cell.image)).resize(
        size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    )
    picture = Image.blend(picture, picture.convert("L").convert("RGB"), GREY)
    picture = Image.blend(picture, Image.new("RGB", size, "white"), WHITE)
    draw = ImageDraw.Draw(picture, "RGBA")
    for box in _boxes(cell.negatives, scale, size):
        draw.rectangle(box, outline=f"{negative}90", width=1)
    for box, number in zip(_boxes(cell.positives, scale, size), np.asarray(cell.of, np.int64).tolist()):
        shade = colour(number)
        draw.rectangle(box, outline=f"{shade}e0", width=2)
    for box in _boxes(cell.objects, scale, size):
        draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline=ink_on(TRUTH), width=4)
        draw.rectangle(box, outline=TRUTH, width=2)
    return picture


def _boxes(boxes: ArrayLike, scale: float, size: tuple[int, int]) -> list[list[float]]:
    """In pixels of the panel, at most two beyond its edges: a side that lies outside is not seen."""
    width, height = size
    box = np.asarray(boxes, float).reshape(-1, 4) * scale
    box[:, 2:] = np.maximum(box[:, 2:] - 1, box[:, :2])
    return np.clip(box, -4, [width + 3, height + 3, width + 3, height + 3]).tolist()


def _upright(canvas: Image.Image, name: str, top: int, height: int) -> None:
    """The name of a row, from below upwards at the left of its pictures."""
    strip = Image.new("RGB", (max(height, 1), 22), "white")
    ImageDraw.Draw(strip).text((height / 2, 11), name, fill=INK, font=sans(15), anchor="mm")
    canvas.paste(strip.transpose(Image.Transpose.ROTATE_90), (7, top))


def _legend(draw: ImageDraw.ImageDraw, left: int, y: int) -> None:
    entries = (
        (TRUTH, "ground truth"),
        (colour(0), "positive, in the colour of its object"),
        (NEGATIVE, "candidate judged negative"),
    )
    for shade, name in entries:
        edge = INK if shade == TRUTH else shade
        draw.rectangle((left, y - 8, left + 20, y + 8), outline=edge, width=4 if shade == TRUTH else 2)
        if shade == TRUTH:
            draw.rectangle((left + 1, y - 7, left + 19, y + 7), outline=TRUTH, width=2)
        draw.text((left + 28, y), name, fill=INK, font=sans(15), anchor="lm")
        left += 28 + round(sans(15).getlength(name)) + 26
