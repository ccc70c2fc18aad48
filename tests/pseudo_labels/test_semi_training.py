"""Teacher and student in one command, as a user would type it, on twelve long-tailed scenes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from detlab.engine.callbacks.checkpoints import load_checkpoint

SEMI = [
    "data=scenes_semi", "data.source.train=12", "data.source.val=4", "data.source.test=4", "data.source.size=64",
    "data.source.cache_dir=scenes", "data.labeled_fraction=0.5", "pseudo=teacher", "pseudo.tau=0.001",
    "pseudo.gamma1=0", "pseudo.foreground=0", "postprocess.score_threshold=0", "logger=csv", "run_dir=run",
    "report=false",
]  # fmt: skip


def columns(folder: Path) -> dict[str, list[float]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["retinanet", "dense_intervals", "faster_rcnn"])
def test_both_stages(detlab, toy, tmp_path, method):
    small = [word for word in toy if method != "faster_rcnn" or ("head." not in word and "fpn.levels" not in word)]
    chosen = ["localization=dense_intervals"] if method == "dense_intervals" else [f"method={method}"]
    result = detlab("train", *chosen, *SEMI, *small)
    assert result.status == 0, result.err
    assert "Stage one: the teacher, in run/teacher." in result.out
    assert "Stage two: the student." in result.out
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run/teacher", "run"))
    assert first["status"] == second["status"] == "finished"
    assert second["learned_from"].keys() == {"run/teacher"}
    history = columns(tmp_path / "run")
    assert max(history["train/pseudo_boxes_per_image"]) > 0
    assert history["pseudo/threshold/car"] == pytest.approx([0.001] * 2)
    assert all(weight > 0 for weight in history["pseudo/weight/car"])
    assert len(history["pseudo/recall"]) == 2
    assert "train/pseudo_boxes_per_image" not in columns(tmp_path / "run/teacher")

    # Finished, both are skipped; a lost student begins with the same teacher and ends as before.
    again = detlab("train", *chosen, *SEMI, *small)
    assert again.out.count("is finished already") == 2
    shutil.move("run", "before")
    shutil.copytree("before/teacher", "run/teacher")
    assert detlab("train", *chosen, *SEMI, *small).status == 0
    assert json.loads(Path("run/metrics.json").read_text())["test"] == second["test"]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 4, 6])
@pytest.mark.parametrize("kind", ["fixed", "ema"])
def test_cut_off_in_the_first_stage_between_and_in_the_second_it_ends_as_it_would(
    detlab, toy, tmp_path, power_cut, kind, stop
):
    """Each stage has four iterations. Weights of the student, of its teacher and the sums of Eq. 6 are compared."""
    words = [word for word in [*SEMI, *toy] if not word.startswith("run_dir")]
    words += [f"pseudo.kind={kind}", "pseudo.momentum=0.5", "save_every=1", "schedule.val_every=4", "pseudo.gamma2=0.6"]
    uncut = detlab("train", *words, "run_dir=whole")
    assert uncut.status == 0, uncut.err
    with power_cut(stop), pytest.raises(RuntimeError, match="power cut"):
        detlab("train", *words, "run_dir=parts")
    assert (tmp_path / "parts/teacher/metrics.json").is_file() == (stop >= 4)
    resumed = detlab("train", *words, "run_dir=parts")
    assert resumed.status == 0, resumed.err
    assert ("Going on from" in resumed.out) == (stop != 4)
    for run in ("", "teacher/"):
        whole, parts = (load_checkpoint(f"{name}/{run}checkpoints/last.ckpt") for name in ("whole", "parts"))
        for key, value in whole["state_dict"].items():
            assert torch.equal(value, parts["state_dict"][key]), key
    whole, parts = (
        load_checkpoint(f"{name}/checkpoints/last.ckpt")["callbacks"]["pseudo_labels"] for name in ("whole", "parts")
    )
    assert ("teacher" in whole) == (kind == "ema")
    for part, values in whole.items():
        for key, value in values.items():
            assert torch.equal(value, parts[part][key]), key
    assert Path("whole/predictions.json").read_text() == Path("parts/predictions.json").read_text()


@pytest.mark.slow
def test_a_student_of_another_kind_than_its_teacher_is_refused(detlab, toy):
    assert detlab("train", *SEMI, *toy).status == 0
    other = [word for word in SEMI if not word.startswith("run_dir")]
    refused = detlab("train", *other, *toy, "run_dir=other", "pseudo.teacher=run/teacher", "method=atss")
    assert refused.status == 1
    assert "pseudo.teacher=run/teacher is another detector than the one to be trained" in refused.err
    assert not Path("other").exists()
    missing = detlab("train", *other, *toy, "run_dir=other", "pseudo.teacher=runs/none")
    assert missing.err == (
        "detlab: pseudo.teacher=runs/none: there is no such run; train it, before others learn from its detector.\n"
    )
