"""VOC folders written by hand, and the real one where it is."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detlab.data.checks.problems import ABSENT
from detlab.data.formats.voc import VOC_CLASSES, VocSource
from detlab.errors import UserError

BCCD = Path(__file__).resolve().parents[4] / "shared" / "data" / "bccd"
BOX = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"


def item(name: str, *corners: float | str, difficult: int = 0) -> str:
    box = f"<bndbox>{BOX.format(*corners)}</bndbox>" if corners else ""
    return f"<object><name>{name}</name><difficult>{difficult}</difficult>{box}</object>"


def write_set(folder: Path, pictures: dict[str, list[str]], lists: dict[str, list[str]], size: str = "") -> None:
    for place in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    size = size or "<size><width>100</width><height>80</height><depth>3</depth></size>"
    for name, objects in pictures.items():
        text = f"<annotation>{size}{''.join(objects)}</annotation>"
        (folder / "Annotations" / f"{name}.xml").write_text(text)
        Image.new("RGB", (100, 80)).save(folder / "JPEGImages" / f"{name}.jpg")
    for name, lines in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(lines) + "\n")


def test_corners_become_zero_based_and_exclusive_and_difficult_is_ignored(tmp_path: Path) -> None:
    objects = [item("cat", 1, 1, 100, 80), item("ant", 10.5, 20, 30, 40, difficult=1)]
    write_set(tmp_path, {"p": objects, "q": []}, {"trainval": ["q", "p", ""]})
    index, problems = VocSource(str(tmp_path)).load("train")
    assert not problems
    assert index.classes == ("ant", "cat")
    assert index.boxes.tolist() == [[0, 0, 100, 80], [9.5, 19, 30, 40]]
    assert index.labels.tolist() == [1, 0]
    assert index.ignore.tolist() == [False, True]
    assert index.counts.tolist() == [0, 2]
    assert (index.widths.tolist(), index.heights.tolist()) == ([100, 100], [80, 80])
    assert index.paths.tolist() == [str(tmp_path / "JPEGImages" / f"{name}.jpg") for name in "qp"]


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit"
    write_set(
        base / "VOC2007",
        {"000001": [item("dog", 1, 1, 9, 9)], "000002": [item("cat", 2, 2, 9, 9)]},
        {"trainval": ["000001"], "test": ["000002"]},
    )
    write_set(base / "VOC2012", {"2008_000001": [item("person", 3, 3, 9, 9)]}, {"trainval": ["2008_000001"]})
    return tmp_path


@pytest.mark.parametrize("below", ["", "VOCdevkit"])
def test_years_and_lists_are_joined(devkit: Path, below: str) -> None:
    source = VocSource(str(devkit / below), ["2007", "2012"], val="2007_test", test=["2007_test", "2012_trainval"])
    train, _ = source.load("train")
    assert train.classes == VOC_CLASSES
    assert [train.classes[label] for label in train.labels] == ["dog", "person"]
    assert [Path(path).stem for path in source.load("val")[0].paths] == ["000002"]
    assert [Path(path).stem for path in source.load("test")[0].paths] == ["000002", "2008_000001"]


def test_one_year_can_be_named_by_its_own_folder(devkit: Path) -> None:
    index, _ = VocSource(str(devkit / "VOCdevkit" / "VOC2007"), ["2007"]).load("test")
    assert index.classes == VOC_CLASSES
    assert len(index) == 1


def test_without_years_the_classes_found_count_over_all_splits(devkit: Path) -> None:
    source = VocSource(str(devkit), train="2007_trainval", val="2007_test")
    assert source.load("train")[0].classes == source.load("val")[0].classes == ("cat", "dog", "person")


def test_every_bad_record_is_one_problem_naming_it(tmp_path: Path) -> None:
    write_set(
        tmp_path,
        {
            "good": [
                item("cat", 5, 5, 5, 5),
                item("cta", 1, 1, 5, 5),
                item("cat"),
                item("cat", 1, "x", 5, 5),
                item("cat", 7, 7, 9, 9),
            ]
        },
        {"trainval": ["good", "good", "broken", "bomb", "gone", "nosize"]},
    )
    annotations = tmp_path / "Annotations"
    (annotations / "broken.xml").write_text("<annotation>\n<object>\n</annotation>")
    entities = '<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">'
    (annotations / "bomb.xml").write_text(f"<!DOCTYPE x [{entities}]><annotation>&b;</annotation>")
    (annotations / "nosize.xml").write_text("<annotation/>")
    index, problems = VocSource(str(tmp_path), classes=["cat"]).load("train")
    told = {(Path(p.file).name, p.record): (p.kind, p.image, p.box) for p in problems}
    assert told == {
        ("good.xml", "object 1 (cat)"): ("zero-area box", 0, ABSENT),
        ("good.xml", "object 2 (cta)"): ("unknown class", 0, ABSENT),
        ("good.xml", "object 3 (cat)"): ("malformed box", 0, ABSENT),
        ("good.xml", "object 4 (cat)"): ("malformed box", 0, ABSENT),
        ("trainval.txt", "line 2"): ("duplicate image", None, None),
        ("broken.xml", "line 3, column 3"): ("malformed XML", None, None),
        ("bomb.xml", ""): ("malformed XML", None, None),
        ("gone.xml", ""): ("missing annotation", None, None),
        ("nosize.xml", ""): ("unknown image size", None, None),
    }
    assert index.boxes.tolist() == [[6, 6, 9, 9]]
    assert "did you mean 'cat'?" in next(p.message for p in problems if p.kind == "unknown class")


@pytest.mark.parametrize("size", ["<x/>", "<size><width>0</width><height>0</height></size>"])
def test_a_size_the_xml_lacks_comes_from_the_picture(tmp_path: Path, size: str) -> None:
    write_set(tmp_path, {"p": [item("cat", 1, 1, 2, 2)]}, {"trainval": ["p"]}, size=size)
    index, problems = VocSource(str(tmp_path)).load("train")
    assert not problems
    assert (index.widths[0], index.heights[0]) == (100, 80)


def test_pictures_need_not_be_jpegs(tmp_path: Path) -> None:
    write_set(tmp_path, {"p": [item("cat", 1, 1, 2, 2)]}, {"trainval": ["p"]})
    (tmp_path / "JPEGImages" / "p.jpg").rename(tmp_path / "JPEGImages" / "p.png")
    assert VocSource(str(tmp_path)).load("train")[0].paths[0].endswith("p.png")


def test_lists_of_one_class_and_names_with_spaces(tmp_path: Path) -> None:
    pictures = {name: [item("cat", 1, 1, 2, 2)] for name in ("p", "my cat 1")}
    write_set(tmp_path, pictures, {"trainval": ["p -1", "my cat 1"]})
    index, problems = VocSource(str(tmp_path)).load("train")
    assert not problems
    assert [Path(path).stem for path in index.paths] == ["p", "my cat 1"]


def test_missing_parts_are_named_with_what_is_there(devkit: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"root": str(devkit / "nowhere")}, "no such folder; set data.root"),
        ({"root": str(devkit), "years": ["2010"]}, "no VOC2010 here, only VOC2007, VOC2012"),
        ({"root": str(devkit), "years": ["2007"], "train": "tset"}, "did you mean 'test'.*there are test, trainval"),
        ({"root": str(devkit / "VOCdevkit/VOC2007/JPEGImages")}, "neither a VOC set .* nor a folder with VOCdevkit"),
        ({"root": str(devkit / "VOCdevkit/VOC2007"), "years": ["2007", "2012"]}, "is one VOC set, but years"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message):
            VocSource(**arguments).load("train")


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="at least one VOC year"):
        VocSource("x", [])
    with pytest.raises(ValueError, match="years to download"):
        VocSource("x", download=True)
    with pytest.raises(ValueError, match="distinct class names"):
        VocSource("x", classes=["a", "a"])


def test_download_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def unreachable(root: str, year: str, image_set: str, download: bool) -> None:  # noqa: ARG001
        asked.append((year, image_set))
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.datasets.VOCDetection", unreachable)
    with pytest.raises(UserError, match=r"VOCtest_06-Nov-2007.tar could not be fetched .*data\.download=false"):
        VocSource(str(tmp_path), ["2007"], download=True).load("test")
    assert asked == [("2007", "test")]
    with pytest.raises(UserError, match="VOC2012 'test' is not offered"):
        VocSource(str(tmp_path), ["2012"], download=True).load("test")


def test_download_leaves_what_is_there(devkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.VOCDetection", None)
    for root in (devkit, devkit / "VOCdevkit"):
        assert len(VocSource(str(root), ["2007"], download=True).load("test")[0]) == 1


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD pictures are not beside this checkout")
def test_the_two_boxes_without_area_in_bccd_are_named() -> None:
    source = VocSource(str(BCCD))
    index, problems = source.load("train")
    assert (len(index), len(index.boxes), index.classes) == (292, 3941, ("Platelets", "RBC", "WBC"))
    assert [(Path(p.file).name, p.record, p.kind) for p in problems] == [
        ("BloodImage_00338.xml", "object 13 (RBC)", "zero-area box"),
        ("BloodImage_00343.xml", "object 4 (RBC)", "zero-area box"),
    ]
    test, problems = source.load("test")
    assert (len(test), len(problems)) == (72, 0)
