"""The same pictures given in three formats, with and without splits of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detlab.data.formats.coco import to_coco
from detlab.data.formats.yolo_txt import write_yolo
from detlab.data.index import AnnotationIndex
from detlab.data.sources.custom import CustomSource
from detlab.errors import UserError


@pytest.fixture
def index(tmp_path: Path) -> AnnotationIndex:
    folder = tmp_path / "JPEGImages"
    folder.mkdir()
    for number in range(20):
        Image.new("RGB", (50, 40)).save(folder / f"{number:02d}.jpg")
    owners = np.repeat(np.arange(20), 2)
    return AnnotationIndex.build(
        ["ant", "bee"],
        paths=[str(folder / f"{number:02d}.jpg") for number in range(20)],
        widths=[50] * 20,
        heights=[40] * 20,
        box_images=owners,
        boxes=[[b % 7, b % 5, 20 + b % 7, 30] for b in range(40)],
        labels=[0, 1] * 20,
    )


def as_voc(index: AnnotationIndex, root: Path, lists: dict[str, range]) -> dict[str, Any]:
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for row, path in enumerate(index.paths):
        objects = ""
        for box in range(*index.boxes_of(row).indices(len(index.boxes))):
            x1, y1, x2, y2 = index.boxes[box]
            corners = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            objects += f"<object><name>{index.classes[index.labels[box]]}</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>50</width><height>40</height></size>"
        file = root / "Annotations" / f"{Path(path).stem}.xml"
        file.write_text(f"<annotation>{size}{objects}</annotation>")
    for name, rows in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(f"{row:02d}" for row in rows))
    return {"format": "voc", "root": str(root), "split": "trainval"}


def as_coco(index: AnnotationIndex, root: Path) -> dict[str, Any]:
    (root / "all.json").write_text(json.dumps(to_coco(index, root / "JPEGImages")))
    return {"format": "coco", "images": str(root / "JPEGImages"), "annotations": str(root / "all.json")}


def stems(source: CustomSource, split: Any) -> list[str]:
    return [Path(path).stem for path in source.load(split)[0].paths]


def test_without_a_val_split_a_share_is_held_out_alike_in_every_format(tmp_path: Path, index: AnnotationIndex) -> None:
    given = [
        as_voc(index, tmp_path, {"trainval": range(20)}),
        as_coco(index, tmp_path),
        {"format": "yolo", "yaml": str(write_yolo(index, tmp_path / "yolo"))},
    ]
    seen = []
    for arguments in given:
        source = CustomSource(**arguments, val_fraction=0.25, seed=3)
        train, val, test = (stems(source, split) for split in ("train", "val", "test"))
        assert (len(train), len(val)) == (15, 5)
        assert sorted(train + val) == [f"{number:02d}" for number in range(20)]
        assert test == val
        seen.append(val)
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] != stems(CustomSource(**given[1], val_fraction=0.25, seed=4), "val")


def test_nothing_is_held_out_where_that_was_asked_for(tmp_path: Path, index: AnnotationIndex) -> None:
    source = CustomSource(**as_coco(index, tmp_path), val_fraction=0)
    everything = [f"{number:02d}" for number in range(20)]
    assert [stems(source, split) for split in ("train", "val", "test")] == [everything] * 3


def test_splits_that_are_given_are_used_whole(tmp_path: Path, index: AnnotationIndex) -> None:
    lists = {"trainval": range(12), "dev": range(12, 15), "held": range(15, 20)}
    voc = as_voc(index, tmp_path, lists) | {"val_split": "dev", "test_split": "held"}
    files = {name: tmp_path / f"{name}.json" for name in lists}
    for name, rows in lists.items():
        files[name].write_text(json.dumps(to_coco(index.select(list(rows)), tmp_path / "JPEGImages")))
    coco = as_coco(index, tmp_path) | {
        "annotations": str(files["trainval"]),
        "val_annotations": str(files["dev"]),
        "test_annotations": str(files["held"]),
    }
    for split, name in (("train", "trainval"), ("val", "dev"), ("test", "held")):
        write_yolo(index.select(list(lists[name])), tmp_path / "yolo", split=split)
    for arguments in (voc, coco, {"format": "yolo", "yaml": str(tmp_path / "yolo" / "data.yaml")}):
        source = CustomSource(**arguments)
        for split, name in (("train", "trainval"), ("val", "dev"), ("test", "held")):
            assert stems(source, split) == [f"{row:02d}" for row in lists[name]]


def test_labels_of_other_splits_follow_the_training_file(tmp_path: Path, index: AnnotationIndex) -> None:
    arguments = as_coco(index, tmp_path)
    other = to_coco(index.select([4]), tmp_path / "JPEGImages")
    other["categories"] = [{"id": 1, "name": "bee"}]
    other["annotations"] = [a | {"category_id": 1} for a in other["annotations"][:1]]
    (tmp_path / "val.json").write_text(json.dumps(other))
    val, problems = CustomSource(**arguments, val_annotations=str(tmp_path / "val.json")).load("val")
    assert not problems
    assert val.classes == ("ant", "bee")
    assert val.labels.tolist() == [1]


def test_problems_follow_their_images_into_the_parts(tmp_path: Path, index: AnnotationIndex) -> None:
    arguments = as_coco(index, tmp_path)
    document = json.loads((tmp_path / "all.json").read_text())
    for annotation in document["annotations"][::2]:
        annotation["category_id"] = 77
    document["annotations"].append(document["annotations"][1] | {"image_id": 999, "id": 999})
    (tmp_path / "all.json").write_text(json.dumps(document))
    source = CustomSource(**arguments, val_fraction=0.3)
    train, train_problems = source.load("train")
    val, val_problems = source.load("val")
    assert sorted(p.image for p in train_problems if p.image is not None) == list(range(len(train)))
    assert sorted(p.image for p in val_problems if p.image is not None) == list(range(len(val)))
    for part, problems in ((train, train_problems), (val, val_problems)):
        for problem in problems:
            if problem.image is not None:
                number = 2 * int(Path(part.paths[problem.image]).stem) + 1
                assert problem.record == f"annotation {number}"
    assert [p.record for p in train_problems if p.image is None] == ["annotation 999"]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"format": "coco"}, r"data\.format=coco needs data\.images"),
        ({"format": "coco", "images": "x"}, r"data\.format=coco needs data\.annotations"),
        ({"format": "voc", "split": "x"}, r"data\.format=voc needs data\.root"),
        ({"format": "voc", "root": "x"}, r"data\.format=voc needs data\.split"),
        ({"format": "yolo", "root": "x"}, r"data\.format=yolo needs data\.yaml"),
    ],
)
def test_a_missing_key_is_named(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=key):
        CustomSource(**arguments)


def test_missing_folders_and_wrong_values_are_named(tmp_path: Path, index: AnnotationIndex) -> None:
    arguments = as_coco(index, tmp_path)
    with pytest.raises(UserError, match=r"no such folder of pictures; set data\.images"):
        CustomSource(**(arguments | {"images": str(tmp_path / "x")})).load("train")
    with pytest.raises(ValueError, match=r"val_fraction between 0 and 1, got 1\.5"):
        CustomSource(**arguments, val_fraction=1.5)
    with pytest.raises(ValueError, match="voc, coco, yolo or images, got 'kitti'"):
        CustomSource(format="kitti")  # type: ignore[arg-type]
