"""Boxes drawn on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from detlab.visualization.style import FAINT, colour, rgb

NAMES_UP_TO = 12  # with more boxes than this, tags carry no class names: they would cover the picture


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: ArrayLike,
    labels: ArrayLike,
    scores: ArrayLike | None,
    classes: Sequence[str],
    *,
    ignore: ArrayLike | None = None,
    names: bool | None = None,
    shade: str | None = None,
) -> NDArray[np.uint8]:
    """A copy of ``image [H, W, 3]`` with ``boxes [N, 4]`` (xyxy pixels of the image) in their class's colour.

    labels int ``[N]``, scores ``[N]`` in 0 … 1 or None, classes: the names. ignore bool ``[N]``: dashed and
    grey. names: whether tags carry class names; None: while there are few boxes. shade: one colour for all boxes.
    Lines and letters grow with the picture. Surer boxes lie on top.
    """
    box = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    label = np.asarray(labels, dtype=np.int64).reshape(-1)
    score = None if scores is None else np.asarray(scores, dtype=np.float64).reshape(-1)
    grey = np.zeros(len(box), dtype=bool) if ignore is None else np.asarray(ignore, dtype=bool).reshape(-1)
    canvas = Image.fromarray(np.ascontiguousarray(image))
    draw = ImageDraw.Draw(canvas)
    height, width = image.shape[:2]
    line = max(1, round(max(height, width) / 220))
    font = sans(max(9, round(max(height, width) / 34)))
    with_names = len(box) <= NAMES_UP_TO if names is None else names
    order = np.arange(len(box)) if score is None else np.argsort(score, kind="stable")
    limit = np.array([width, height, width, height]) - 1
    visible = [n for n in order.tolist() if np.isfinite(box[n]).all()]
    corners = {n: [float(v) for v in np.clip(box[n] - [0, 0, 1, 1], 0, limit)] for n in visible}
    shades = {n: FAINT if grey[n] else shade or colour(int(label[n])) for n in visible}
    for n in visible:
        _outline(draw, corners[n], line, shades[n], dashed=bool(grey[n]))
    for n in visible:
        words = [classes[label[n]]] if with_names else []
        words += [f"{score[n]:.2f}"] if score is not None else []
        if words:
            _tag(draw, corners[n], " ".join(words), font, shades[n], width)
    return np.asarray(canvas).copy()


@lru_cache(maxsize=32)
def sans(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and knows most alphabets, `size` pixels high."""
    from matplotlib import get_data_path

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def ink_on(background: str) -> str:
    """Black or white, whichever reads better on `background` (relative luminance, WCAG 2)."""
    red, green, blue = (((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb(background))
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "#ffffff"


def _outline(draw: ImageDraw.ImageDraw, corners: Sequence[float], line: int, shade: str, dashed: bool) -> None:
    """A rectangle with a casing of black or white, which keeps it visible on any background."""
    x1, y1, x2, y2 = corners
    x2, y2 = max(x1, x2), max(y1, y2)
    casing = "#ffffff" if dashed else ink_on(shade)
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=casing, width=line + 2)
    if not dashed:
        draw.rectangle((x1, y1, x2, y2), outline=shade, width=line)
        return
    dash = 4 * line
    for x in np.arange(x1, x2, 2 * dash).tolist():
        for top in (y1, y2 - line + 1):
            draw.rectangle((x, top, min(x + dash, x2), top + line - 1), fill=shade)
    for y in np.arange(y1, y2, 2 * dash).tolist():
        for left in (x1, x2 - line + 1):
            draw.rectangle((left, y, left + line - 1, min(y + dash, y2)), fill=shade)


def _tag(
    draw: ImageDraw.ImageDraw, corners: Sequence[float], text: str, font: ImageFont.FreeTypeFont, shade: str, width: int
) -> None:
    """The text on a patch of colour: on the box's upper edge, or inside where there is no room above."""
    left, _, right, _ = draw.textbbox((0, 0), text, font=font)
    pad = max(1, font.size // 6)
    wide, high = right - left + 2 * pad, font.size + 2 * pad
    x = min(max(corners[0], 0), max(width - wide, 0))
    y = corners[1] - high if corners[1] >= high else corners[1]
    draw.rectangle((x, y, x + wide, y + high), fill=shade)
    draw.text((x + pad, y + high / 2), text, fill=ink_on(shade), font=font, anchor="lm")
