"""A picture or a figure as PNG bytes, a PNG file or SVG text."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from detlab.visualization.style import INK, PALETTE, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def png_bytes(picture: NDArray[np.uint8] | Figure, dpi: int = 130) -> bytes:
    """A uint8 array ``[H, W, 3]`` or a figure (at `dpi`) as PNG."""
    buffer = io.BytesIO()
    if isinstance(picture, np.ndarray):
        Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    else:
        with house_style():
            picture.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def svg_text(figure: Figure, name: str) -> str:
    """An ``<svg>`` element to stand inside a page: no background, ink in the page's text colour, as wide as
    its container. A dark page may brighten class colours: ``#332288`` is looked up as ``--c332288`` first.
    `name` keeps its ids apart from those of other figures on the page."""
    buffer = io.StringIO()
    with house_style(svg_salt=name):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(rf"#({'|'.join(shade[1:] for shade in PALETTE)})\b", r"var(--c\1, #\1)", text)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', text, count=1)
