"""`detlab draw paa`, and what `callbacks=assignments` does to a run's identity: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detlab.engine.run_folder import identity
from experiments.paa.figure_runs import PAA


@pytest.mark.slow
def test_without_runs_the_two_made_up_figures_are_drawn_and_the_rest_is_named(detlab):
    done = detlab("draw", "paa")
    assert done.status == 1
    said = done.out + done.err
    for figure in ("figure4a", "figure4b", "figure6", "figure7"):
        assert f"{figure} cannot be drawn: no finished run of" in said
    assert "Traceback" not in said
    folder = Path("runs/paa")
    assert sorted(file.name for file in folder.iterdir()) == [
        f"figure{n}.{kind}" for n in (1, 3) for kind in ("csv", "png")
    ]
    with Image.open(folder / "figure3.png") as picture:
        assert picture.width > 600


@pytest.mark.slow
def test_all_of_a_watched_run_are_drawn(detlab, tiny, tmp_path):
    Image.new("RGB", (90, 60), "red").save("mine.png")
    own = ["callbacks.assignments.own_picture=mine.png", "callbacks.assignments.own_boxes=[[10,10,50,50]]",
           "callbacks.assignments.own_labels=[red]"]  # fmt: skip
    parts = ["detector=single_anchor", "assigner=paa", "loss=paa", "detector.head.quality=iou"]
    run = [*tiny, *parts, "logger=csv", "report=false", "callbacks=assignments", f"run_dir=runs/{PAA}/mini/seed=0"]
    assert detlab("train", *run, *own).status == 0
    done = detlab("draw", "paa", "only=[figure1,figure3,figure4a,figure6,figure7]")
    assert done.status == 0, done.err
    assert len(list((tmp_path / "runs/paa").glob("figure*-mini.png"))) == 5
    assert len(list((tmp_path / "runs/paa").glob("figure*-mini.csv"))) == 5
    again = detlab("train", *run)  # without the picture of one's own: the same run
    assert again.status == 0
    assert "is finished already" in again.out + again.err


def test_what_is_watched_is_not_part_of_a_runs_identity():
    plain = {"seed": 0, "callbacks": {"progress": {}}}
    assert identity(plain) == identity({"seed": 0, "callbacks": {"progress": {}, "assignments": {"count": 3}}})
