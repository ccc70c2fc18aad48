"""`detlab anchors`: shapes found again, and what is said to bad input."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from detlab.commands.anchors import anchors, check
from detlab.config.launch import CONFIG_DIR

TOY = ["scale=mini", "data.train=40", "data.val=2", "data.test=2", "data.size=64", "data.objects=[1,3]", "repeats=3"]


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("anchors", list(overrides))


@pytest.mark.slow
def test_on_a_data_set_as_the_training_resizes_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = anchors(composed(*TOY))
    double = anchors(composed(*TOY, "resize=fixed", "resize.size=[64,128]"))  # twice as wide
    assert plain.levels == [3, 4, 5]
    assert [len(level) for level in plain.shapes] == [3, 3, 3]
    assert plain.boxes != double.boxes or plain.shapes != double.shapes
    wide = [w / h for level in double.shapes for w, h in level]
    assert 1.4 < np.median(wide) / np.median([w / h for level in plain.shapes for w, h in level]) < 2.8
    areas = [w * h for level in plain.shapes for w, h in level]
    assert areas == sorted(areas)
    assert plain.iou > 0.7
    assert 0.9 < plain.matched <= 1
    assert plain.iou_now < plain.iou  # of 128 pixels' scenes

    text = "[" + ",".join("[" + ",".join(f"[{w},{h}]" for w, h in level) + "]" for level in plain.shapes) + "]"
    again = anchors(composed(*TOY, f"detector.anchors.shapes={text}", "detector.anchors.shrink=1.0"))
    assert again.iou_now == plain.iou
    assert again.matched_now == plain.matched


@pytest.mark.slow
def test_on_the_command_line(detlab) -> None:
    answer = detlab("anchors", *TOY, "detector.fpn.levels=[4,5]", "per_level=2")
    assert answer.status == 0, answer.err
    shapes = re.search(r"Use: (detector\.anchors\.shapes=\[\S+\]) (detector\.anchors\.shrink=1\.0)", answer.out)
    assert shapes is not None
    assert not Path("runs").exists()
    check(composed("detector.fpn.levels=[4,5]", shapes[1], shapes[2]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=retinanet"], "take method=yolo or detector=yolo"),
        (["per_level=0"], "per_level=0"),
        (["repeats=0"], "repeats=0"),
        (["per_level=400"], "too few different sizes for 1200 anchors"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(detlab, overrides: list[str], message: str) -> None:
    answer = detlab("anchors", *TOY, *overrides)
    assert answer.status == 1
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.strip().splitlines()) == 1
