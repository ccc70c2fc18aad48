from __future__ import annotations

import numpy as np
import pytest

from detlab.errors import UserError
from detlab.reporting.figures.drawing import Runs
from experiments.alrp.figures import BALANCED, FIGURES, KINDS, PLAIN

STEPS = np.arange(9.0, 200, 10)


def losses(classification: float, localization: float) -> dict[str, np.ndarray]:
    parts = {"classification": classification * 10 / (STEPS + 1), "localization": np.full(len(STEPS), localization)}
    return {
        "step": STEPS,
        "train/loss": parts["classification"] + parts["localization"],
        **{f"train/loss_{name}": values for name, values in parts.items()},
    }


def test_figure3_shows_the_loss_and_its_parts_without_and_with_balance(make_run, tmp_path):
    for seed in (0, 1):
        make_run(PLAIN, seed, losses(1.0, 0.2 + 0.1 * seed))
        make_run(BALANCED, seed, losses(0.8, 0.1))
    left, right = FIGURES["figure3"](Runs(tmp_path / "runs", "mini")).panels
    whole, classification, localization = left.series
    assert whole.x.tolist() == STEPS.tolist()
    np.testing.assert_allclose(whole.y, classification.y + localization.y)
    np.testing.assert_allclose(localization.y, 0.25)
    assert (localization.low.min(), localization.high.max()) == pytest.approx((0.2, 0.3))
    np.testing.assert_allclose(right.series[2].y, 0.1)
    assert left.limits == right.limits == pytest.approx((0, 1.05 * whole.high.max()))


def test_long_curves_are_smoothed_and_gaps_do_not_matter(make_run, tmp_path):
    steps = np.arange(0.0, 2000, 10)
    noisy = {name: 1 + 0.5 * (-1.0) ** np.arange(200) for name in losses(1, 1) if name != "step"}
    for values in noisy.values():
        values[50] = np.nan  # a validation wrote this row
    for row in (PLAIN, BALANCED):
        make_run(row, 0, {"step": steps, **noisy})
    whole = FIGURES["figure3"](Runs(tmp_path / "runs", "mini")).panels[0].series[0]
    assert len(whole.x) == 199
    assert np.abs(whole.y[10:-10] - 1).max() < 0.2


def test_figure4_shows_ratios_and_losses_of_three_kinds(make_run, tmp_path):
    for number, row in enumerate(KINDS):
        for seed in (0, 1, 2):
            history = losses(10.0**number, 0)
            history["train/gradient_ratio"] = np.full(len(STEPS), float(number + seed + 1))
            make_run(row, seed, history)
    drawing = FIGURES["figure4"](Runs(tmp_path / "runs", "mini"))
    ratios, values = drawing.panels
    assert [series.name for series in ratios.series] == ["cross-entropy", "focal loss", "aLRP Loss"]
    for number, series in enumerate(ratios.series):
        assert series.y == pytest.approx(number + 2)
        assert (series.low.min(), series.high.max()) == (number + 1, number + 3)
    assert values.series[1].y == pytest.approx(100 / (STEPS + 1))
    assert ratios.level == 1
    assert drawing.caption == "Not smoothed, 3 seeds: mean, and from the least to the largest."


def test_figure4_wants_runs_that_logged_their_gradients(make_run, tmp_path):
    for row in KINDS:
        make_run(row, 0, losses(1, 0))
    with pytest.raises(UserError, match=r"has no train/gradient_ratio in its history; .* callbacks=gradients'\.$"):
        FIGURES["figure4"](Runs(tmp_path / "runs", "mini"))


def test_figure_a7_needs_no_runs(tmp_path):
    drawing = FIGURES["figure_a7"](Runs(tmp_path, "mini"))
    assert not drawing.from_runs
    ratios, values, margins = drawing.panels
    right, wrong = ratios.series
    known = right.y[np.isfinite(right.y)]
    assert known == pytest.approx(1, abs=1e-5)
    assert len(known) < len(right.y)  # in the end there is no gradient left
    assert (wrong.y[0], wrong.y[-1]) == (pytest.approx(1), 0)
    assert values.series[1].y[-1] > values.series[0].y[-1]
    assert margins.series[1].y[-1] > margins.series[0].y[-1]
