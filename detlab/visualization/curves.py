"""Curves: precision over recall, losses and metrics over steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detlab.visualization.axes import log_values
from detlab.visualization.style import FAINT, INK, colour, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED_CLASSES = 12  # with more classes than colours, only the best and the worst are named


def pr_curves(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str = "Precision over recall") -> Figure:
    """class → (recall ``[R]``, precision ``[R]``), the same recall for all: one line each, and their mean.

    The legend gives the mean precision of each (at IoU 0.5 this is its AP50), best first.
    """
    lines = {name: (np.asarray(r, float), np.asarray(p, float)) for name, (r, p) in curves.items()}
    ranked = sorted(lines, key=lambda name: -lines[name][1].mean())
    named = ranked if len(ranked) <= NAMED_CLASSES else [*ranked[:5], *ranked[-5:]]
    with house_style():
        figure, (axes,) = new_figure(7.6, 4.2)
        for name in ranked:
            if name not in named:
                axes.plot(*lines[name], color=FAINT, linewidth=0.7, alpha=0.5)
        for position, name in enumerate(named):
            shade = colour(list(lines).index(name) if named == ranked else position)
            axes.plot(*lines[name], color=shade, label=f"{name}  {lines[name][1].mean():.3f}")
        if len(lines) > 1:
            recall = next(iter(lines.values()))[0]
            mean = np.mean([precision for _, precision in lines.values()], 0)
            axes.plot(recall, mean, color=INK, linewidth=2.6, linestyle=(0, (4, 2)), label=f"mean  {mean.mean():.3f}")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title)
        if lines:
            rest = f" ({len(ranked) - len(named)} more in grey)" if len(named) < len(ranked) else ""
            figure.legend(loc="outside right upper", title=f"class, mean precision{rest}", alignment="left", fontsize=9)
        else:
            _say(axes, "no class has ground truth")
    return figure


def loss_curves(history: Mapping[str, ArrayLike]) -> Figure:
    """Columns ``step``, ``train/loss``, ``train/loss_<term>`` of equal length (nan: not logged in that row)."""
    names = [name for name in history if name == "train/loss" or name.startswith("train/loss_")]
    return _over_steps(history, names, "Training loss", "loss", smooth=True)


def assignment_curves(history: Mapping[str, ArrayLike]) -> Figure:
    """Columns ``step``, ``train/positives_per_object``, like `loss_curves`."""
    names = [name for name in ("train/positives_per_object",) if name in history]
    return _over_steps(history, names, "Assignment", "anchors per object", smooth=True)


def pseudo_curves(history: Mapping[str, ArrayLike]) -> Figure:
    """Columns ``step``, ``pseudo/precision``, ``pseudo/recall``, like `loss_curves`."""
    names = [name for name in ("pseudo/precision", "pseudo/recall") if name in history]
    return _over_steps(history, names, "Pseudo-labels", "share", smooth=False)


def metric_curves(history: Mapping[str, ArrayLike]) -> Figure:
    """Columns ``step``, ``val/AP``, ``val/AP50``, ``val/AP75``, ``val/mAP_voc``, like `loss_curves`; best AP marked."""
    names = [name for name in ("val/AP", "val/AP50", "val/AP75", "val/mAP_voc") if name in history]
    return _over_steps(history, names, "Validation", "average precision", smooth=False)


def _over_steps(history: Mapping[str, ArrayLike], names: list[str], title: str, unit: str, smooth: bool) -> Figure:
    steps = np.asarray(history["step"], float) if "step" in history else np.empty(0)
    known: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for name in names:
        values = np.asarray(history[name], float)
        logged = np.isfinite(values) & np.isfinite(steps)
        if logged.any():
            known[name] = (steps[logged], values[logged])
    with house_style():
        figure, (axes,) = new_figure(7.6, 3.6)
        for position, (name, (x, y)) in enumerate(known.items()):
            shade = INK if name == "train/loss" else colour(position - ("train/loss" in known))
            many = smooth and len(y) > 60
            if many:
                axes.plot(x, y, color=shade, linewidth=0.6, alpha=0.22)
            label = name.split("/", 1)[1]
            marker = None if smooth else "o"
            axes.plot(x, running_mean(y) if many else y, color=shade, label=label, marker=marker, markersize=3.5)
        if "val/AP" in known:
            x, y = known["val/AP"]
            best = int(y.argmax())
            axes.annotate(
                f"best AP {y[best]:.3f}",
                (x[best], y[best]),
                xytext=(0, -14),  # below: AP75 and AP50 tend to lie above
                textcoords="offset points",
                ha="right" if x[best] > x.mean() else "left",
                fontsize=9,
            )
        axes.set(xlabel="step", ylabel=unit, title=title)
        if known:
            everything = np.concatenate([y for _, y in known.values()])
            if smooth and everything.min() > 0 and everything.max() > 30 * everything.min():
                log_values(axes)
            else:
                axes.set_ylim(bottom=min(0.0, float(everything.min())))
            figure.legend(loc="outside right upper", fontsize=9)
        else:
            _say(axes, "nothing logged yet")
    return figure


def running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a centred window of a thirtieth of the curve; shorter at the ends."""
    half = max(1, len(values) // 60)
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=FAINT)
