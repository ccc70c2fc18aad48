"""Labels written in three formats are read again by detlab's own readers, and COCO's by COCO's code."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detlab.data.checks.check_index import find_problems
from detlab.data.formats.coco import read_coco
from detlab.data.formats.coco_writer import write_coco
from detlab.data.formats.image_writer import picture_names
from detlab.data.formats.voc import VocSource
from detlab.data.formats.voc_writer import whole_pixels, write_voc
from detlab.data.formats.yolo_txt import YoloSource
from detlab.data.formats.yolo_writer import write_yolo
from detlab.data.index import AnnotationIndex

CLASSES = ("ant", "bee & <wasp>", "cow")


@pytest.fixture
def labels(tmp_path) -> tuple[AnnotationIndex, np.ndarray]:
    """Six pictures in two folders, twice two of the same name; of 24 boxes half found by a detector (corners anywhere),
    the rest drawn by annotators, one of them ignored; one picture without any."""
    rng = np.random.default_rng(5)
    paths, sizes = [], rng.integers(30, 300, (6, 2))
    for row, (width, height) in enumerate(sizes.tolist()):
        path = tmp_path / "pictures" / ("left" if row < 3 else "right") / f"p{row % 4}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height)).save(path)
        paths.append(str(path))
    owners = np.sort(rng.integers(0, 5, 24))
    found = np.where(rng.random(24) < 0.5, rng.uniform(0.5, 1, 24), np.nan)
    low = rng.uniform(0, 0.6, (24, 2)) * sizes[owners]
    boxes = np.concatenate([low, np.minimum(low + rng.uniform(1, 150, (24, 2)), sizes[owners])], 1)
    drawn = np.isnan(found)
    boxes[drawn] = np.round(boxes[drawn])
    ignore = np.zeros(24, np.bool_)
    ignore[np.flatnonzero(drawn)[0]] = True
    index = AnnotationIndex.build(
        CLASSES, paths=paths, widths=sizes[:, 0], heights=sizes[:, 1], box_images=owners, boxes=boxes,
        labels=rng.integers(0, 3, 24), ignore=ignore, ids=rng.permutation(1000)[:6], class_ids=[9, 4, 30],
        sources=[0, 0, 0, 1, 1, 1], source_names=("one", "two/three"),
    )  # fmt: skip
    assert 5 < drawn.sum() < 19
    return index, found


def same_images(read: AnnotationIndex, index: AnnotationIndex) -> None:
    assert not [problem for problem in find_problems(read, read_images="header") if problem.severity == "error"]
    assert read.classes == index.classes
    assert [os.path.realpath(path) for path in read.paths] == [os.path.realpath(path) for path in index.paths]
    for name in ("widths", "heights"):
        np.testing.assert_array_equal(getattr(read, name), getattr(index, name))


def test_coco_comes_back(labels, tmp_path):
    index, found = labels
    write_coco(index, tmp_path / "out", "val", found)
    file = tmp_path / "out/annotations/instances_val.json"
    read, problems = read_coco(tmp_path / "out/images/val", file, classes=index.classes)
    assert problems == []
    same_images(read, index)
    for name in ("ids", "class_ids", "labels", "offsets", "ignore"):
        np.testing.assert_array_equal(getattr(read, name), getattr(index, name), err_msg=name)
    drawn = np.isnan(found)
    np.testing.assert_array_equal(read.boxes[drawn], index.boxes[drawn])
    np.testing.assert_allclose(read.boxes, index.boxes, atol=0.0101)
    coco = COCO(str(file))
    scores = [record["score"] for record in coco.loadAnns(coco.getAnnIds())]
    np.testing.assert_allclose(scores, np.where(drawn, 1.0, found), atol=1e-6)


def test_voc_comes_back(labels, tmp_path):
    index, found = labels
    write_voc(index, tmp_path / "out", "mine", found)
    read, problems = VocSource(str(tmp_path / "out"), train="mine", classes=index.classes).load("train")
    assert problems == []
    same_images(read, index)
    drawn = np.isnan(found)
    np.testing.assert_array_equal(read.boxes[drawn], index.boxes[drawn])
    np.testing.assert_allclose(read.boxes, index.boxes, atol=1)
    np.testing.assert_array_equal(read.boxes, np.round(read.boxes))
    np.testing.assert_array_equal(read.labels, index.labels)
    np.testing.assert_array_equal(read.ignore, index.ignore)
    scores = []
    for name in (tmp_path / "out/ImageSets/Main/mine.txt").read_text().split("\n")[:-1]:
        objects = ElementTree.parse(tmp_path / f"out/Annotations/{name}.xml").iter("object")
        scores += [float(item.findtext("score")) for item in objects]
    np.testing.assert_allclose(scores, np.where(drawn, 1.0, found), atol=1e-5)


def test_yolo_comes_back_without_what_is_ignored(labels, tmp_path):
    index, found = labels
    write_yolo(index, tmp_path / "out", "train", found)
    read, problems = YoloSource(str(tmp_path / "out/data.yaml")).load("train")
    assert problems == []
    same_images(read, index)
    kept = index.select_boxes(~index.ignore)
    np.testing.assert_array_equal(read.boxes, kept.boxes)
    np.testing.assert_array_equal(read.labels, kept.labels)
    np.testing.assert_array_equal(read.offsets, kept.offsets)


def test_scores_as_a_sixth_column_are_for_other_readers(labels, tmp_path):
    index, found = labels
    write_yolo(index, tmp_path / "out", "train", found, scores=True)
    _, problems = YoloSource(str(tmp_path / "out/data.yaml")).load("train")
    assert {problem.kind for problem in problems} == {"malformed line"}
    names = (Path(line).stem for line in (tmp_path / "out/train.txt").read_text().splitlines())
    lines = [line.split() for n in names for line in (tmp_path / f"out/labels/train/{n}.txt").read_text().splitlines()]
    assert [len(line) for line in lines] == [6] * int((~index.ignore).sum())
    expected = np.where(np.isnan(found), 1.0, found)[~index.ignore]
    np.testing.assert_allclose([float(line[5]) for line in lines], expected, atol=1e-5)


@pytest.mark.parametrize("write", [write_coco, write_voc, write_yolo])
def test_without_scores_and_without_boxes(labels, tmp_path, write):
    index, found = labels
    write(index, tmp_path / "plain", "train", found, scores=False)
    text = "".join(path.read_text() for kind in ("json", "xml") for path in (tmp_path / "plain").rglob(f"*.{kind}"))
    assert "score" not in text
    empty = index.select_boxes(np.zeros(len(index.boxes), np.bool_))
    words = write(empty, tmp_path / "empty", "train", np.zeros(0))
    assert words[0].startswith("data.format=")
    assert len([path for path in (tmp_path / "empty").rglob("*.png") if path.is_symlink()]) == 6


def test_pictures_of_one_name_get_different_ones():
    paths = ["a/x.jpg", "b/X.png", "b/y.jpg", "c/y.jpg", "b/z.jpg", "c/s_2_y.jpg", "d/s_y.jpg"]
    index = AnnotationIndex.build(
        ["ant"], paths=paths, widths=[9] * 7, heights=[9] * 7, box_images=[], boxes=[], labels=[],
        sources=[0, 1, 2, 2, 0, 0, 0], source_names=("r", "q", "s"),
    )  # fmt: skip
    names = picture_names(index)
    assert names == ["r_x.jpg", "q_X.png", "s_2__y.jpg", "s_3_y.jpg", "z.jpg", "s_2_y.jpg", "s_y.jpg"]
    assert len({Path(name).stem.casefold() for name in names}) == 7


def test_whole_pixels_never_make_a_click_of_a_box():
    boxes = np.array([[3.4, 3.4, 4.4, 4.4], [8.9, 8.9, 10, 10], [0, 0, 0.2, 5.5], [2.5, 2.4, 7.5, 7.4]], np.float32)
    sizes = np.full(4, 10, np.int32)
    expected = [[3, 3, 5, 5], [8, 8, 10, 10], [0, 0, 2, 6], [3, 2, 8, 7]]
    np.testing.assert_array_equal(whole_pixels(boxes, sizes, sizes), expected)
    one = np.array([1], np.int32)
    np.testing.assert_array_equal(whole_pixels(np.array([[0, 0, 1, 1]], np.float32), one, one), [[0, 0, 1, 1]])
