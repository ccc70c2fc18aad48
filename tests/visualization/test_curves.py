from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detlab.visualization import assignment_curves, loss_curves, metric_curves, pr_curves
from detlab.visualization.curves import running_mean

RECALL = np.linspace(0, 1, 101)


def texts(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_pr_curves_name_their_mean_precision_best_first() -> None:
    figure = pr_curves({"low": (RECALL, np.full(101, 0.25)), "US$ high": (RECALL, np.ones(101))})
    assert texts(figure) == ["US$ high  1.000", "low  0.250", "mean  0.625"]


def test_pr_curves_of_many_classes_name_the_ends() -> None:
    figure = pr_curves({str(k): (RECALL, np.full(101, k / 50)) for k in range(50)})
    assert [text.split()[0] for text in texts(figure)] == [*map(str, [49, 48, 47, 46, 45, 4, 3, 2, 1, 0]), "mean"]
    assert len(figure.axes[0].lines) == 51


def test_pr_curves_of_nothing() -> None:
    assert "no class has ground truth" in [text.get_text() for text in pr_curves({}).axes[0].texts]


def history(rows: int = 200) -> dict[str, np.ndarray]:
    ap = np.full(rows, np.nan)
    ap[19::20] = [0.1, 0.3, 0.2, *[0.1] * (rows // 20 - 3)]
    loss = np.linspace(3, 1, rows)
    return {
        "step": np.arange(rows),
        "train/loss": loss,
        "train/loss_box": loss / 2,
        "lr": loss,
        "val/AP": ap,
        "val/loss": ap,
    }


def test_loss_curves_show_the_losses_of_training() -> None:
    assert texts(loss_curves(history())) == ["loss", "loss_box"]


def test_assignment_curves_show_the_anchors_of_an_object() -> None:
    counts = {
        "step": np.arange(9),
        "train/positives_per_object": np.linspace(8, 4, 9),
        "train/unmatched_objects": np.zeros(9),
    }
    figure = assignment_curves(counts)
    assert texts(figure) == ["positives_per_object"]
    assert figure.axes[0].get_ylabel() == "anchors per object"
    assert figure.axes[0].lines[0].get_ydata().tolist() == np.linspace(8, 4, 9).tolist()
    assert "nothing logged yet" in [text.get_text() for text in assignment_curves({}).axes[0].texts]


def test_loss_of_many_magnitudes_is_drawn_on_a_log_axis() -> None:
    wide = {"step": np.arange(10), "train/loss": np.geomspace(100, 0.1, 10)}
    assert loss_curves(wide).axes[0].get_yscale() == "log"
    assert loss_curves(history()).axes[0].get_yscale() == "linear"


def test_metric_curves_skip_empty_cells_and_mark_the_best() -> None:
    axes: Any = metric_curves(history()).axes[0]
    assert axes.lines[0].get_xdata().tolist() == list(range(19, 200, 20))
    assert [text.get_text() for text in axes.texts] == ["best AP 0.300"]
    assert axes.texts[0].xy == (39, 0.3)


@pytest.mark.parametrize("rows", [{}, {"step": []}, {"step": [1.0], "train/loss": [np.nan], "val/AP": [np.inf]}])
def test_nothing_logged_yet(rows: dict) -> None:
    for figure in (loss_curves(rows), metric_curves(rows)):
        assert "nothing logged yet" in [text.get_text() for text in figure.axes[0].texts]


def testrunning_mean_equals_a_loop() -> None:
    values = np.random.default_rng(0).normal(size=300)
    expected = [values[max(n - 5, 0) : n + 6].mean() for n in range(300)]
    assert running_mean(values) == pytest.approx(expected)
