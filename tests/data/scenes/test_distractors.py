"""Things of no class, labelled: the same pictures, one class more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detlab.data.scenes import CLASSES, ScenesSource
from detlab.data.scenes.placement import NO_CLASS

MANY: dict[str, Any] = {
    "train": 12, "val": 1, "test": 1, "size": 48, "distractors": (3, 6), "occlusion": 0.9, "objects": (3, 8)
}  # fmt: skip


def test_pictures_and_objects_are_the_same_bit_for_bit() -> None:
    plain, labelled = ScenesSource(**MANY), ScenesSource(**MANY, label_distractors=True)
    more = 0
    for number in range(12):
        without, having = plain.draw("train", number), labelled.draw("train", number)
        assert without.image.tobytes() == having.image.tobytes()
        objects = having.labels < len(CLASSES)
        assert np.array_equal(having.boxes[objects], without.boxes)
        assert np.array_equal(having.labels[objects], without.labels)
        assert np.array_equal(having.areas[objects], without.areas)
        assert (having.labels[~objects] == len(CLASSES)).all()
        assert (having.areas[~objects] >= 1).all()
        more += int((~objects).sum())
    assert more > 12


def test_hidden_ones_stay_out() -> None:
    """What is labelled is exactly what is left to see, of distractors with as much of it as of objects."""
    from detlab.data.scenes.placement import Placed

    placed = Placed(48, min_visible=0.4)
    placed.labels, placed.boxes = [NO_CLASS, 3, NO_CLASS, NO_CLASS], [np.array([0, 0, 9, 9]) + i for i in range(4)]
    placed.full, placed.seen = [100, 100, 100, 10], [39, 40, 40, 0]
    boxes, labels, areas = placed.annotations(12)
    assert labels.tolist() == [3, 12]
    assert boxes[:, 0].tolist() == [1, 2]
    assert areas.tolist() == [40, 40]
    assert placed.annotations()[1].tolist() == [3]


def test_the_cache_has_a_folder_of_its_own(tmp_path: Path) -> None:
    plain = ScenesSource(**MANY, cache_dir=str(tmp_path))
    labelled = ScenesSource(**MANY, cache_dir=str(tmp_path), label_distractors=True)
    without, _ = plain.load("train")
    having, problems = labelled.load("train")
    assert len(list(tmp_path.iterdir())) == 2
    assert problems == []
    assert without.classes == CLASSES
    assert having.classes == (*CLASSES, "distractor")
    assert len(having.boxes) > len(without.boxes)
    assert Path(having.paths[0]).read_bytes() == Path(without.paths[0]).read_bytes()


def test_older_caches_keep_their_names(tmp_path: Path) -> None:
    assert ScenesSource(cache_dir=str(tmp_path))._folder("train").name == "train-2000x128px-bf04eb1f69cd"
