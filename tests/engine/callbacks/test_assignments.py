from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detlab.data.index import AnnotationIndex
from detlab.engine.callbacks.assignments import Assignments, spread
from detlab.engine.callbacks.snapshots import read_snapshots
from detlab.errors import UserError

PAA = ["detector=single_anchor", "assigner=paa", "loss=paa", "detector.head.quality=iou"]
RUN = ["logger=csv", "report=false"]
WATCHED = ["callbacks=assignments", "callbacks.assignments.count=2", "callbacks.assignments.pictures=2"]


def test_moments_are_closer_to_each_other_at_the_start_and_end_with_training():
    assert sorted(spread(1000, 5)) == [40, 160, 360, 640, 1000]
    assert sorted(spread(3, 5)) == [1, 2, 3]
    assert spread(7, 1) == {7}


@pytest.mark.slow
def test_training_is_the_same_with_and_without(detlab, tiny):
    """Metrics, history, weights and the optimiser, bit for bit. (Norms with statistics: see the snapshots.)"""
    for name, extra in (("alone", []), ("watched", WATCHED)):
        done = detlab("train", *tiny, *PAA, *RUN, *extra, f"run_dir={name}")
        assert done.status == 0, done.err
    alone, watched = (torch.load(f"{name}/checkpoints/last.ckpt") for name in ("alone", "watched"))
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(alone[part], watched[part], rtol=0, atol=0)
    assert Path("alone/metrics.csv").read_text() == Path("watched/metrics.csv").read_text()
    results = [json.loads(Path(f"{name}/metrics.json").read_text()) for name in ("alone", "watched")]
    for stage in ("val", "test"):
        assert results[0][stage] == results[1][stage]
    folder = Path("watched/figures/assignments")
    assert sorted(file.name for file in folder.iterdir()) == ["0.png", "0000001.json", "0000004.json", "1.png"]
    iteration, total, pictures = read_snapshots(folder / "0000004.json")
    assert (iteration, total, list(pictures)) == (4, 4, ["0", "1"])
    for name, one in pictures.items():
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.size == (64, 64)
        assert len(one.objects) == 2
        assert one.objects.max() <= 64
        assert set(one.of[one.state == 1].tolist()) == {0, 1}
    assert not list(Path("alone").glob("figures/assignments"))


class Data:
    """A data module's share in it: an index of five pictures with 0, 7, 2, 1 and, but for a crowd, 1 objects."""

    def __init__(self, folder: Path) -> None:
        self.mean, self.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        owners = [1] * 7 + [2, 2, 3, 4, 4]
        paths = [str(folder / f"{number}.png") for number in range(5)]
        for path in paths:
            Image.new("RGB", (20, 10)).save(path)
        self._index = AnnotationIndex.build(
            ["cat", "dog"], paths=paths, widths=[20] * 5, heights=[10] * 5, ids=[10, 11, 12, 13, 14],
            box_images=owners, boxes=[[1, 2, 8, 9]] * 12, labels=[0] * 12, ignore=[False] * 11 + [True],
        )  # fmt: skip

    def index(self, split: str) -> AnnotationIndex:
        assert split == "val"
        return self._index

    def eval_transform(self, image: Any, boxes: Any, seed: int) -> Any:  # noqa: ARG002
        return image, boxes, np.arange(len(boxes))


@pytest.fixture
def begin(tmp_path):
    """Begins a training with the callback, and gives the names of the pictures that it will look at."""

    def start(callback: Assignments, global_step: int = 0, leads: bool = True) -> list[str]:
        trainer = SimpleNamespace(
            is_global_zero=leads, default_root_dir=str(tmp_path / "run"), max_steps=100, global_step=global_step,
            datamodule=Data(tmp_path),
        )  # fmt: skip
        callback.on_train_start(trainer, SimpleNamespace(classes=["cat", "dog"]))
        return list(callback._samples)

    return start


def test_pictures_are_the_first_with_one_to_six_objects_or_those_named(begin):
    assert begin(Assignments(pictures=2)) == ["12", "13"]
    assert begin(Assignments(pictures=9)) == ["12", "13", "14"]
    assert begin(Assignments(pictures=[14, 10])) == ["14", "10"]
    assert begin(Assignments(pictures=0)) == []


def test_a_picture_of_ones_own(begin, tmp_path):
    Image.new("RGB", (30, 40), "red").save(tmp_path / "mine.jpg")
    callback = Assignments(pictures=1, own_picture=str(tmp_path / "mine.jpg"), own_boxes=[[1, 2, 29, 39]],
                           own_labels=["dog"])  # fmt: skip
    assert begin(callback) == ["12", "own"]
    sample = callback._samples["own"]
    assert (sample.image.shape, sample.targets.labels.tolist()) == ((3, 40, 30), [1])
    assert sample.targets.boxes.tolist() == [[1, 2, 29, 39]]
    with Image.open(tmp_path / "run/figures/assignments/own.png") as picture:
        assert picture.size == (30, 40)


def test_only_one_process_looks(begin, tmp_path):
    assert begin(Assignments(), leads=False) == []
    assert not (tmp_path / "run").exists()


def test_what_lies_beyond_the_checkpoint_is_forgotten(begin, tmp_path):
    folder = tmp_path / "run/figures/assignments"
    folder.mkdir(parents=True)
    for iteration in (10, 20, 21):
        (folder / f"{iteration:07d}.json").write_text("{}")
    begin(Assignments(), global_step=20)
    assert sorted(file.name for file in folder.glob("*.json")) == ["0000010.json", "0000020.json"]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ({"pictures": [15]}, "val has no picture with the id 15"),
        ({"own_picture": "none.png", "own_boxes": [[0, 0, 1, 1]], "own_labels": ["cta"]}, "did you mean 'cat'"),
        ({"own_picture": "none.png", "own_boxes": [[0, 0, 1, 1]], "own_labels": ["cat"]}, "none.png"),
    ],
)
def test_pictures_and_classes_that_do_not_exist(begin, arguments, answer):
    with pytest.raises(UserError, match=answer):
        begin(Assignments(**arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 0},
        {"pictures": -1},
        {"iterations": [0, 5]},
        {"split": "test"},
        {"own_picture": "a.png"},
        {"own_boxes": [[0, 0, 1, 1]], "own_labels": ["cat"]},
        {"own_picture": "a.png", "own_boxes": [[0, 0, 1, 1]]},
        {"own_picture": "a.png", "own_boxes": [[0, 0, 1]], "own_labels": ["cat"]},
    ],
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match="Expected"):
        Assignments(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "answer"),
    [
        ("count=0", "callbacks: Expected count >= 1 and pictures >= 0, got 0 and 3."),
        ("own_picture=x.png", "callbacks: Expected own_picture and own_boxes together, got one of them."),
    ],
)
def test_bad_arguments_are_answered_in_a_sentence_before_data_is_read(detlab, tiny, bad, answer):
    done = detlab("train", *tiny, *RUN, "callbacks=assignments", f"callbacks.assignments.{bad}", "data.root=nowhere")
    assert done.status == 1
    assert answer in done.err
    assert "Traceback" not in done.err
