"""What a data set holds: objects per class, their sizes, boxes per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from detlab.visualization.style import FAINT, INK, colour, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 40


def class_histogram(labels: ArrayLike, classes: Sequence[str]) -> Figure:
    """Objects per class from ``labels [M]``, most frequent first; of very many classes the first 40."""
    counts = np.bincount(np.asarray(labels, dtype=np.int64).reshape(-1), minlength=len(classes))[: len(classes)]
    order = np.argsort(-counts, kind="stable")
    shown = order[:MOST_CLASSES]
    with house_style():
        figure, (axes,) = new_figure(6.4, 1.0 + 0.26 * max(len(shown), 3))
        bars = axes.barh(np.arange(len(shown)), counts[shown], color=colour(0), height=0.72)
        axes.bar_label(bars, [f"{counts[k]:,}" for k in shown], padding=4, fontsize=9, color=INK)
        axes.set_yticks(np.arange(len(shown)), [classes[k] for k in shown], fontsize=9)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.margins(x=0.12)
        rest = order[MOST_CLASSES:]
        more = f" ({len(rest)} more classes: {counts[rest].sum():,})" if len(rest) else ""
        axes.set(xlabel="objects", title=f"{counts.sum():,} objects by class{more}")
    return figure


def size_histogram(boxes: ArrayLike) -> Figure:
    """√area of ``boxes [M, 4]`` (xyxy), in pixels on a log axis, with the shares of COCO's three size classes."""
    box = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    area = np.clip(box[:, 2:] - box[:, :2], 0, None).prod(1)
    side = np.sqrt(area[np.isfinite(area) & (area > 0)])
    with house_style():
        figure, (axes,) = new_figure(6.4, 3.2)
        low, high = (side.min(), side.max()) if len(side) else (8.0, 256.0)
        axes.hist(side, np.geomspace(min(low, 16) / 1.05, max(high, 192) * 1.05, 45).tolist(), color=colour(0))
        axes.set_xscale("log")
        ticks = [
            s
            for s in (1, 2, 4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048)
            if low / 2 <= s <= high * 2 or s in (32, 96)
        ]
        axes.set_xticks([t for t in ticks if t not in (64, 128)], minor=False)
        axes.set_xticklabels([str(t) for t in ticks if t not in (64, 128)])
        axes.minorticks_off()
        axes.margins(y=0.16)
        edges = (axes.get_xlim()[0], 32, 96, axes.get_xlim()[1])
        counts = np.bincount(np.digitize(side, (32, 96)), minlength=3)
        for name, count, left, right in zip(("small", "medium", "large"), counts, edges, edges[1:]):
            words = f"{name}\n{count / len(side):.0%}" if len(side) else name
            axes.text(np.sqrt(left * right), 0.98, words, transform=axes.get_xaxis_transform(), ha="center", va="top")
        for edge in (32, 96):
            axes.axvline(edge, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set(xlabel="√area, pixels", ylabel="objects", title="Object sizes")
    return figure


def boxes_per_image(counts: ArrayLike) -> Figure:
    """How many images (of ``counts [N]``) hold 0, 1, 2, … boxes."""
    from matplotlib.ticker import MaxNLocator

    count = np.asarray(counts, dtype=np.int64).reshape(-1)
    top = int(count.max(initial=0))
    width = max(1, -(-(top + 1) // 60))
    with house_style():
        figure, (axes,) = new_figure(6.4, 3.0)
        axes.hist(
            count,
            [edge - 0.5 for edge in range(0, top + width + 1, width)],
            color=colour(0),
            rwidth=0.86 if top < 30 else 1.0,
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        summary = (
            f"mean {count.mean():.1f}, most {top}, none in {int((count == 0).sum()):,}" if len(count) else "no images"
        )
        axes.set(xlabel="boxes in an image", ylabel="images", title=f"Boxes per image: {summary}")
    return figure
