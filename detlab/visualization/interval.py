"""A claim's difference and its interval, as a drawing small enough for a line of a table."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

WIDTH, HEIGHT = 180, 22  # units of the drawing
MARGIN = 8


def reach(values: Iterable[float | None]) -> tuple[float, float]:
    """The ends of a common axis for several drawings: all values that are known, and zero."""
    known = [0.0, *(value for value in values if value is not None)]
    low, high = min(known), max(known)
    return (low, high) if high > low else (-1.0, 1.0)


def interval_svg(
    difference: float, low: float | None, high: float | None, ends: tuple[float, float], words: str = ""
) -> str:
    """An ``<svg>``: a line at zero, a bar from `low` to `high`, a dot at the difference, in colours of the page."""

    def at(value: float) -> str:
        share = (value - ends[0]) / (ends[1] - ends[0])
        return f"{MARGIN + share * (WIDTH - 2 * MARGIN):.1f}"

    middle = HEIGHT / 2
    parts = [
        f'<svg class="interval" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">',
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{middle}" y2="{middle}"/>',
        f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="1" y2="{HEIGHT - 1}"/>',
    ]
    if low is not None and high is not None:
        parts.append(f'<line class="range" x1="{at(low)}" x2="{at(high)}" y1="{middle}" y2="{middle}"/>')
    return "".join([*parts, f'<circle cx="{at(difference)}" cy="{middle}" r="4.5"/></svg>'])
