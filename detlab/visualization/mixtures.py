"""Scores of anchors with the two Gaussians fitted to them, and how boundaries separate them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detlab.visualization.style import FAINT, INK, colour, empty_figure, house_style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATES = {1: "positive", 0: "negative", -1: "ignored"}
SHADES = {1: colour(0), 0: colour(3), -1: FAINT}
PANEL_WIDTH, PANEL_HEIGHT = 4.4, 2.9  # inches
BINS = 18  # of the histogram
POINTS = 400  # of a density
COLUMNS = ("separation", "score", "judged", "positive component", "negative component")


@dataclass(frozen=True, eq=False)
class Fit:
    """Scores ``[N]`` of the anchors of one object, the higher the better, and the Gaussians fitted to them: weights,
    means and variances ``[2]`` each, the positive component first."""

    scores: NDArray[np.float64]
    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    def densities(self, at: ArrayLike) -> NDArray[np.float64]:
        """Weight × density of both components at ``at [M]`` → ``[2, M]`` (Eq. 4 of Kim and Lee 2020 is their sum)."""
        away = np.asarray(at, float) - self.means[:, None]  # [2, M]
        spread = self.variances[:, None]
        return self.weights[:, None] * np.exp(-(away**2) / (2 * spread)) / np.sqrt(2 * np.pi * spread)


def regions(scores: ArrayLike, states: ArrayLike) -> list[tuple[float, float, int]]:
    """(from, to, state) of the stretches of score that ``scores [N]`` of one state fill, from the least score up.

    They meet half-way between the samples; the first and the last are open (−∞, ∞). At equal scores in the order of
    the states.
    """
    score, state = np.asarray(scores, float), np.asarray(states, np.int64)
    order = np.lexsort((state, score))
    score, state = score[order], state[order]
    turns = np.flatnonzero(state[1:] != state[:-1])
    edges = [-np.inf, *((score[turns] + score[turns + 1]) / 2).tolist(), np.inf]
    kinds = state[[0, *(turns + 1)]].tolist() if len(state) else []
    return list(zip(edges, edges[1:], kinds))


def draw_schemes(fit: Fit, separations: Mapping[str, ArrayLike]) -> Figure:
    """A panel for each title → states ``[N]`` (1 positive, 0 negative, −1 ignored), two beside each other.

    Histogram and densities are the same in all; the ground is coloured as the anchors there are judged, and each
    anchor is a stroke below it.
    """
    with house_style():
        rows = -(-len(separations) // 2)
        figure = empty_figure(2 * PANEL_WIDTH, rows * PANEL_HEIGHT + 0.4)
        everything = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
        for number, (axes, (title, states)) in enumerate(zip(everything.flat, separations.items())):
            for low, high, state in regions(fit.scores, states):
                left, right = axes_limits(fit)
                axes.axvspan(max(low, left), min(high, right), color=SHADES[state], alpha=0.13, linewidth=0)
            draw_fit(axes, fit, np.asarray(states))
            axes.set_title(title)
            axes.set(xlabel="anchor score" if number >= 2 * (rows - 1) else "", ylabel="" if number % 2 else "density")
        for axes in everything.flat[len(separations) :]:
            axes.set_visible(False)
        present = {int(state) for states in separations.values() for state in np.unique(np.asarray(states))}
        add_legend(figure, present)
    return figure


def draw_scored_anchors(fit: Fit, states: ArrayLike, picture: NDArray[np.uint8] | None = None) -> Figure:
    """The distribution of the scores of anchors with these states ``[N]``; at its left the picture, if there is one."""
    with house_style():
        figure = empty_figure(2 * PANEL_WIDTH if picture is not None else 1.5 * PANEL_WIDTH, PANEL_HEIGHT + 0.9)
        columns = figure.subplots(1, 1 + (picture is not None), squeeze=False)[0]
        if picture is not None:
            columns[0].imshow(picture, interpolation="lanczos")
            columns[0].set_axis_off()
            columns[0].set_title("Anchors of one object")
        draw_fit(columns[-1], fit, np.asarray(states))
        columns[-1].set(
            xlabel="anchor score",
            ylabel="density",
            title="Their scores" if picture is not None else "Scores of the anchors of one object",
        )
        add_legend(figure, set(np.unique(np.asarray(states)).tolist()))
    return figure


def draw_fit(axes: Axes, fit: Fit, states: NDArray[np.int64]) -> None:
    """Histogram, both weighted densities and their sum on `axes`, a stroke per anchor below."""
    left, right = axes_limits(fit)
    x = np.unique(np.concatenate([np.linspace(left, right, POINTS), *_around(fit, left, right)]))
    inside = fit.densities(x)
    if len(fit.scores):
        axes.hist(fit.scores, np.linspace(left, right, BINS + 1).tolist(), density=True, color=FAINT, alpha=0.35)
    axes.plot(x, inside.sum(0), color=INK, linewidth=1.1, linestyle=(0, (4, 2)))
    for line, state in zip(inside, (1, 0)):
        axes.plot(x, line, color=SHADES[state], linewidth=2)
    for state in np.unique(states).tolist():
        axes.plot(
            fit.scores[states == state], np.full((states == state).sum(), -0.05), "|", color=SHADES[state],
            transform=axes.get_xaxis_transform(), clip_on=False, markersize=9, markeredgewidth=1.4,
        )  # fmt: skip
    axes.tick_params(axis="x", pad=13)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom=0)


def axes_limits(fit: Fit) -> tuple[float, float]:
    """The ends of the axis of scores: those of the samples, with some room."""
    if not len(fit.scores):
        return 0.0, 1.0
    low, high = float(fit.scores.min()), float(fit.scores.max())
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room


def add_legend(figure: Figure, present: set[int]) -> None:
    """What lines, strokes and grounds mean, below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Artist] = [
        Patch(color=FAINT, alpha=0.35, label="histogram"),
        Line2D([], [], color=SHADES[1], linewidth=2, label="positive Gaussian"),
        Line2D([], [], color=SHADES[0], linewidth=2, label="negative Gaussian"),
        Line2D([], [], color=INK, linewidth=1.1, linestyle=(0, (4, 2)), label="their sum"),
    ]
    entries += [
        Line2D([], [], color=SHADES[state], marker="|", markersize=9, markeredgewidth=1.4, linestyle="none",
               label=f"anchor: {word}")
        for state, word in STATES.items() if state in present
    ]  # fmt: skip
    figure.legend(handles=entries, loc="outside lower center", ncols=4, fontsize=9)


def fit_csv(fit: Fit, separations: Mapping[str, ArrayLike]) -> str:
    """A row per separation and anchor, from the best score down, with the weighted densities there."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    order, densities = np.argsort(-fit.scores, kind="stable"), fit.densities(fit.scores)
    for title, states in separations.items():
        for n in order.tolist():
            values = (f"{value:.6g}" for value in densities[:, n])
            writer.writerow([title, f"{fit.scores[n]:.6g}", STATES[int(np.asarray(states)[n])], *values])
    return buffer.getvalue()


def _around(fit: Fit, left: float, right: float) -> list[NDArray[np.float64]]:
    """Places around each mean, near enough to one another that the peak of a narrow Gaussian is not missed."""
    steps = np.linspace(-4, 4, 81)
    return [np.clip(mean + steps * np.sqrt(spread), left, right) for mean, spread in zip(fit.means, fit.variances)]
