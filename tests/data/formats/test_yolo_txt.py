"""YOLO folders in the shapes that people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detlab.data.checks.problems import ABSENT
from detlab.data.formats.yolo_txt import YoloSource, write_yolo
from detlab.data.formats.yolo_yaml import label_path
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError


def write(root: Path, labels: dict[str, str | None], yaml: str, folder: str = "images/train") -> str:
    """Pictures of 100 x 80 with these label files (None: no file); the yaml's path."""
    for name, text in labels.items():
        picture = root / folder / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(picture)
        if text is not None:
            label = Path(label_path(str(picture)))
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    (root / "data.yaml").write_text(yaml)
    return str(root / "data.yaml")


def test_fractions_become_pixels_and_polygons_boxes(tmp_path: Path) -> None:
    lines = "1 0.5 0.5 0.5 0.25\n\n0 0.1 0.1 0.4 0.2 0.3 0.5\n"
    yaml = write(tmp_path, {"b": lines, "a": None, "c": ""}, "train: images/train\nnames: [ant, bee]\n")
    index, problems = YoloSource(yaml).load("train")
    assert not problems
    assert [Path(path).stem for path in index.paths] == ["a", "b", "c"]
    assert index.counts.tolist() == [0, 2, 0]
    np.testing.assert_allclose(index.boxes, [[25, 30, 75, 50], [10, 8, 40, 40]], rtol=1e-6)
    assert index.labels.tolist() == [1, 0]
    assert (index.widths[0], index.heights[0]) == (100, 80)


def test_every_bad_line_is_named_and_costs_itself_alone(tmp_path: Path) -> None:
    lines = [
        "0 0.5 0.5 0.1 0.1",
        "0 0.5 0.5 0.1",
        "0 0.5 0.5 0.1 0.1 0.9",
        "0 0.5 x 0.1 0.1",
        "5 0.5 0.5 0.1 0.1",
        "0 nan 0.5 0.1 0.1",
        "0.5 0.5 0.5 0.1 0.1",
        "-1 0.5 0.5 0.1 0.1",
        "1.0 0.5 0.5 0.2 0.2",
    ]
    yaml = write(tmp_path, {"p": "\n".join(lines)}, "train: images/train\nnames: {0: ant, 1: bee}\nnc: 2\n")
    (tmp_path / "images/train/broken.jpg").write_bytes(b"hello")
    (tmp_path / "images/train/q.png").write_bytes((tmp_path / "images/train/p.png").read_bytes())
    (tmp_path / "labels/train/q.txt").write_bytes(b"\xff\xfe\x00")
    index, problems = YoloSource(yaml).load("train")
    assert index.labels.tolist() == [0, 1]
    told = {(Path(p.file).name, p.record): (p.kind, p.image, p.box) for p in problems}
    assert told == {
        ("broken.jpg", ""): ("unknown image size", None, None),
        ("p.txt", "line 2"): ("malformed line", 0, ABSENT),
        ("p.txt", "line 3"): ("malformed line", 0, ABSENT),
        ("p.txt", "line 4"): ("malformed line", 0, ABSENT),
        ("p.txt", "line 5"): ("unknown class", 0, ABSENT),
        ("p.txt", "line 6"): ("malformed line", 0, ABSENT),
        ("p.txt", "line 7"): ("malformed line", 0, ABSENT),
        ("p.txt", "line 8"): ("unknown class", 0, ABSENT),
        ("q.txt", ""): ("malformed line", 1, ABSENT),
    }


@pytest.mark.parametrize(
    "entry", ["images/train", "[images/train]", "../images/train", "list.txt", "[images/train/deep, list.txt]"]
)
def test_entries_are_folders_lists_or_several(tmp_path: Path, entry: str) -> None:
    line = "0 0.5 0.5 0.5 0.5"
    yaml = write(tmp_path, {"p": line}, f"train: {entry}\nnames: [ant]\n")
    write(tmp_path, {"q": line}, Path(yaml).read_text(), folder="images/train/deep")
    (tmp_path / "list.txt").write_text("./images/train/p.png\n" + ("" if "," in entry else "images/train/deep/q.png\n"))
    index, problems = YoloSource(yaml).load("train")
    assert not problems
    assert sorted(Path(path).stem for path in index.paths) == ["p", "q"]
    assert len(index.boxes) == 2


def test_path_counts_from_the_yaml(tmp_path: Path) -> None:
    write(tmp_path / "data", {"p": "0 0.5 0.5 0.5 0.5"}, "", folder="images/val")
    (tmp_path / "my.yaml").write_text("path: data\ntrain: nowhere\nval: images/val\nnames: [ant]\n")
    assert len(YoloSource(str(tmp_path / "my.yaml")).load("val")[0]) == 1


def test_a_picture_listed_twice_is_read_once(tmp_path: Path) -> None:
    yaml = write(tmp_path, {"p": "0 0.5 0.5 0.5 0.5"}, "train: list.txt\nnames: [ant]\n")
    (tmp_path / "list.txt").write_text("images/train/p.png\n\nimages/train/p.png\n")
    index, problems = YoloSource(yaml).load("train")
    assert len(index) == 1
    assert [(p.kind, p.record) for p in problems] == [("duplicate image", "line 3")]


def test_given_classes_set_the_order(tmp_path: Path) -> None:
    yaml = write(tmp_path, {"p": "0 .5 .5 .5 .5\n1 .5 .5 .5 .5"}, "train: images/train\nnames: [ant, bee]\n")
    index, problems = YoloSource(yaml, classes=["bee"]).load("train")
    assert (index.labels.tolist(), [p.record for p in problems]) == ([0], ["line 1"])
    with pytest.raises(UserError, match=r"no class 'bees' in names .did you mean 'bee'"):
        YoloSource(yaml, classes=["bees"]).load("train")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images/train\nnames: [a, b]\nnc: 3\n", "nc is 3, but there are 2 names"),
        ("train: images/train\nnames: [a, a]\n", "'a' stands more than once"),
        ("train: images/train\nnames: {0: a, 2: b}\n", "numbered from 0 without gaps, got 0, 2"),
        ("train: images/train\nnames: {x: a}\n", "names as 'number: name'"),
        ("train: images/train\n", "list of class names under 'names'"),
        ("train: images/nowhere\nnames: [a]\n", "'train' points to .*images/nowhere, which does not exist"),
        ("val: images/train\nnames: [a]\n", "no entry 'train'; there is val"),
        ("train: labels\nnames: [a]\n", "no picture in this folder"),
        ("train: x\nnames: [a]]\n", "line 2: malformed YAML"),
        ("- a\n", "expected keys path, train, val and names, got list"),
        ("", "expected keys path, train, val and names, got NoneType"),
    ],
)
def test_a_yaml_that_contradicts_itself_is_refused(tmp_path: Path, yaml: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        YoloSource(write(tmp_path, {"p": "0 .5 .5 .5 .5"}, yaml)).load("train")


def test_missing_yaml_and_missing_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; set data\.yaml"):
        YoloSource(str(tmp_path / "x.yaml")).load("train")
    yaml = write(tmp_path, {"p": None}, "train: images/train\nnames: [a]\n")
    with pytest.raises(UserError, match=r"none of the 1 pictures .*labels/train/p\.txt"):
        YoloSource(yaml).load("train")


def test_labels_stand_beside_images_or_beside_the_picture() -> None:
    assert label_path("/a/images/b/images/c/d.jpg") == "/a/images/b/labels/c/d.txt"
    assert label_path("pictures/d.e.jpeg") == "pictures/d.e.txt"


def test_written_boxes_come_back_as_equal_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    widths, heights = rng.integers(2, 60, 30), rng.integers(2, 60, 30)
    owners = np.sort(rng.integers(0, 30, 4000))
    corners = rng.random((4000, 2, 2)) * np.stack([widths, heights], 1)[owners][:, None]
    corners[rng.random((4000, 2, 2)) < 0.2] = 0
    corners *= 10.0 ** -rng.integers(0, 4, (4000, 2, 2))
    boxes = np.sort(corners, 1).reshape(-1, 4).astype(np.float32)
    for row, (width, height) in enumerate(zip(widths, heights, strict=True)):
        Image.new("RGB", (int(width), int(height))).save(tmp_path / f"{29 - row:02d}.png")
    index = AnnotationIndex.build(
        ["yes", "1"],  # names that YAML would read as other things
        paths=[str(tmp_path / f"{29 - row:02d}.png") for row in range(30)],
        widths=widths,
        heights=heights,
        box_images=owners,
        boxes=boxes,
        labels=rng.integers(0, 2, 4000),
        source_names=["yolo"],
    )
    yaml = write_yolo(index, tmp_path / "out")
    write_yolo(index.select([3]), tmp_path / "out", split="val")
    again, problems = YoloSource(str(yaml)).load("train")
    assert not problems
    for name, column in vars(index).items():
        if name != "paths":
            np.testing.assert_array_equal(getattr(again, name), column, err_msg=name)
    assert len(YoloSource(str(yaml)).load("val")[0]) == 1


def test_writing_leaves_out_ignored_boxes_and_refuses_equal_names(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / folder / "p.png")
    index = AnnotationIndex.build(
        ["c"],
        paths=[str(tmp_path / folder / "p.png") for folder in "ab"],
        widths=[9, 9],
        heights=[9, 9],
        box_images=[0, 0],
        boxes=[[0, 0, 1, 1], [0, 0, 2, 2]],
        labels=[0, 0],
        ignore=[True, False],
    )
    again, _ = YoloSource(str(write_yolo(index.select([0]), tmp_path / "out"))).load("train")
    assert again.boxes.tolist() == [[0, 0, 2, 2]]
    with pytest.raises(UserError, match="has the same file name"):
        write_yolo(index, tmp_path / "both")
