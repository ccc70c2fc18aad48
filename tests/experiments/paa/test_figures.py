from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from detlab.assigners.separation import separate
from detlab.engine.callbacks.snapshots import Snapshot, save_snapshots
from detlab.errors import UserError
from detlab.reporting.figures.drawing import Drawing, Runs
from detlab.reporting.figures.picture import Picture
from detlab.reporting.study.definition import EXPERIMENTS
from detlab.reporting.study.record import table_of_record
from detlab.visualization.style import colour, rgb
from experiments.paa.figure_counts import COLUMN, FIXED, MOST
from experiments.paa.figure_runs import PAA
from experiments.paa.figure_scores import SCHEMES, fitted, fullest, made_up
from experiments.paa.figures import FIGURES

STEPS = np.arange(0.0, 2000, 10)


def snapshot(positives: int) -> Snapshot:
    """Two objects, the second the larger one, with four anchors each, of which so many are positive."""
    objects = np.array([[4.0, 4, 20, 20], [30, 30, 60, 58]])
    of = np.repeat([0, 1], 4)
    anchors = objects[of] + np.arange(8)[:, None]
    state = (np.tile(np.arange(4), 2) < positives).astype(np.int64)
    state[3] = -1
    return Snapshot(
        objects, np.array([0, 1]), of, state, anchors, anchors - 1, np.linspace(1, 2, 8), np.linspace(0, 1, 8)
    )


def keep(folder: Path, names: Sequence[str]) -> None:
    """What callbacks=assignments leaves in a run's folder."""
    home = folder / "figures/assignments"
    home.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (64, 64), (200, 200, 200)).save(home / f"{name}.png")
    for iteration, positives in ((50, 1), (1250, 3)):
        save_snapshots(home / f"{iteration:07d}.json", iteration, 1250, {name: snapshot(positives) for name in names})


def rows(drawing: Drawing | Picture) -> list[dict[str, str]]:
    assert isinstance(drawing, Picture)
    return list(csv.DictReader(io.StringIO(drawing.csv())))


def has(picture: object, number: int) -> bool:
    assert isinstance(picture, np.ndarray)
    panels = picture[30:-40]  # without the legend
    return bool((np.abs(panels.astype(int) - np.array(rgb(colour(number)))) < 40).all(-1).any())


def test_figure4a_is_the_largest_object_of_the_first_picture(make_run, tmp_path):
    make_run(PAA, 0)
    keep(make_run(PAA, 1), ["7", "9"])  # the first seed kept nothing
    drawing = FIGURES["figure4a"](Runs(tmp_path / "runs", "mini"))
    found = rows(drawing)
    assert [(row["picture"], row["iteration"], row["object"]) for row in found] == [("7", "50", "0")] * 4 + [
        ("7", "1250", "0")
    ] * 4
    assert [row["judged"] for row in found] == ["positive"] + ["negative"] * 3 + ["positive"] * 3 + ["negative"]
    assert found[0]["anchor_x1"] == "34.0"
    assert found[0]["predicted_y2"] == "61.0"
    assert has(drawing.picture(), 0)
    assert not has(drawing.picture(), 1)
    assert drawing.caption.startswith("The largest object of picture 7;")


def test_figure6_shows_all_objects_of_two_pictures(make_run, tmp_path):
    keep(make_run(PAA), ["7", "9", "11"])
    drawing = FIGURES["figure6"](Runs(tmp_path / "runs", "mini"))
    found = rows(drawing)
    assert {row["picture"] for row in found} == {"7", "9"}
    assert sum(row["judged"] == "ignored" for row in found) == 4
    assert len(found) == 2 * 2 * 8
    assert has(drawing.picture(), 0)
    assert has(drawing.picture(), 1)


def test_figure7_is_ones_own_picture_else_another_recorded_one(make_run, tmp_path):
    runs = Runs(tmp_path / "runs", "mini")
    keep(make_run(PAA), ["7", "own"])
    drawing = FIGURES["figure7"](runs)
    assert {row["picture"] for row in rows(drawing)} == {"own"}
    assert "does not belong to the data" in drawing.caption
    other = Runs(tmp_path / "runs", "other")
    keep(make_run(PAA, setting="other"), ["7", "9", "11"])
    assert {row["picture"] for row in rows(FIGURES["figure7"](other))} == {"11"}


@pytest.mark.parametrize(
    ("figure", "names", "answer"),
    [
        ("figure4a", None, r"kept no assignments; train it again with 'detlab train experiment=paa/table1_right/"
         r"paa_ioupred seed=0 callbacks=assignments overwrite=true'\."),
        ("figure6", ["own"], r"only a picture of one's own was recorded; train it again with"),
        ("figure7", ["7", "9"], r"no picture of one's own was recorded; .*own_picture=<file> .* overwrite=true'\."),
    ],
)  # fmt: skip
def test_what_was_not_recorded_is_named_with_the_command(make_run, tmp_path, figure, names, answer):
    folder = make_run(PAA)
    if names:
        keep(folder, names)
    with pytest.raises(UserError, match=answer):
        FIGURES[figure](Runs(tmp_path / "runs", "mini"))


def test_figure4b_sets_paa_beside_fixed_numbers_and_a_falling_rule(make_run, tmp_path):
    wave = 8 + (-1.0) ** np.arange(len(STEPS))
    for seed in (0, 1):
        make_run(PAA, seed, {"step": STEPS, COLUMN: wave + seed})
    for number, row in FIXED.items():
        make_run(row, 0, {"step": STEPS, COLUMN: np.full(len(STEPS), float(number))})
    drawing = FIGURES["figure4b"](Runs(tmp_path / "runs", "mini"))
    assert isinstance(drawing, Drawing)
    (panel,) = drawing.panels
    adaptive, *fixed, rule = panel.series
    assert np.abs(adaptive.y[5:-5] - 8.5).max() < 0.4  # the mean of both seeds, smoothed
    for series, number in zip(fixed, FIXED):
        np.testing.assert_allclose(series.y, number)
    assert (rule.x.tolist(), rule.y.tolist(), rule.style) == ([0, STEPS[-1]], [MOST, 1], "dashed")
    assert "a rule, no run" in rule.name
    assert "nothing was trained with it" in drawing.caption


def test_figure4b_wants_the_rows_of_table_1(make_run, tmp_path):
    make_run(PAA, 0, {"step": STEPS, COLUMN: STEPS})
    with pytest.raises(UserError, match=r"no finished run of paa/table1_left/fnp_5, .*make them with 'detlab train -m"):
        FIGURES["figure4b"](Runs(tmp_path / "runs", "mini"))


def test_without_a_run_figures_1_and_3_say_that_they_are_made_up(tmp_path):
    for name in ("figure1", "figure3"):
        drawing = FIGURES[name](Runs(tmp_path, "mini"))
        assert isinstance(drawing, Picture)
        assert not drawing.from_runs
        assert drawing.caption.startswith("A made-up example")
        assert isinstance(drawing.picture(), Figure)
    states: dict[str, list[str]] = {}
    for row in rows(drawing):
        states.setdefault(row["separation"], []).append(row["judged"])
    costs = np.sort(made_up().costs)
    words = {1: "positive", 0: "negative", -1: "ignored"}
    for scheme, title in SCHEMES.items():
        expected = separate(torch.tensor(costs)[None], torch.ones(1, len(costs), dtype=torch.bool), scheme)[0]
        assert states[title] == [words[state] for state in expected.tolist()]


def test_the_recorded_figure_3_ignores_in_b_what_lies_between_the_peaks_and_in_d_the_rest_of_the_low_component():
    """By the densities that the file gives, from the best score down."""
    of_scheme: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader((EXPERIMENTS / "paa/results/figure3-mini_2x.csv").open()):
        of_scheme.setdefault(row["separation"][:3], []).append(row)
    for scheme in ("(b)", "(d)"):
        judged = [row["judged"] for row in of_scheme[scheme]]
        low, high = (
            np.array([float(row[f"{name} component"]) for row in of_scheme[scheme]])
            for name in ("positive", "negative")
        )
        first = int(low.argmax()) + 1
        end = int(high.argmax()) if scheme == "(b)" else int((low > high).sum())
        assert 0 < first < end < len(judged)
        expected = ["positive"] * first + ["ignored"] * (end - first) + ["negative"] * (len(judged) - end)
        assert judged == expected


def test_recorded_runs_of_what_was_called_b_count_as_d():
    """`b` once named the separation (d) of Fig. 3, and what `d` named is none of it."""
    table = table_of_record(EXPERIMENTS / "paa/results/table1_left-mini_2x.json")
    found = {row.name: {run.config["assigner"]["scheme"] for run in row.runs} for row in table.rows[:4]}
    assert found["scheme_a"] == {"a"}
    assert found["scheme_b"] <= {"b_between_peaks"}
    assert found["scheme_d"] <= {"b", "d_rest_of_low"}


def test_scores_are_costs_mirrored():
    costs = made_up().costs
    fit = fitted(costs)
    assert fit.means[0] > fit.means[1]  # the positive component first: the higher scores
    assert fit.weights.sum() == pytest.approx(1)
    assert fit.means[0] == pytest.approx(-costs[:10].mean(), abs=0.1)
    assert fit.variances[1] == pytest.approx(costs[10:].var(), rel=0.5)


@pytest.mark.slow
def test_a_run_gives_figures_1_and_3_a_real_object(detlab, tiny):
    done = detlab(
        "train", *tiny, "detector=single_anchor", "assigner=paa", "loss=paa", "detector.head.quality=iou",
        "logger=csv", "report=false", f"run_dir=runs/{PAA}/mini/seed=0",
    )  # fmt: skip
    assert done.status == 0, done.err
    runs = Runs(Path("runs"), "mini")
    left, *_ = FIGURES["figure1"](runs).picture().axes
    assert left.images
    drawing = FIGURES["figure3"](runs)
    assert drawing.from_runs
    assert drawing.caption.startswith("Picture ")
    first, second = FIGURES["figure1"](runs), FIGURES["figure1"](runs)
    assert first.csv() == second.csv()
    assert 1 <= len(rows(first)) == len(rows(drawing)) / 4


def test_a_run_without_checkpoints_gives_what_it_recorded(make_run, tmp_path):
    keep(make_run(PAA), ["7", "9"])
    drawing = FIGURES["figure1"](Runs(tmp_path / "runs", "mini"))
    assert drawing.from_runs
    assert drawing.caption.startswith("Picture 7, the object with the most candidates, as ")
    assert "after 1,250 iterations" in drawing.caption
    assert [float(row["score"]) for row in rows(drawing)] == pytest.approx((-snapshot(3).cost[:4]).tolist(), abs=1e-5)
    make_run(PAA, setting="bare")
    with pytest.raises(UserError, match="kept no assignments; train it again"):
        FIGURES["figure1"](Runs(tmp_path / "runs", "bare"))


def test_without_any_cost_there_is_nothing_to_show(tmp_path):
    unknown = snapshot(2)._replace(cost=np.full(8, np.nan))
    for snapshots in ([], [unknown]):
        with pytest.raises(UserError, match="no anchor has a cost"):
            fullest(snapshots, tmp_path)
    assert fullest([unknown, snapshot(2)], tmp_path)[0] == 1
