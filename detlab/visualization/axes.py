"""A logarithmic axis in plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TICKS_UP_TO = 30.0  # ends this many times apart: also at 2 and 5, else there might be no tick at all


def log_values(axes: Axes) -> None:
    """Make the axis of values of `axes` logarithmic, its ticks written as 0.1, 10, 1000.

    Matplotlib writes powers of ten as formulas, which the house style does not set (a class may be called "US$").
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < TICKS_UP_TO * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
