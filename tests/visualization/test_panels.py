from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest

from detlab.visualization.panels import COLUMNS, Panel, Series, draw_panels, over_seeds, panels_csv
from detlab.visualization.style import INK, colour

X = np.array([0.0, 1.0, 2.0])


def line(name: str = "a", **look: Any) -> Series:
    return Series(name, X, X + 1, **look)


def test_each_series_is_named_once_and_has_its_colour_and_band() -> None:
    band = Series("b", X, X, X - 1, X + 1, colour=3)
    figure = draw_panels([Panel("left", "x", "y", [line(colour=None), band]), Panel("right", "x", "y", [line()])])
    left, right = figure.axes
    assert [each.get_color() for each in left.lines] == [INK, colour(3)]
    assert (len(left.collections), len(right.collections)) == (1, 0)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert (left.get_title(loc="left"), right.get_xlabel(), right.get_ylabel()) == ("left", "x", "y")


def test_dots_are_dots_and_a_single_value_can_be_seen() -> None:
    alone = Series("alone", np.array([1.0]), np.array([2.0]))
    axes = draw_panels([Panel("", "x", "y", [line(style="dots"), line("c", style="dashed"), alone])]).axes[0]
    dots, dashed, single = axes.lines
    assert (dots.get_linestyle(), dots.get_marker()) == ("None", "o")
    assert (dashed.get_linestyle(), dashed.get_marker()) == ("--", "None")
    assert single.get_marker() == "o"


def test_axes_as_told() -> None:
    axes = draw_panels([Panel("", "x", "y", [line()], log=True), Panel("", "x", "y", [line()], limits=(0, 9))]).axes
    assert axes[0].get_yscale() == "log"
    assert axes[1].get_ylim() == (0, 9)


def test_few_dots_are_large_and_places_may_have_names() -> None:
    many = Series("many", np.arange(200.0), np.arange(200.0), style="dots")
    axes = draw_panels([Panel("", "x", "y", [line(style="dots"), many], ticks={"R1": 0.0, "R2": 2.0})]).axes[0]
    few, crowd = axes.lines
    assert few.get_markersize() > crowd.get_markersize()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["R1", "R2"]
    assert axes.get_xticks().tolist() == [0, 2]


def test_nothing_to_draw() -> None:
    figure = draw_panels([Panel("", "x", "y", [])])
    assert not figure.axes[0].lines
    assert panels_csv([Panel("", "x", "y", [])]) == ",".join(COLUMNS) + "\n"


def test_numbers_are_those_of_the_picture() -> None:
    gap = Series("b, with gaps", X, np.array([1.0, np.nan, 1 / 3]), X, X)
    rows = list(csv.DictReader(io.StringIO(panels_csv([Panel("one", "x", "y", [line(), gap])]))))
    assert [(row["panel"], row["series"]) for row in rows] == [("one", "a")] * 3 + [("one", "b, with gaps")] * 3
    assert [float(row["y"]) for row in rows[:3]] == [1, 2, 3]
    assert rows[0]["low"] == rows[0]["high"] == rows[4]["y"] == ""
    assert float(rows[5]["y"]) == pytest.approx(1 / 3, rel=1e-5)
    assert float(rows[5]["high"]) == 2


def test_over_seeds_equals_a_loop_and_leaves_out_what_a_seed_lacks() -> None:
    values = [[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]]
    series = over_seeds("a", X, values, colour=2)
    assert series.low is not None
    assert series.high is not None
    for n, known in enumerate(([1.0, 3.0], [5.0], [])):
        expected = (sum(known) / len(known), min(known), max(known)) if known else (np.nan,) * 3
        np.testing.assert_equal((series.y[n], series.low[n], series.high[n]), expected)
