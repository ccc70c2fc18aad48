"""How sure a classifier is against how often it is right, and what it takes for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from detlab.visualization.style import FAINT, INK, colour, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WRITTEN = 25  # classes up to which the shares stand in the cells


def reliability_diagram(panels: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """A panel per title, of (accuracy ``[bins]``, nan where a bin is empty, and number ``[bins]``): bars of accuracy
    over equal bins of confidence, the diagonal of perfect calibration, and the share of crops as a line."""
    with house_style():
        figure, everything = new_figure(4.4 * len(panels), 4.0, len(panels))
        for axes, (title, (accuracy, count)) in zip(everything, panels.items()):
            height, number = np.asarray(accuracy, float), np.asarray(count, float)
            edges = np.linspace(0, 1, len(height) + 1)
            width = 1 / len(height)
            axes.bar(edges[:-1], np.nan_to_num(height), width, align="edge", color=colour(0), edgecolor="white")
            axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)))
            share = number / max(number.sum(), 1)
            axes.step(edges, np.append(share, share[-1:]), where="post", color=colour(1), label="share of crops")
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=title)
        everything[0].legend(loc="upper left", fontsize=9)
    return figure


def confusion_matrix(counts: ArrayLike, names: Sequence[str], title: str = "") -> Figure:
    """``counts [K, K]`` of (class, what it was taken for), each row as shares of its class."""
    table = np.asarray(counts, float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    with house_style():
        side = 2.2 + 0.34 * len(names)
        figure, (axes,) = new_figure(side + 0.6, side)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(False)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        if len(names) <= MOST_WRITTEN:
            for row, column in zip(*np.nonzero(shares >= 0.005)):
                dark = shares[row, column] > 0.6
                axes.text(
                    column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", fontsize=7,
                    color="white" if dark else INK,
                )  # fmt: skip
        axes.tick_params(color=FAINT)
        axes.set(xlabel="taken for", ylabel="class", title=title)
    return figure
