"""`detlab draw`: the figures of a paper, and one sentence for each that lacks its runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


def test_what_needs_no_runs_is_drawn_and_the_rest_is_named(detlab):
    done = detlab("draw", "iou_balanced")
    assert done.status == 1
    said = done.out + done.err
    for figure, row in (("figure2", "cls"), ("figure3", "loc")):
        assert (
            f"{figure} cannot be drawn: no finished run of iou_balanced/table2/baseline, iou_balanced/table2/{row} at "
            f"mini in runs; make them with 'detlab train -m experiment=iou_balanced/table2/baseline,"
            f"iou_balanced/table2/{row} seed=0,1,2'."
        ) in said
    assert "Traceback" not in said
    assert sorted(path.name for path in Path("runs/iou_balanced").iterdir()) == ["figure1.csv", "figure1.png"]
    with Image.open("runs/iou_balanced/figure1.png") as picture:
        assert picture.width > 600
    header, first, *_ = Path("runs/iou_balanced/figure1.csv").read_text().splitlines()
    assert header == "panel,series,x,y,low,high"
    assert first.startswith('"centre, Eq. 11",λ = 0,0,')


def test_one_figure_into_a_folder_of_ones_own(detlab):
    done = detlab("draw", "source=iou_balanced", "only=figure1", "output=mine")
    assert done.status == 0, done.err
    written = {path.name for path in Path("mine").iterdir()}
    assert written == {"iou_balanced-figure1.csv", "iou_balanced-figure1.png"}


def test_figures_of_runs_are_named_by_the_setting(detlab, tmp_path):
    for row in ("ce", "focal", "alrp"):
        folder = tmp_path / f"runs/alrp/figure4/{row}/my_data/seed=0"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("seed: 0\n")
        (folder / "metrics.json").write_text('{"status": "finished"}')
        (folder / "metrics.csv").write_text("step,train/gradient_ratio,train/loss_classification\n9,2,3\n19,1,2\n")
    done = detlab("draw", "alrp", "only=[figure4]", "setting=my_data")
    assert done.status == 0, done.err
    assert (tmp_path / "runs/alrp/figure4-my_data.png").is_file()
    rows = (tmp_path / "runs/alrp/figure4-my_data.csv").read_text().splitlines()
    assert rows[1] == "Gradients: negatives / positives,cross-entropy,9,2,2,2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["iou_balance"], "There are no figures of 'iou_balance' (did you mean 'iou_balanced'?)."),
        (["alrp", "only=figure5"], "alrp has no figure 'figure5' (did you mean 'figure4'"),
        (["alrp", "output=x", "record=true"], "record=true writes to experiments/<paper>/results"),
        (["alrp", "only=3"], "only=3: "),
        ([], "source has no value"),
        (["alrp", "settings=mini"], "There is no key 'settings' in the config (did you mean 'setting'"),
    ],
)
def test_bad_input_is_answered_before_anything_is_drawn(detlab, tmp_path, arguments, answer):
    done = detlab("draw", *arguments)
    assert done.status == 1
    assert answer in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []
