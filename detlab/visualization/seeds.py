"""Seeds in pictures: a dot for each beside their mean, and curves with a band over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detlab.visualization.axes import log_values
from detlab.visualization.curves import running_mean
from detlab.visualization.style import FAINT, INK, colour, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps [N], values [N]

WIDTH = 5.2  # inches: labels can be read on half a wide page and on a phone
LONGEST_TITLE = 58  # characters that fit above a line of dots
MOST_POINTS = 240  # of a band


def seed_dots(rows: Sequence[tuple[str, Sequence[float]]], label: str) -> Figure:
    """(title, a value per seed) of each row, top down: seeds as dots, mean and sample standard deviation in ink."""
    with house_style():
        figure, (axes,) = new_figure(WIDTH, 0.75 + 0.5 * max(len(rows), 1))
        for position, (title, values) in enumerate(rows):
            shade, y = colour(position), position + 0.18
            short = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "…"
            axes.text(0, position - 0.22, short, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5)
            if not len(values):
                axes.text(0, y, "–", transform=axes.get_yaxis_transform(), va="center", color=FAINT)
                continue
            mean = float(np.mean(values))
            if len(values) > 1:
                sd = float(np.std(values, ddof=1))
                axes.plot([mean - sd, mean + sd], [y, y], color=INK, linewidth=1.6, solid_capstyle="butt")
            axes.plot([mean, mean], [y - 0.17, y + 0.17], color=INK, linewidth=2.2, solid_capstyle="butt")
            axes.plot(values, [y] * len(values), "o", color=shade, markersize=6, alpha=0.8, markeredgewidth=0)
        axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        axes.set_yticks([])
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)
        axes.set_xlabel(label)
        if not any(len(values) for _, values in rows):
            axes.set_xticks([])
    return figure


def seed_bands(rows: Mapping[int, Sequence[Curve]], title: str, unit: str, *, smooth: bool = False) -> Figure:
    """Row → a curve per seed: the mean over seeds as a line, from their least to their largest value as a band.

    The row's number gives its colour. smooth: a running mean over each seed first; many magnitudes make the axis
    logarithmic then.
    """
    with house_style():
        figure, (axes,) = new_figure(WIDTH, 3.4)
        least, most = np.inf, -np.inf
        for number, curves in rows.items():
            known = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in curves]
            smoothed = [(x, running_mean(y) if smooth and len(y) > 60 else y) for x, y in known]
            steps, mean, low, high = band(smoothed)
            if not len(steps):
                continue
            shade = colour(number)
            axes.fill_between(steps, low, high, color=shade, alpha=0.2, linewidth=0)
            axes.plot(steps, mean, color=shade, linewidth=1.6, marker="o" if len(steps) == 1 else None)
            least, most = min(least, float(low.min())), max(most, float(high.max()))
        if smooth and least > 0 and most > 30 * least:
            log_values(axes)
        elif np.isfinite(least):
            axes.set_ylim(bottom=min(0.0, least))
        axes.set(xlabel="iteration", ylabel=unit, title=title)
    return figure


def band(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], ...]:
    """Steps ``[N]``, and mean, least and largest value over seeds ``[N]`` each, at most 240 of them.

    A seed that was logged at other steps is interpolated. Where one ends before the others (it is unfinished) all
    end: the mean of fewer seeds would seem a step of training.
    """
    known = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in curves]
    known = [(x, y) for x, y in known if len(x)]
    if not known:
        return (np.empty(0),) * 4
    steps = np.unique(np.concatenate([x for x, _ in known]))
    steps = steps[(steps >= max(x[0] for x, _ in known)) & (steps <= min(x[-1] for x, _ in known))]
    if len(steps) > MOST_POINTS:
        steps = steps[np.linspace(0, len(steps) - 1, MOST_POINTS).round().astype(int)]
    values = np.stack([np.interp(steps, x, y) for x, y in known])  # [seeds, N]
    return steps, values.mean(0), values.min(0), values.max(0)
