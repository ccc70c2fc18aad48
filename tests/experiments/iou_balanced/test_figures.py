from __future__ import annotations

import numpy as np
import pytest

from detlab.errors import UserError
from detlab.losses.iou_balanced import W_LOC
from detlab.metrics.by_iou import best_iou
from detlab.reporting.figures.drawing import Runs
from detlab.reporting.figures.evaluated import evaluated
from detlab.reporting.study.run import read_run
from experiments.iou_balanced.figures import BASELINE, CLASSIFICATION, EDGES, FIGURES, LOCALIZATION, THRESHOLDS


def halved(predictions: list[dict]) -> list[dict]:
    return [{**record, "score": record["score"] / 2} for record in predictions]


def test_figure1_needs_no_runs(tmp_path):
    drawing = FIGURES["figure1"](Runs(tmp_path, "mini"))
    assert not drawing.from_runs
    for panel in drawing.panels:
        assert [series.name for series in panel.series[:5]] == [f"λ = {value:g}" for value in W_LOC]
        plain, *_, strongest = panel.series[:5]
        assert plain.y[-1] == 1
        assert strongest.y.max() > 2
        alone = panel.series[5]
        assert alone.style == "dots"
        np.testing.assert_allclose(alone.y, np.interp(alone.x, panel.series[3].x, panel.series[3].y), atol=0.05)


def test_figure2_shows_mean_scores_and_their_change(make_run, predictions, tmp_path):
    first, _ = (make_run(BASELINE, seed, predictions=predictions) for seed in (0, 1))
    make_run(CLASSIFICATION, 1, predictions=halved(predictions))
    runs = Runs(tmp_path / "runs", "mini")
    scores, change = FIGURES["figure2"](runs).panels
    baseline, balanced = scores.series
    found, truth = evaluated(read_run(first))
    iou, score = best_iou(found, truth), found.score
    for n in range(10):
        inside = [s for i, s in zip(iou, score) if EDGES[n] <= i < EDGES[n + 1] or (n == 9 and i == 1)]
        expected = np.mean(inside) if inside else np.nan
        np.testing.assert_allclose([baseline.y[n], balanced.y[n]], [expected, expected / 2], rtol=1e-4)
    assert np.isfinite(baseline.y).sum() > 3
    np.testing.assert_allclose(change.series[0].y, -baseline.y / 2, rtol=1e-4)
    assert "seeds: baseline 2, cls 1" in FIGURES["figure2"](runs).caption


def test_figure3_shows_shares_of_detections_on_objects(make_run, predictions, tmp_path):
    folder = make_run(BASELINE, 0, predictions=predictions)
    make_run(LOCALIZATION, 0, predictions=predictions)
    shares, change = FIGURES["figure3"](Runs(tmp_path / "runs", "mini")).panels
    iou = best_iou(*evaluated(read_run(folder)))
    on = [value for value in iou if value >= 0.5]
    assert on
    for n, threshold in enumerate(THRESHOLDS):
        expected = 100 * sum(value >= threshold for value in on) / len(on)
        assert shares.series[0].y[n] == pytest.approx(expected)
    assert not change.series[0].y.any()


def test_seeds_without_a_partner_are_compared_by_their_means(make_run, predictions, tmp_path):
    make_run(BASELINE, 0, predictions=predictions)
    make_run(CLASSIFICATION, 5, predictions=halved(predictions))
    scores, change = FIGURES["figure2"](Runs(tmp_path / "runs", "mini")).panels
    np.testing.assert_allclose(change.series[0].y, -scores.series[0].y / 2, rtol=1e-4)


@pytest.mark.parametrize("figure", ["figure2", "figure3"])
def test_without_runs(tmp_path, figure):
    with pytest.raises(UserError, match="no finished run of iou_balanced/table2/baseline, iou_balanced/table2/"):
        FIGURES[figure](Runs(tmp_path, "mini"))
