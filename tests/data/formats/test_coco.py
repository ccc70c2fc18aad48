"""Instances files written by hand, and one beside pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detlab.data.checks.problems import ABSENT
from detlab.data.formats.coco import CocoSource, read_coco, to_coco
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "cow"}]


def image(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80} | more


def box(number: int, owner: int = 1, category: int | str = 3, **more: Any) -> dict[str, Any]:
    found = {"id": number, "image_id": owner, "category_id": category, "bbox": [1, 2, 3.5, 4], "iscrowd": 0}
    return found | more


def write(path: Path, images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"images": images, "annotations": annotations, "categories": categories or CATEGORIES}
    path.write_text(json.dumps(document))
    return path


def test_fields_are_converted_and_ids_kept(tmp_path: Path) -> None:
    annotations = [
        box(1, 20, 90, area=5.5, segmentation=[[1, 2, 3, 4, 5, 6]]),
        box(2, 10, 7, iscrowd=1, segmentation={"counts": [1, 2], "size": [80, 100]}),
        box(3, 20, 3),
    ]
    file = write(tmp_path / "a.json", [image(20), image(10), image(30, file_name="/abs/x.png")], annotations)
    index, problems = read_coco(tmp_path / "pictures", file)
    assert not problems
    assert index.classes == ("cat", "dog", "cow")
    assert index.class_ids.tolist() == [3, 7, 90]
    assert index.ids.tolist() == [20, 10, 30]
    assert index.paths.tolist() == [f"{tmp_path}/pictures/20.jpg", f"{tmp_path}/pictures/10.jpg", "/abs/x.png"]
    assert index.counts.tolist() == [2, 1, 0]
    assert index.boxes.tolist() == [[1, 2, 4.5, 6]] * 3
    assert index.labels.tolist() == [2, 0, 1]
    assert index.ignore.tolist() == [False, False, True]
    assert index.areas.tolist() == [5.5, 14, 14]


def test_every_bad_record_costs_that_record_alone(tmp_path: Path) -> None:
    images = [image(1), image(2, width="wide"), image(1), image(4, width=0, file_name="gone.jpg"), "x"]
    annotations = [
        box(10),
        box(11, bbox=[1, 2, 3]),
        box(12, owner=99),
        box(13, category=5),
        box(14, owner=2),
        box(15, owner=4),
        {"id": 16, "image_id": 1, "category_id": 3},
        box(17, bbox=[1, 2, 3, float("nan")]),
        box(18, area=None),
        box(19, owner=2**70),
        box(10, category=7),
        7,
    ]
    categories = [*CATEGORIES, {"id": 3, "name": "pig"}, {"id": 4, "name": "dog"}, {"id": 6}]
    index, problems = read_coco(tmp_path, write(tmp_path / "a.json", images, annotations, categories))
    told = {p.record: (p.kind, p.image, p.box) for p in problems}
    assert told == {
        "image 2": ("malformed record", None, None),
        "image 1": ("duplicate image", None, None),
        "image 4": ("unknown image size", None, None),
        "images[4]": ("malformed record", None, None),
        "annotation 11": ("malformed record", 0, ABSENT),
        "annotation 12": ("unknown image", None, None),
        "annotation 13": ("unknown class", 0, ABSENT),
        "annotation 14": ("unknown image", None, None),
        "annotation 15": ("unknown image", None, None),
        "annotation 16": ("malformed record", 0, ABSENT),
        "annotation 19": ("malformed record", None, None),
        "annotation 10": ("duplicate annotation id", None, None),
        "annotations[11]": ("malformed record", None, None),
        "category 3 (pig)": ("duplicate class", None, None),
        "category 4 (dog)": ("duplicate class", None, None),
        "category 6": ("malformed record", None, None),
    }
    assert index.classes == ("cat", "dog", "cow")
    assert len(index) == 1
    assert len(index.boxes) == 4
    assert np.isnan(index.boxes).any(1).tolist() == [False, True, False, False]


def test_numbers_in_other_clothes_are_taken(tmp_path: Path) -> None:
    images = [image(1, width=100.0, height="80")]
    index, problems = read_coco(tmp_path, write(tmp_path / "a.json", images, [box(1, category="3")]))
    assert not problems
    assert (len(index), len(index.boxes), index.widths[0], index.heights[0]) == (1, 1, 100, 80)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the annotation file is empty"),
        ('{\n"images": [],\n}', "line 3, column 1: malformed JSON"),
        ('{"images": [', "line 1, column 13: malformed JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "expected a JSON object"),
        ('{"images": [], "annotations": 3}', "expected a list under 'annotations', got int"),
        ('{"images": [], "annotations": [], "categories": []}', "no categories"),
    ],
)
def test_a_file_that_is_no_instances_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_coco(tmp_path, tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(caught.value)


def test_bytes_that_are_no_text_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"images":\n "\xff\xfe"}')
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        read_coco(tmp_path, tmp_path / "a.json")
    with pytest.raises(UserError, match="no such annotation file"):
        read_coco(tmp_path, tmp_path / "b.json")
    with pytest.raises(UserError, match="cannot read this annotation file"):
        read_coco(tmp_path, tmp_path)


def test_given_classes_set_the_order_and_others_are_problems(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [image(1)], [box(1, category=7), box(2, category=90)])
    index, problems = read_coco(tmp_path, file, classes=["dog", "cat", "cows"])
    assert index.labels.tolist() == [0]
    assert [p.record for p in problems] == ["annotation 2"]
    assert "unknown class 'cow' (did you mean 'cows'?)" in problems[0].message
    assert index.class_ids[:2].tolist() == [7, 3]
    assert len(set(index.class_ids.tolist())) == 3


def test_the_layout_of_2017_with_labels_as_in_training(tmp_path: Path) -> None:
    write(tmp_path / "annotations/instances_train2017.json", [image(1)], [box(1)])
    swapped = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    write(tmp_path / "annotations/instances_val2017.json", [image(5)], [box(1, 5, 1)], swapped)
    (tmp_path / "train2017").mkdir()
    (tmp_path / "images" / "val2017").mkdir(parents=True)
    source = CocoSource(str(tmp_path), name="mine")
    val, problems = source.load("val")
    assert not problems
    assert val.classes == ("cat", "dog", "cow")
    assert [val.classes[label] for label in val.labels] == ["dog"]
    assert val.paths.tolist() == [str(tmp_path / "images/val2017/5.jpg")]
    assert source.load("test")[0].ids.tolist() == [5]
    train, _ = CocoSource(str(tmp_path), name="mine").load("train")
    assert train.source_names == ("mine",)
    assert train.paths.tolist() == [str(tmp_path / "train2017/1.jpg")]
    with pytest.raises(UserError, match="no such folder"):
        CocoSource(str(tmp_path / "x")).load("train")


def test_sizes_left_out_come_from_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (31, 17)).save(tmp_path / "1.jpg")
    file = write(tmp_path / "a.json", [{"id": 1, "file_name": "1.jpg"}], [])
    index, problems = read_coco(tmp_path, file)
    assert not problems
    assert (index.widths[0], index.heights[0]) == (31, 17)


def random_index(seed: int = 0) -> AnnotationIndex:
    rng = np.random.default_rng(seed)
    low = rng.random((300, 2)) * 300
    return AnnotationIndex.build(
        ["a", "b", "c"],
        paths=[f"pictures/{i}.jpg" for i in range(40)],
        widths=rng.integers(400, 700, 40),
        heights=rng.integers(400, 700, 40),
        ids=rng.permutation(1000)[:40],
        box_images=rng.integers(0, 40, 300),
        boxes=np.concatenate([low, low + rng.random((300, 2)) * 99], 1),
        labels=rng.integers(0, 3, 300),
        ignore=rng.random(300) < 0.1,
        areas=rng.random(300) * 1000,
        class_ids=[4, 9, 17],
        source_names=["coco"],
    )


@pytest.mark.parametrize("images", [None, "pictures"])
def test_written_and_read_again_every_column_is_equal(tmp_path: Path, images: str | None) -> None:
    index = random_index()
    (tmp_path / "a.json").write_text(json.dumps(to_coco(index, images)))
    again, problems = read_coco(images or "", tmp_path / "a.json")
    assert not problems
    for name, column in vars(index).items():
        np.testing.assert_array_equal(getattr(again, name), column, err_msg=name)


def test_pycocotools_reads_the_same(tmp_path: Path) -> None:
    index = random_index(1)
    (tmp_path / "a.json").write_text(json.dumps(to_coco(index)))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(tmp_path / "a.json"))
    for row in range(len(index)):
        found = theirs.imgToAnns[int(index.ids[row])]
        at = index.boxes_of(row)
        xywh = np.array([a["bbox"] for a in found], np.float64).reshape(-1, 4)
        ours = index.boxes[at].astype(np.float64)
        np.testing.assert_array_equal(xywh[:, :2], ours[:, :2])
        np.testing.assert_array_equal(xywh[:, :2] + xywh[:, 2:], ours[:, 2:])
        assert [theirs.cats[a["category_id"]]["name"] for a in found] == [index.classes[i] for i in index.labels[at]]
        assert [bool(a["iscrowd"]) for a in found] == index.ignore[at].tolist()
        np.testing.assert_array_equal(np.array([a["area"] for a in found], np.float32), index.areas[at])
