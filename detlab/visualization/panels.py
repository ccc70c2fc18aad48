"""Lines, bands and dots in panels side by side, and the same numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detlab.visualization.axes import log_values
from detlab.visualization.style import FAINT, INK, colour, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Style = Literal["line", "dashed", "dots"]

PANEL_WIDTH, HEIGHT = 4.6, 3.7  # inches
FEW = 25  # dots that are drawn large
COLUMNS = ("panel", "series", "x", "y", "low", "high")
_STYLES: dict[Style, dict[str, Any]] = {  # arguments of matplotlib's plot
    "line": {},
    "dashed": {"linestyle": (0, (4, 2))},
    "dots": {"linestyle": "none", "marker": "o", "alpha": 0.75, "markeredgewidth": 0},
}


@dataclass(frozen=True, eq=False)
class Series:
    """Values ``y [N]`` over ``x [N]``, nan where there is none; low and high ``[N]``: a band around them, or neither.

    colour: a position in the palette; None: ink. marked: a dot at each value of a line.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    colour: int | None = 0
    style: Style = "line"
    marked: bool = False


@dataclass(frozen=True, eq=False)
class Panel:
    """Series over common axes. log: a logarithmic axis of values; limits: its ends, None for those of the values;
    level: a faint line at this value; ticks: places on the axis of x by the words that stand there."""

    title: str
    x: str
    y: str
    series: Sequence[Series] = field(default_factory=tuple)
    log: bool = False
    limits: tuple[float, float] | None = None
    level: float | None = None
    ticks: Mapping[str, float] | None = None


def over_seeds(name: str, x: ArrayLike, values: ArrayLike, *, colour: int | None = 0, marked: bool = False) -> Series:
    """The mean of ``values [seeds, N]`` and the band from the least to the largest; a seed's nan is left out."""
    y = np.ma.masked_invalid(np.atleast_2d(np.asarray(values, float)))
    mean, low, high = (part.filled(np.nan) for part in (y.mean(0), y.min(0), y.max(0)))
    return Series(name, np.asarray(x, float), mean, low, high, colour=colour, marked=marked)


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """The panels from left to right, with one legend below that names each series once."""
    with house_style():
        figure, everything = new_figure(max(PANEL_WIDTH * len(panels), 5.4), HEIGHT, len(panels))
        handles: dict[str, Line2D] = {}
        for axes, panel in zip(everything, panels):
            if panel.level is not None:
                axes.axhline(panel.level, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
            for series in panel.series:
                handles.setdefault(series.name, _draw(axes, series))
            if panel.log:
                log_values(axes)
            if panel.limits:
                axes.set_ylim(*panel.limits)
            if panel.ticks:
                axes.set_xticks(list(panel.ticks.values()), list(panel.ticks))
            axes.set(xlabel=panel.x, ylabel=panel.y, title=panel.title)
        lines = -(-len(handles) // (3 * len(panels)))
        columns = -(-len(handles) // max(lines, 1))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def _draw(axes: Axes, series: Series) -> Line2D:
    shade = INK if series.colour is None else colour(series.colour)
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=shade, alpha=0.2, linewidth=0)
    alone = len(series.x) == 1
    look = _STYLES[series.style] | ({"marker": "o"} if series.marked or alone else {})
    look["markersize"] = 6.5 if series.style == "dots" and len(series.x) <= FEW else 4
    return axes.plot(series.x, series.y, color=shade, **look)[0]


def panels_csv(panels: Sequence[Panel]) -> str:
    """A row per value: panel, series, x, y and the band's low and high; empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for panel in panels:
        for series in panel.series:
            nothing = np.full(len(series.x), np.nan)
            low, high = (nothing if band is None else band for band in (series.low, series.high))
            for values in zip(series.x, series.y, low, high):
                writer.writerow([panel.title, series.name, *(f"{v:.6g}" if np.isfinite(v) else "" for v in values)])
    return buffer.getvalue()
