"""Colours, and an empty figure in the house style. No pyplot: nothing global, any thread, no display."""

from __future__ import annotations

import colorsys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

Setting = str | float | bool | None

INK = "#22272e"  # text and axes
FAINT = "#8a939f"  # what should stand back: grids, raw values under a smoothed line

# Okabe & Ito's palette, told apart under the common colour-blindnesses; yellow, weak on white, comes last of
# it; then the darkest of Tol's muted palette, which differ from these in lightness.
PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9",
    "#882255", "#999933", "#332288", "#661100", "#117733", "#f0e442",
)  # fmt: skip

_SETTINGS: dict[RcKeyType, Setting] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.alpha": 0.35,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",  # text stays text: searchable, and small
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "US$"
    "xtick.color": INK,
    "ytick.color": INK,
}


def colour(position: int) -> str:
    """The colour of the class with this label, as ``#rrggbb``: the same in every picture."""
    if position < len(PALETTE):
        return PALETTE[position]
    turn = position - len(PALETTE)
    hue, lightness = (turn * 0.618034) % 1, (0.45, 0.65, 0.32)[turn % 3]
    return "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, lightness, 0.7))


def rgb(hexadecimal: str) -> tuple[int, int, int]:
    """``#rrggbb`` → 0 … 255 each."""
    red, green, blue = bytes.fromhex(hexadecimal[1:])
    return red, green, blue


def house_style(svg_salt: str | None = None) -> AbstractContextManager[None]:
    """The style, inside a ``with``; `svg_salt` enters the ids of an SVG."""
    from matplotlib import rc_context

    return rc_context({**_SETTINGS, "svg.hashsalt": svg_salt})


def empty_figure(width: float, height: float) -> Figure:
    """A figure of that many inches without axes. Draw inside `house_style()`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of that many inches with `columns` axes side by side. Draw inside `house_style()`."""
    figure = empty_figure(width, height)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])
