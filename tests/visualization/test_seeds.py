from __future__ import annotations

import numpy as np
import pytest

from detlab.visualization.seeds import MOST_POINTS, band, seed_bands, seed_dots
from detlab.visualization.style import INK, colour


def test_dots_mean_and_deviation_of_each_row() -> None:
    axes = seed_dots([("one <row>", [48.0, 50.0, 52.0]), ("two", [40.0]), ("none", [])], "test AP").axes[0]
    bar, mean, dots, only, dot = axes.lines
    assert bar.get_xdata() == pytest.approx([48.0, 52.0])  # 50 ± 2
    assert list(mean.get_xdata()) == [50.0, 50.0]
    assert list(dots.get_xdata()) == [48.0, 50.0, 52.0]
    assert (bar.get_color(), dots.get_color(), dot.get_color()) == (INK, colour(0), colour(1))
    assert list(only.get_xdata()) == [40.0, 40.0]  # one seed has a mean and no bar
    assert [text.get_text() for text in axes.texts] == ["one <row>", "two", "none", "–"]
    bottom, top = axes.get_ylim()
    assert top < 0 < 2 < bottom  # the first row is the upper one


def test_long_titles_are_cut() -> None:
    (title,) = seed_dots([("x" * 200, [1.0, 2.0])], "AP").axes[0].texts
    assert title.get_text().endswith("x…")
    assert len(title.get_text()) < 70


def test_band_equals_a_loop_where_seeds_were_logged_alike() -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(10.0)
    seeds = [rng.normal(size=10) for _ in range(3)]
    x, mean, low, high = band([(steps, values) for values in seeds])
    assert list(x) == list(steps)
    for n in range(10):
        values = [float(seed[n]) for seed in seeds]
        assert mean[n] == pytest.approx(sum(values) / 3)
        assert (low[n], high[n]) == (min(values), max(values))


def test_band_skips_empty_cells_and_ends_with_the_first_seed_that_ends() -> None:
    whole = (np.array([0.0, 10, 20, 30]), np.array([0.0, np.nan, 2, 3]))
    short = (np.array([0.0, 10, 20]), np.array([1.0, 1.0, 1.0]))
    x, mean, low, high = band([whole, short])
    assert list(x) == [0, 10, 20]
    assert list(mean) == [0.5, 1.0, 1.5]  # between 0 and 20 the first seed is interpolated
    assert (list(low), list(high)) == ([0, 1, 1], [1, 1, 2])


@pytest.mark.parametrize("curves", [[], [(np.empty(0), np.empty(0))], [(np.arange(2.0), np.full(2, np.nan))]])
def test_band_of_nothing(curves: list) -> None:
    assert [len(part) for part in band(curves)] == [0, 0, 0, 0]
    assert not seed_bands({0: curves}, "Validation", "AP").axes[0].lines


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    x, *_ = band([(np.arange(5000.0), np.arange(5000.0))])
    assert len(x) == MOST_POINTS
    assert (x[0], x[-1]) == (0, 4999)


def test_bands_have_the_colour_of_their_row() -> None:
    curve = (np.arange(5.0), np.arange(5.0))
    axes = seed_bands({1: [curve], 4: [curve, curve]}, "Validation AP", "AP").axes[0]
    assert [line.get_color() for line in axes.lines] == [colour(1), colour(4)]
    assert len(axes.collections) == 2


def test_loss_of_many_magnitudes_is_drawn_on_a_log_axis() -> None:
    wide = (np.arange(50.0), np.geomspace(100, 0.1, 50))
    assert seed_bands({0: [wide]}, "Training loss", "loss", smooth=True).axes[0].get_yscale() == "log"
    assert seed_bands({0: [wide]}, "Validation", "AP").axes[0].get_yscale() == "linear"


def test_a_smoothed_curve_goes_on_after_steps_at_which_nothing_was_logged() -> None:
    steps = np.arange(200.0)
    values = np.where(steps % 50 == 49, np.nan, 2.0)
    figure = seed_bands({0: [(steps, values)]}, "Training loss", "loss", smooth=True)
    (line,) = figure.axes[0].lines
    assert line.get_xdata()[-1] == 198
    np.testing.assert_allclose(line.get_ydata(), 2.0)
