from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from scipy.stats import norm

from detlab.visualization.mixtures import SHADES, Fit, draw_schemes, draw_scored_anchors, fit_csv, regions

SCORES = np.array([-3.0, -2.5, -2.2, -1.0, -0.5])
FIT = Fit(SCORES, np.array([0.4, 0.6]), np.array([-0.75, -2.6]), np.array([0.06, 0.11]))


def test_densities_are_weighted_normals():
    at = np.linspace(-4, 1, 37)
    for row, weight, mean, variance in zip(FIT.densities(at), FIT.weights, FIT.means, FIT.variances):
        np.testing.assert_allclose(row, weight * norm.pdf(at, mean, variance**0.5), rtol=1e-12)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([0, 0, 0, 1, 1], [(-np.inf, -1.6, 0), (-1.6, np.inf, 1)]),
        ([0, 0, -1, -1, 1], [(-np.inf, -2.35, 0), (-2.35, -0.75, -1), (-0.75, np.inf, 1)]),
        ([1, 0, 1, 1, 1], [(-np.inf, -2.75, 1), (-2.75, -2.35, 0), (-2.35, np.inf, 1)]),
        ([1, 1, 1, 1, 1], [(-np.inf, np.inf, 1)]),
    ],
)
def test_regions_meet_half_way_between_anchors_of_unlike_state(states, expected):
    shuffled = np.array([3, 0, 4, 2, 1])
    for order in (np.arange(5), shuffled):
        found = regions(SCORES[order], np.array(states)[order])
        assert [kind for *_, kind in found] == [kind for *_, kind in expected]
        np.testing.assert_allclose([edge[:2] for edge in found], [edge[:2] for edge in expected])


def test_no_anchor_has_no_region():
    assert regions([], []) == []


def test_each_scheme_has_a_panel_with_both_gaussians_a_stroke_per_anchor_and_its_grounds():
    states = {"(a)": [0, 0, 0, 1, 1], "(b)": [0, 0, -1, 1, 1], "(c)": [0, 0, 0, 0, 1]}
    figure = draw_schemes(FIT, states)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == list(states)
    for axes, state in zip(shown, states.values()):
        strokes = {line.get_color(): sorted(line.get_xdata()) for line in axes.lines if line.get_marker() == "|"}
        assert strokes == {SHADES[kind]: sorted(SCORES[np.array(state) == kind]) for kind in set(state)}
        total, positive, negative = (line for line in axes.lines if line.get_marker() == "None")
        np.testing.assert_allclose(total.get_ydata(), positive.get_ydata() + negative.get_ydata())
        assert (positive.get_color(), negative.get_color()) == (SHADES[1], SHADES[0])
        assert positive.get_xdata()[positive.get_ydata().argmax()] == pytest.approx(-0.75)
    (legend,) = figure.legends
    assert "anchor: ignored" in [text.get_text() for text in legend.get_texts()]


def test_narrow_gaussians_keep_their_peak():
    narrow = Fit(SCORES, np.array([0.5, 0.5]), np.array([-0.5, -2.6]), np.array([1e-6, 0.2]))
    (axes,) = draw_scored_anchors(narrow, [0, 0, 0, 0, 1]).axes
    assert max(line.get_ydata().max() for line in axes.lines) >= 0.5 / np.sqrt(2 * np.pi * 1e-6)


@pytest.mark.parametrize("scores", [[], [-1.0], [-1.0, -1.0]])
def test_few_anchors(scores):
    fit = Fit(np.array(scores), np.array([0.5, 0.5]), np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    figure = draw_scored_anchors(fit, np.ones(len(scores), np.int64), np.zeros((9, 9, 3), np.uint8))
    assert len(figure.axes) == 2
    draw_schemes(fit, {"(a)": np.ones(len(scores), np.int64)}).canvas.draw()


def test_numbers_from_the_best_score_down():
    rows = list(csv.DictReader(io.StringIO(fit_csv(FIT, {"(b)": [0, 0, -1, 1, 1]}))))
    assert [float(row["score"]) for row in rows] == sorted(SCORES, reverse=True)
    assert [row["judged"] for row in rows] == ["positive", "positive", "ignored", "negative", "negative"]
    assert float(rows[-1]["negative component"]) == pytest.approx(0.6 * norm.pdf(-3, -2.6, 0.11**0.5), rel=1e-5)
