"""`detlab check`: counts, every problem, histograms, the exit status, and nothing of the user's changed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detlab.data.formats.coco import to_coco
from detlab.data.formats.voc import VocSource
from detlab.data.formats.voc_write import write_voc
from detlab.data.formats.yolo_txt import write_yolo
from detlab.data.sources.custom import CustomSource

ROOT = Path(__file__).resolve().parents[2]
BCCD = ROOT.parent / "shared" / "data" / "bccd"
VOC = ["data=custom", "data.format=voc", "data.root=voc", "data.split=train", "data.val_split=val"]

pytestmark = pytest.mark.usefixtures("voc")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def errors_in(out: str) -> dict[str, int]:
    return {kind: int(count) for count, kind in re.findall(r"^error: (\d+) × (.*)$", out, re.MULTILINE)}


def warnings_in(out: str) -> dict[str, int]:
    return {kind: int(count) for count, kind in re.findall(r"^warning: (\d+) × (.*)$", out, re.MULTILINE)}


def test_sound_data_are_counted_and_drawn(detlab):
    before = contents(Path("voc"))
    result = detlab("check", *VOC)
    assert result.status == 0, result.out + result.err
    assert "train: 4 images, 8 boxes, 2 classes (blue, red)" in result.out
    assert "val: 2 images, 4 boxes, 2 classes (blue, red)" in result.out
    assert "test:" not in result.out  # val stands in, and is told once
    assert re.search(r"red +│ 4 +│ 4 ", result.out)
    assert re.search(r"image width +│ 64 +│ 64 +│ 64 ", result.out)
    assert result.out.rstrip().endswith("No errors.")
    for split in ("train", "val"):
        names = sorted(path.name for path in Path("check/custom", split).iterdir())
        assert names == ["boxes_per_image.png", "classes.png", "sizes.png"]
        for name in names:
            with Image.open(Path("check/custom", split, name)) as picture:
                assert min(picture.size) > 100
    assert contents(Path("voc")) == before


@pytest.mark.slow
def test_every_problem_is_listed_and_the_status_tells(detlab):
    xml = Path("voc/Annotations/0000.xml")
    xml.write_text(re.sub(r"<xmax>\d+", "<xmax>90", xml.read_text(), count=1))
    Path("voc/Annotations/0001.xml").write_text("<annotation>")
    Path("voc/JPEGImages/0002.jpg").write_bytes(b"")
    Path("voc/JPEGImages/0005.jpg").write_bytes(Path("voc/JPEGImages/0004.jpg").read_bytes())
    before = contents(Path("voc"))
    result = detlab("check", *VOC, "output=null")
    assert result.status == 1
    assert errors_in(result.out) == {"box outside": 1, "malformed XML": 1, "unreadable image": 1}
    assert warnings_in(result.out) == {"duplicate image": 1}
    assert "  voc/Annotations/0001.xml, line 1, column 13: malformed XML (no element found)." in result.out
    assert "  voc/JPEGImages/0005.jpg: same content as voc/JPEGImages/0004.jpg." in result.out
    assert result.out.rstrip().endswith("3 errors: mend the files, or train with data.on_error=skip_box.")
    assert contents(Path("voc")) == before
    assert [path.name for path in Path().iterdir()] == ["voc"]


def test_warnings_alone_are_no_failure(detlab):
    Path("voc/Annotations/0005.xml").write_text(
        "<annotation><size><width>64</width><height>64</height></size></annotation>"
    )
    result = detlab("check", *VOC, "output=null")
    assert result.status == 0
    assert warnings_in(result.out) == {"image without boxes": 1}


@pytest.mark.parametrize(("images", "found"), [("none", {}), ("header", {}), ("full", {"unreadable image": 1})])
def test_how_closely_pictures_are_looked_at(detlab, images, found):
    picture = Path("voc/JPEGImages/0001.jpg")
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2])
    result = detlab("check", *VOC, "output=null", f"images={images}")
    assert errors_in(result.out) == found
    assert result.status == bool(found)


def test_one_split_and_few_lines(detlab):
    for name in ("0000", "0001", "0002"):
        Path(f"voc/Annotations/{name}.xml").unlink()
    result = detlab("check", *VOC, "output=null", "show=1", "split=train")
    assert "val:" not in result.out
    assert errors_in(result.out) == {"missing annotation": 3}
    assert result.out.count("no such annotation file.") == 1
    assert "… and 2 more (show=3 prints all)" in result.out


def test_class_names_are_printed_as_they_are(detlab):
    index, _ = CustomSource("voc", root="voc", split="train", val_split="val").load("train")
    content = to_coco(index, "voc/JPEGImages")
    content["categories"][0]["name"] = "[red]stop[/red] :cat:"
    Path("coco.json").write_text(json.dumps(content))
    files = ["data.images=voc/JPEGImages", "data.annotations=coco.json", "data.val_annotations=coco.json"]
    result = detlab("check", "data=custom", "data.format=coco", *files)
    assert result.status == 0, result.out
    assert result.out.count("[red]stop[/red] :cat:") == 2


@pytest.mark.slow
def test_a_picture_of_training_among_those_to_evaluate_on(detlab):
    Path("voc/JPEGImages/0005.jpg").write_bytes(Path("voc/JPEGImages/0001.jpg").read_bytes())
    told = "voc/JPEGImages/0005.jpg: same content as voc/JPEGImages/0001.jpg, which is for training"
    result = detlab("check", *VOC, "output=null")
    assert result.status == 0
    assert warnings_in(result.out) == {"image of training": 1}
    assert told in result.out
    assert told not in detlab("check", *VOC, "output=null", "images=header").out
    assert told not in detlab("check", *VOC, "output=null", "split=val").out


def as_yolo(name: str = "train", classes: tuple[int, ...] = (0, 1)) -> None:
    """The pictures of `voc` once more, as YOLO txt with the classes chosen."""
    index, _ = CustomSource("voc", root="voc", split=name, val_split="val").load("train")
    write_yolo(index.select_boxes(np.isin(index.labels, classes)), "yolo")


def merge(*more: str) -> list[str]:
    return [
        "data=merge",
        "+data.sources.one={format: voc, root: voc, split: train, classes: [red]}",
        "+data.sources.two={format: yolo, yaml: yolo/data.yaml, classes: [blue], rename: {blue: azure}}",
        "output=null",
        *more,
    ]


def test_a_merge_is_shown_by_class_and_source(detlab):
    as_yolo("val")
    write_voc(VocSource("voc", train=["train", "val"], name="all").load("train")[0], "full", "all")
    complete = "data.complete={format: voc, root: full, split: all, rename: {blue: azure}}"
    val = "data.val={format: voc, root: voc, split: val, rename: {blue: azure}}"
    result = detlab("check", *merge(complete, val, "split=train", "+data.sources.two.weight=2.5"))
    assert result.status == 0, result.out + result.err
    rows = [re.split(r" *[│┃] *", line.strip())[1:-1] for line in result.out.splitlines() if line[:1] in "│┃"]
    assert rows[-4:] == [
        ["class", "boxes", "images", "one", "two", "missing", "of"],
        ["red", "4", "4", "4 / 4", "–", "33.3%", "6"],
        ["azure", "2", "2", "–", "2 / 2", "66.7%", "6"],
        ["all", "6", "6", "4 / 4", "2 / 2", "50.0%", "12"],
    ]
    assert "two: blue → azure." in result.out
    assert "two: an image is drawn 2.5 times as often as one of weight 1." in result.out


@pytest.mark.slow
def test_a_merge_without_complete_labels_and_its_warnings(detlab):
    as_yolo()
    result = detlab("check", *merge("+data.sources.three={format: voc, root: voc, split: val, rename: {red: reds}}"))
    assert result.status == 0, result.out + result.err
    assert "missing" not in result.out
    found = warnings_in(result.out)
    assert {kind: found[kind] for kind in ("near-miss class", "partly labelled split")} == {
        "near-miss class": 1, "partly labelled split": 1,
    }  # fmt: skip
    assert "three, class reds: it may be what one calls red; if so, rename it there" in result.out
    assert "once in source 'one' and once in 'two'" in result.out


@pytest.mark.slow
def test_as_a_module_from_a_shell(tmp_path):
    (tmp_path / "voc/JPEGImages/0003.jpg").unlink()
    command = [sys.executable, "-m", "detlab.commands.check", *VOC, "output=null"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr == ""
    assert errors_in(done.stdout) == {"missing image": 1}


@pytest.mark.slow
@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD pictures are not here (../shared/data/bccd)")
def test_bccd_has_two_boxes_without_area(detlab):
    before = {path: path.stat().st_mtime_ns for path in BCCD.rglob("*")}
    source = [f"data.root={BCCD}", "data.split=trainval", "data.val_split=test"]
    result = detlab("check", "data=custom", "data.format=voc", *source, "images=header")
    assert result.status == 1
    assert "train: 292 images, 3,941 boxes, 3 classes (Platelets, RBC, WBC)" in result.out
    assert "val: 72 images, 945 boxes, 3 classes (Platelets, RBC, WBC)" in result.out
    assert errors_in(result.out) == {"zero-area box": 2}
    for name, record in (("BloodImage_00338", "object 13 (RBC)"), ("BloodImage_00343", "object 4 (RBC)")):
        assert f"{name}.xml, {record}: zero-area box" in result.out
    assert {path: path.stat().st_mtime_ns for path in BCCD.rglob("*")} == before


def test_unlabelled_pictures_are_counted_and_not_said_to_lack_labels(detlab):
    semi = [argument.replace("data.", "data.source.", 1) for argument in VOC[1:]]
    result = detlab("check", "data=semi", *semi, "data.labeled_fraction=0.5", "output=null")
    assert result.status == 0, result.out + result.err
    assert "2 images are labelled, 2 are not; what follows is of the labelled." in result.out
    assert "Rarest classes: blue (2), red (2)." in result.out
    assert "4 labels of the unlabelled images are withheld from training." in result.out
    assert re.search(r"red +│ 2 +│ 2 ", result.out)
    assert "missing" not in result.out
    assert warnings_in(result.out) == {}
    assert "0.5 of the training images keep their labels (fold 1)." in result.out + result.err
