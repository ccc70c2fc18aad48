"""What bad input is answered with: `bad_inputs.md` is the table of all messages, and each row is tried here.

After a message was changed on purpose, ``DETLAB_WRITE_MESSAGES=1 pytest tests/test_bad_inputs.py`` (one process)
writes the table anew; read the difference before committing it.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shlex
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from detlab.data.formats.coco import to_coco
from detlab.data.formats.yolo_txt import write_yolo
from detlab.data.sources.custom import CustomSource

TABLE = Path(__file__).with_suffix("").with_name("bad_inputs.md")
WRITE = bool(os.environ.get("DETLAB_WRITE_MESSAGES"))

# Arguments that many rows share, by the names that the table uses.
SHARED = {
    "VOC": "data=custom data.format=voc data.root=voc data.split=train data.val_split=val",
    "COCO": "data=custom data.format=coco data.images=voc/JPEGImages data.annotations=coco.json "
    "data.val_annotations=coco.json",
    "YOLO": "data=custom data.format=yolo data.yaml=yolo/data.yaml",
    "MERGE": "data=merge '+data.sources.a={format: voc, root: voc, split: train, classes: [red]}' "
    "'+data.sources.b={format: yolo, yaml: yolo/data.yaml, classes: [blue]}'",
    "SEMI": "data=semi data.source.format=voc data.source.root=voc data.source.split=train data.source.val_split=val",
    "SPLIT": "data=scenes_split '~data.source' '+data.source={_target_: detlab.data.sources.custom.CustomSource, "
    "format: voc, root: voc, split: train, val_split: val}' data.groups.a=[red] data.groups.b=[blue]",
}


class Files:
    """The user's folder before the command: `voc`, and what a case makes of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str | bytes = "") -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def replace(self, path: str, old: str, new: str, times: int = 1) -> None:
        text = (self.root / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new, times))

    def cut(self, path: str) -> None:
        content = (self.root / path).read_bytes()
        self.write(path, content[: len(content) // 2])

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def first_box(self, **corners: object) -> None:
        """Other corners for the first object of the first picture."""
        text = (self.root / "voc/Annotations/0000.xml").read_text()
        for tag, value in corners.items():
            text = re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{value}</{tag}>", text, count=1)
        self.write("voc/Annotations/0000.xml", text)

    def source(self, split: str) -> Any:
        return CustomSource("voc", root=str(self.root / "voc"), split=split, val_split="val", name="small")

    def coco(self, change: Callable[[dict[str, Any]], object] = len) -> None:
        """`coco.json` of the pictures in `voc`, after `change`."""
        index, _ = self.source("train").load("train")
        content = to_coco(index, self.root / "voc" / "JPEGImages")
        change(content)
        self.write("coco.json", json.dumps(content))

    def yolo(self, line: str | None = None) -> None:
        """`yolo/` of the pictures in `voc`; the second line of the first label is `line`."""
        for split in ("train", "val"):
            index, _ = self.source("train").load(split)
            write_yolo(index, self.root / "yolo", split)
        label = self.root / "yolo/labels/train/0000.txt"
        if line is not None:
            label.write_text(label.read_text().splitlines()[0] + f"\n{line}\n")

    def torch(self, path: str, content: object) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.write(path, buffer.getvalue())

    def edit_checkpoint(self, change: Callable[[dict[str, Any]], object]) -> None:
        path = self.root / "run/checkpoints/last.ckpt"
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)


def png_bytes(width: int, height: int) -> bytes:
    """A PNG whose header claims `width` × `height` pixels and which holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


ENTITY_BOMB = """<?xml version="1.0"?>
<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation><filename>&c;</filename></annotation>
"""
FIRST = "voc/JPEGImages/0000.jpg"
XML = "voc/Annotations/0000.xml"

Arrange = Callable[[Files], object]


@dataclass(frozen=True)
class Case:
    """command: as typed after `detlab`, with {VOC}, {COCO}, {YOLO}, {MERGE} for what is in `SHARED`, and {SAME} for the
    overrides that the finished run was trained with."""

    section: str
    name: str
    command: str
    arrange: Arrange

    def arguments(self, same: str) -> list[str]:
        command = self.command
        for name, stands_for in {**SHARED, "SAME": same}.items():
            command = command.replace(f"{{{name}}}", stands_for)
        return shlex.split(command)


def nothing(files: Files) -> None:
    pass


def set_annotation(key: str, value: object) -> Arrange:
    """coco.json with another value in the first annotation; None leaves the key out."""

    def change(content: dict[str, Any]) -> None:
        content["annotations"][0][key] = value
        if value is None:
            del content["annotations"][0][key]

    return lambda files: files.coco(change)


def green_only_in_val(files: Files) -> None:
    """A class `green` that no training picture has."""
    for number in (4, 5):
        files.replace(f"voc/Annotations/{number:04d}.xml", "blue", "green")


def png_in_place_of_the_first(files: Files) -> None:
    picture = Image.open(files.root / FIRST)
    files.remove(FIRST)
    picture.save(files.root / "voc/JPEGImages/0000.png")
    files.cut("voc/JPEGImages/0000.png")


def no_objects(files: Files) -> None:
    for path in (files.root / "voc/Annotations").iterdir():
        path.write_text("<annotation/>")


def no_labels(files: Files) -> None:
    files.yolo()
    for path in files.root.glob("yolo/labels/*/*.txt"):
        path.unlink()


def folder_in_place_of_the_first(files: Files) -> None:
    files.remove(FIRST)
    (files.root / FIRST).mkdir()


def yaml_of(text: str) -> Arrange:
    def arrange(files: Files) -> None:
        files.yolo()
        files.write("yolo/data.yaml", text)

    return arrange


def unfinished_and_damaged(files: Files) -> None:
    files.remove("run/metrics.json")
    files.cut("run/checkpoints/last.ckpt")


def other_weights(content: dict[str, Any]) -> None:
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = content["state_dict"][name][:-1]


SECTIONS: dict[str, dict[str, tuple[str, Arrange]]] = {
    "Pictures": {
        "noise named .jpg": ("train {VOC}", lambda f: f.write(FIRST, bytes(range(256)) * 4)),
        "a text file named .jpg": ("train {VOC}", lambda f: f.write(FIRST, "A red square and a blue one.\n")),
        "a picture of zero bytes": ("train {VOC}", lambda f: f.write(FIRST)),
        "a missing picture": ("train {VOC}", lambda f: f.remove(FIRST)),
        "a folder in place of a picture": ("train {VOC}", folder_in_place_of_the_first),
        "a JPEG cut in half, in training": ("train {VOC}", lambda f: f.cut(FIRST)),
        "a JPEG cut in half": ("check {VOC}", lambda f: f.cut(FIRST)),
        "a PNG cut in half": ("check {VOC}", png_in_place_of_the_first),
        "a PNG header of 50,000 x 50,000 pixels": ("train {VOC}", lambda f: f.write(FIRST, png_bytes(50_000, 50_000))),
        "a picture of another size than annotated": (
            "train {VOC}",
            lambda f: f.replace(XML, "<width>64</width>", "<width>65</width>"),
        ),
    },
    "VOC": {
        "a missing folder": ("train {VOC} data.root=vco", nothing),
        "a folder without VOC data": ("train {VOC} data.root=.", nothing),
        "a missing list": ("train {VOC} data.split=trian", nothing),
        "an empty list": ("train {VOC}", lambda f: f.write("voc/ImageSets/Main/train.txt")),
        "a name listed twice": ("train {VOC}", lambda f: f.write("voc/ImageSets/Main/train.txt", "0000\n0001\n0000\n")),
        "a missing XML": ("train {VOC}", lambda f: f.remove(XML)),
        "malformed XML": ("train {VOC}", lambda f: f.replace(XML, "</object>", "</objcet>")),
        "an empty XML": ("train {VOC}", lambda f: f.write(XML)),
        "an XML entity bomb": ("train {VOC}", lambda f: f.write(XML, ENTITY_BOMB)),
        "NaN corners": ("train {VOC}", lambda f: f.first_box(xmin="nan")),
        "letters for a corner": ("train {VOC}", lambda f: f.first_box(xmin="left")),
        "swapped corners": ("train {VOC}", lambda f: f.first_box(xmin=40, xmax=20)),
        "both corners in one point": ("train {VOC}", lambda f: f.first_box(xmin=9, ymin=9, xmax=9, ymax=9)),
        "a box outside the picture": ("train {VOC}", lambda f: f.first_box(xmin=70, xmax=90)),
        "a box far over the edge": ("train {VOC}", lambda f: f.first_box(xmax=90)),
        "an object without a box": ("train {VOC}", lambda f: f.replace(XML, "bndbox", "box", 2)),
        "an object without a name": ("train {VOC}", lambda f: f.replace(XML, "<name>red</name>", "")),
        "an unknown class": ("train {VOC} data.classes=[blue,rde]", nothing),
        "no object in any XML": ("train {VOC}", no_objects),
        "data=voc07 without its folder": ("train data=voc07", nothing),
        "data=voc07 with another set": (
            "train data=voc07 data.root=devkit",
            lambda f: f.write("devkit/VOC2012/Annotations/a.xml"),
        ),
    },
    "COCO": {
        "a missing JSON": ("train {COCO}", nothing),
        "an empty JSON": ("train {COCO}", lambda f: f.write("coco.json")),
        "a JSON cut short": ("train {COCO}", lambda f: f.write("coco.json", '{"images": [\n {"id": 1,')),
        "a malformed JSON": ("train {COCO}", lambda f: f.write("coco.json", '{"images": [],\n"annotations": [}\n')),
        "a picture for a JSON": ("train {COCO} data.annotations=" + FIRST, lambda f: f.coco()),
        "a folder for a JSON": ("train {COCO} data.annotations=voc", lambda f: f.coco()),
        "a JSON list": ("train {COCO}", lambda f: f.write("coco.json", "[1, 2]")),
        "a JSON without annotations": ("train {COCO}", lambda f: f.coco(lambda c: c.pop("annotations"))),
        "a JSON without categories": ("train {COCO}", lambda f: f.coco(lambda c: c.update(categories=[]))),
        "a missing folder of pictures": ("train {COCO} data.images=pictures", lambda f: f.coco()),
        "a picture without a file name": ("train {COCO}", lambda f: f.coco(lambda c: c["images"][0].pop("file_name"))),
        "an image id used twice": (
            "train {COCO}",
            lambda f: f.coco(lambda c: c["images"][1].update(id=c["images"][0]["id"])),
        ),
        "a category id used twice": (
            "train {COCO}",
            lambda f: f.coco(lambda c: c["categories"].append({"id": 1, "name": "c"})),
        ),
        "a category name used twice": (
            "train {COCO}",
            lambda f: f.coco(lambda c: c["categories"].append({"id": 9, "name": "red"})),
        ),
        "a category that is not there": ("train {COCO}", set_annotation("category_id", 7)),
        "an image that is not there": ("train {COCO}", set_annotation("image_id", 77)),
        "a box of three numbers": ("train {COCO}", set_annotation("bbox", [1, 2, 3])),
        "a box with letters": ("train {COCO}", set_annotation("bbox", [1, 2, "wide", 4])),
        "a NaN box": ("train {COCO}", set_annotation("bbox", [1, 2, float("nan"), 4])),
        "a box of negative width": ("train {COCO}", set_annotation("bbox", [30, 2, -9, 4])),
        "an annotation without a box": ("train {COCO}", set_annotation("bbox", None)),
        "data=coco2017 without its folder": ("train data=coco2017", nothing),
        "data=coco2017 without annotations": ("train data=coco2017 data.root=voc", nothing),
    },
    "YOLO": {
        "a line of three numbers": ("train {YOLO}", lambda f: f.yolo("0 0.5 0.5")),
        "a line with letters": ("train {YOLO}", lambda f: f.yolo("0 0.5 0.5 wide 0.2")),
        "a class out of range": ("train {YOLO}", lambda f: f.yolo("7 0.5 0.5 0.2 0.2")),
        "a class of no whole number": ("train {YOLO}", lambda f: f.yolo("0.5 0.5 0.5 0.2 0.2")),
        "a negative size": ("train {YOLO}", lambda f: f.yolo("0 0.5 0.5 -0.2 0.2")),
        "coordinates above 1": ("train {YOLO}", lambda f: f.yolo("0 32 32 16 16")),
        "a NaN coordinate": ("train {YOLO}", lambda f: f.yolo("0 0.5 nan 0.2 0.2")),
        "no label file at all": ("train {YOLO}", no_labels),
        "a missing data.yaml": ("train {YOLO}", nothing),
        "a malformed data.yaml": ("train {YOLO}", yaml_of("train: train.txt\nnames: [blue, red\n")),
        "a data.yaml without names": ("train {YOLO}", yaml_of("train: train.txt\nval: val.txt\n")),
        "a data.yaml whose nc is wrong": (
            "train {YOLO}",
            yaml_of("train: train.txt\nval: val.txt\nnc: 3\nnames: [blue, red]\n"),
        ),
        "a data.yaml with a gap in its names": (
            "train {YOLO}",
            yaml_of("train: train.txt\nnames: {0: blue, 2: red}\n"),
        ),
        "a data.yaml without train": ("train {YOLO}", yaml_of("val: val.txt\nnames: [blue, red]\n")),
        "a data.yaml whose folder is missing": (
            "train {YOLO}",
            yaml_of("train: images/trian\nval: val.txt\nnames: [blue, red]\n"),
        ),
        "a text file for data.yaml": ("train {YOLO}", yaml_of("see the readme\n")),
    },
    "Merged data": {
        "no source": ("train data=merge", nothing),
        "a source in one word": ("train data=merge +data.sources.a=voc", nothing),
        "neither a format nor a source": ("train data=merge '+data.sources.a={root: voc, split: train}'", nothing),
        "a format of no such name": ("train data=merge '+data.sources.a={format: yollo, yaml: yolo}'", nothing),
        "a source without its list": ("train data=merge '+data.sources.a={format: voc, root: voc}'", nothing),
        "a misspelt key of a source": ("train {MERGE} +data.sources.a.clases=[red]", Files.yolo),
        "letters for a number": ("train {MERGE} +data.sources.a.val_fraction=half", Files.yolo),
        "a key in the wrong place": (
            "train data=merge "
            "'+data.sources.a={source: {_target_: detlab.data.formats.voc.VocSource, root: voc}, split: all}'",
            nothing,
        ),
        "two names that differ in case": (
            "train {MERGE} '+data.sources.A={format: voc, root: voc, split: train}'",
            Files.yolo,
        ),
        "a source's missing folder": ("train {MERGE} data.sources.a.root=vco", Files.yolo),
        "a source's missing file": ("train {MERGE} data.sources.b.yaml=yolo/dta.yaml", Files.yolo),
        "a source's missing list": ("train {MERGE} data.sources.a.split=trian", Files.yolo),
        "classes in one word": ("train {MERGE} data.sources.a.classes=red", Files.yolo),
        "a class looked for that is not there": ("train {MERGE} data.sources.a.classes=[rde]", Files.yolo),
        "a class twice": ("train {MERGE} data.sources.a.classes=[red,red]", Files.yolo),
        "a new name for a class that is not there": ("train {MERGE} '+data.sources.b.rename={bleu: red}'", Files.yolo),
        "a list of new names": ("train {MERGE} '+data.sources.b.rename=[red]'", Files.yolo),
        "a class of the merge that nobody looked for": ("train {MERGE} data.classes=[red,blue,green]", Files.yolo),
        "a class of the merge twice": ("train {MERGE} data.classes=[red,red]", Files.yolo),
        "more than all of a source": ("train {MERGE} +data.sources.b.fraction=2", Files.yolo),
        "a source of no weight": ("train {MERGE} +data.sources.b.weight=0", Files.yolo),
        "the same pictures in two sources": (
            "train {MERGE} '+data.sources.c={format: voc, root: voc, split: train, classes: [blue]}'",
            Files.yolo,
        ),
        "one source alone, of no such name": ("train {MERGE} data.only=c", Files.yolo),
        "evaluation data without one of the classes": (
            "train {MERGE} 'data.val={format: voc, root: voc, split: val, classes: [red]}'",
            Files.yolo,
        ),
        "evaluation data that are not there": (
            "train {MERGE} 'data.val={format: voc, root: voc, split: tset}'",
            Files.yolo,
        ),
        "a share of the evaluation data": (
            "train {MERGE} 'data.test={format: voc, root: voc, split: val, fraction: 0.5}'",
            Files.yolo,
        ),
        "complete labels of other pictures": (
            "check {MERGE} 'data.complete={format: voc, root: voc, split: val}'",
            Files.yolo,
        ),
        "one group of classes": ("train data=voc_split '~data.groups' '+data.groups={2007: [cat]}'", nothing),
        "groups that share a class": ("train data=voc_split data.groups.2007=[cat,person]", nothing),
        "a group without classes": ("train data=voc_split data.groups.2007=[]", nothing),
        "one group alone, of no such name": ("train data=voc_split data.only=voc2021", nothing),
        "images kept by no such rule": ("train data=voc_split data.keep=all", nothing),
        "a split of VOC without VOC": ("train data=voc_split data.root=vco", nothing),
        "a group without images": ("train {SPLIT} data.groups.b=[green]", green_only_in_val),
        "a group with an unknown class": ("train {SPLIT} data.groups.b=[bule]", nothing),
        "nothing to make groups of": ("train {SPLIT} ~data.source", nothing),
    },
    "Labelled and unlabelled images": {
        "nothing unlabelled": ("train {SEMI}", nothing),
        "a student of a merge": ("train {MERGE} pseudo=teacher method=faster_rcnn", Files.yolo),
        "a student of labelled pictures": ("train data=scenes pseudo=teacher pseudo.teacher=runs/x", nothing),
        "more than all labels": ("train {SEMI} data.labeled_fraction=10", nothing),
        "letters for a share": ("train {SEMI} data.labeled_fraction=half", nothing),
        "a fold below the first": ("train {SEMI} data.labeled_fraction=0.5 data.fold=-1", nothing),
        "nothing but unlabelled pictures in a batch": (
            "train {SEMI} data.labeled_fraction=0.5 data.unlabelled_share=1",
            nothing,
        ),
        "batches too small to mix": ("train {SEMI} data.labeled_fraction=0.5 loader.batch_size=1", nothing),
        "no labelled images": ("train data=semi data.unlabelled=voc/JPEGImages", nothing),
        "a missing folder of labelled images": ("train {SEMI} data.source.root=vco data.unlabelled=more", nothing),
        "a missing folder of pictures": ("train {SEMI} data.unlabelled=more", nothing),
        "a folder without pictures": ("train {SEMI} data.unlabelled=more", lambda f: f.write("more/notes.txt")),
        "an unlabelled picture of noise": (
            "train {SEMI} data.unlabelled=more",
            lambda f: (f.write("more/1.png", b"no"), f.write("more/2.jpg", (f.root / FIRST).read_bytes())),
        ),
        "unlabelled pictures that are labelled": ("train {SEMI} data.unlabelled=voc/JPEGImages", nothing),
        "unlabelled pictures of a format of no such name": (
            "train {SEMI} 'data.unlabelled={format: image, images: more}'",
            nothing,
        ),
        "all labels where there never were any": (
            "train {SEMI} data.unlabelled=more data.only=all",
            lambda f: f.write("more/1.jpg", (f.root / FIRST).read_bytes()),
        ),
        "pictures without labels to train on": (
            "train data=custom data.format=images data.images=voc/JPEGImages",
            nothing,
        ),
        "pictures without labels in a merge": (
            "train data=merge '+data.sources.a={format: images, images: voc/JPEGImages}'",
            nothing,
        ),
        "a second view that moves pictures otherwise": (
            "train {SEMI} data.labeled_fraction=0.5 augment=scratch augment@view=weak",
            nothing,
        ),
    },
    "Checkpoints and runs": {
        "a missing checkpoint": ("eval ckpt_path=runs/x/mini/seed=0", nothing),
        "no checkpoint given": ("eval", nothing),
        "random bytes for a checkpoint": (
            "eval ckpt_path=noise.ckpt",
            lambda f: f.write("noise.ckpt", bytes(range(256))),
        ),
        "an empty checkpoint": ("eval ckpt_path=none.ckpt", lambda f: f.write("none.ckpt")),
        "a torch file of something else": (
            "eval ckpt_path=net.pth",
            lambda f: f.torch("net.pth", {"weight": torch.zeros(3)}),
        ),
        "a checkpoint that would run code": ("eval ckpt_path=bomb.ckpt", lambda f: f.torch("bomb.ckpt", Bomb())),
        "a plain pickle for a checkpoint": ("eval ckpt_path=a.pkl", lambda f: f.write("a.pkl", pickle.dumps({"a": 1}))),
        "a folder without a run": ("eval ckpt_path=voc", nothing),
        "weights of another detector": ("eval ckpt_path=run", lambda f: f.edit_checkpoint(other_weights)),
        "a checkpoint without weights": (
            "predict ckpt_path=run source=voc",
            lambda f: f.edit_checkpoint(lambda c: c["state_dict"].clear()),
        ),
        "classes that the detector does not know": (
            "eval ckpt_path=run {VOC}",
            lambda f: f.replace("voc/Annotations/0005.xml", "<name>red</name>", "<name>green</name>"),
        ),
        "eval on a split of no such name": ("eval ckpt_path=run split=tset", nothing),
        "eval on data of no such name": ("eval ckpt_path=run data=voc_07", nothing),
        "eval with an empty batch": ("eval ckpt_path=run batch_size=0", nothing),
        "eval on a device of no such name": ("eval ckpt_path=run accelerator=gpuu", nothing),
        "a negative number of pictures to draw": ("eval ckpt_path=run pictures=-1", nothing),
        "predict on nothing": ("predict ckpt_path=run", nothing),
        "predict on a missing picture": ("predict ckpt_path=run source=photo.jpg", nothing),
        "predict on an empty folder": ("predict ckpt_path=run source=photos", lambda f: (f.root / "photos").mkdir()),
        "predict on a broken picture": (
            "predict ckpt_path=run source=a.jpg",
            lambda f: f.write("a.jpg", b"\xff\xd8\xff"),
        ),
        "predict on a folder of broken pictures": (
            "predict ckpt_path=run source=photos",
            lambda f: [f.write(f"photos/{i}.jpg", b"\xff\xd8\xff") for i in range(2)],
        ),
        "predict with a score above 1": ("predict ckpt_path=run source=voc score=30", nothing),
        "predict with an empty batch": ("predict ckpt_path=run source=voc batch_size=0", nothing),
        "predict on a device of no such name": ("predict ckpt_path=run source=voc accelerator=gpuu", nothing),
        "predict with data": ("predict ckpt_path=run source=voc data=voc07", nothing),
        "predict into a file": ("predict ckpt_path=run source=voc output=run/config.yaml", nothing),
        "eval into a file": ("eval ckpt_path=run output=run/config.yaml", nothing),
        "report on nothing": ("report", nothing),
        "report on a missing folder": ("report runs/x/mini/seed=0", nothing),
        "report on a folder without a run": ("report voc", nothing),
        "report on damaged metrics": ("report run", lambda f: f.write("run/metrics.json", '{"status":\n "fin')),
        "report on a damaged history": ("report run", lambda f: f.write("run/metrics.csv", "step,train/loss\n0,low\n")),
        "a balance of a loss without a localization loss": ("balance method=alrp", nothing),
        "a balance over no batch": ("balance batches=0", nothing),
        "a balance of a negative power": ("balance lambdas=[-0.5]", nothing),
        "figures of no such paper": ("draw alpr", nothing),
        "a figure that a paper lacks": ("draw alrp only=figure9", nothing),
        "bounds of nothing": ("bounds", nothing),
        "bounds of a missing file": ("bounds run=found.json", nothing),
        "bounds of a folder without a run": ("bounds run=voc", nothing),
        "bounds of predictions that are no list": ("bounds run=run", lambda f: f.write("run/predictions.json", "{}")),
        "bounds of predictions cut short": ("bounds run=run", lambda f: f.cut("run/predictions.json")),
        "bounds of broken predictions": (
            "bounds run=run",
            lambda f: f.write("run/predictions.json", '[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9]}]'),
        ),
        "bounds of predictions on unknown data": (
            "bounds run=found.json",
            lambda f: f.write("found.json", "[]"),
        ),
        "bounds of predictions on other pictures": (
            "bounds run=found.json {VOC}",
            lambda f: f.write("found.json", '[{"image_id": 77, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]'),
        ),
        "bounds on annotations changed since": (
            "bounds run=run",
            lambda f: f.replace("voc/Annotations/0005.xml", "<name>red</name>", "<name>blue</name>"),
        ),
        "bounds on a split of no such name": ("bounds run=run split=tset", nothing),
        "bounds into a folder": ("bounds run=run output=voc", nothing),
        "a run folder of another config": ("train {SAME} schedule.iterations=90", nothing),
        "a run folder with a damaged config": (
            "train {VOC} run_dir=run",
            lambda f: f.write("run/config.yaml", "seed: [0\n"),
        ),
        "an unfinished run whose checkpoint is damaged": ("train {SAME}", unfinished_and_damaged),
        "a file in place of the run folder": ("train {VOC} run_dir=results", lambda f: f.write("results")),
    },
    "Config": {
        "a misspelt verb": ("trian", nothing),
        "a misspelt group": ("train asigner=atss", nothing),
        "a misspelt option": ("train assigner=atsss", nothing),
        "a number for an option": ("train backbone=50", nothing),
        "a misspelt option of a group that may be left out": ("train debug=quik", nothing),
        "a choice left out": ("train assigner=null", nothing),
        "two options of one group": ("train data=[scenes,voc07]", nothing),
        "a misspelt key": ("train schedule.lrr=0.1", nothing),
        "a key without its group": ("train lr=0.1", nothing),
        "a new key that nothing takes": ("train +schedule.iteration=5", nothing),
        "a key that training sets itself": ("train +trainer.max_steps=3", nothing),
        "a word without a value": ("train overwrite", nothing),
        "several values without -m": ("train seed=0,1", nothing),
        "a needed key taken away": ("train ~schedule.lr", nothing),
        "a needed group taken away": ("train ~assigner", nothing),
        "a reference to nothing": ("train 'name=${nme}'", nothing),
        "data=custom without a format": ("train data=custom", nothing),
        "data=custom of an unknown format": ("train data=custom data.format=pascal", nothing),
        "data=custom without its paths": ("train data=custom data.format=coco", nothing),
        "an unknown on_error": ("train {VOC} data.on_error=skip", nothing),
        "letters for a number": ("train schedule.lr=fast", nothing),
        "a fraction for a whole number": ("train schedule.iterations=1.5", nothing),
        "letters for a seed": ("train seed=abc", nothing),
        "a negative seed": ("train seed=-1", nothing),
        "negative iterations": ("train schedule.iterations=-3", nothing),
        "milestones out of order": ("train 'schedule.milestones=[9,3]'", nothing),
        "a batch of no pictures": ("train loader.batch_size=0", nothing),
        "a negative number of workers": ("train loader.num_workers=-1", nothing),
        "a share above 1": ("train data.val_fraction=1.5 {VOC}", nothing),
        "a chance above 1": ("train augment.horizontal=2", nothing),
        "a negative picture size": ("train resize=longest resize.size=-320", nothing),
        "scenes of no size": ("train data=scenes data.size=0", nothing),
        "a threshold above 1": ("train assigner.positive=1.5", nothing),
        "thresholds in the wrong order": ("train assigner.negative=0.9", nothing),
        "an overlap above 1": ("train postprocess.nms.iou=2", nothing),
        "a misspelt choice": ("train schedule.decay=cosin", nothing),
        "feature levels that the backbone lacks": ("train 'detector.fpn.levels=[1,2,3]'", nothing),
        "no feature level": ("train 'detector.fpn.levels=[]'", nothing),
        "a missing file of weights": ("train backbone=resnet18 backbone.weights=gone.pth {VOC}", nothing),
        "weights of another network": (
            "train backbone=resnet18 backbone.weights=net.pth {VOC}",
            lambda f: f.torch("net.pth", {"weight": torch.zeros(3)}),
        ),
        "a lambda without its weight": ("train loss=iou_balanced_loc loss.localization.lambda_=0.7", nothing),
        "a negative eta": ("train loss=iou_balanced loss.classification.eta=-1", nothing),
        "a normalised loss with a weight": (
            "train loss=iou_balanced_loc loss.localization.normalize=true loss.localization.weight=2",
            nothing,
        ),
        "a ranking loss without a ramp": ("train loss=ap_l1 loss.classification.delta=0", nothing),
        "an error of no such kind": ("train method=alrp loss.kind=ciou", nothing),
        "a quality branch beside aLRP": ("train method=alrp detector.head.quality=iou", nothing),
        "PAA's quality branch beside a loss without one": ("train method=paa loss=iou_balanced", nothing),
        "a boundary that PAA's Fig. 3 has not": ("train method=paa assigner.scheme=e", nothing),
        "no candidate per level": ("train method=paa assigner.topk=0", nothing),
        "a score above 1": ("train assigner=score_range assigner.threshold=1.5", nothing),
        "anchors scored by a ranking loss": (
            "train method=paa assigner.cost.classification._target_=detlab.losses.ranking_classification.APLoss "
            "~assigner.cost.classification.alpha ~assigner.cost.classification.gamma",
            nothing,
        ),
        "two stages with a loss of one": ("train method=faster_rcnn loss=focal_l1", nothing),
        "one stage with the losses of two": ("train loss=faster_rcnn", nothing),
        "two stages on a backbone without level 2": (
            "train method=faster_rcnn backbone.out_levels=[3,4,5]",
            nothing,
        ),
        "soft sampling of two stages": ("train method=faster_rcnn pseudo=ignore", nothing),
        "two stages scored by sigmoids": (
            "train method=faster_rcnn postprocess=yolo postprocess.classes=sigmoid",
            nothing,
        ),
        "assignments of two stages": ("train method=faster_rcnn callbacks=assignments", nothing),
        "gradients of two stages": ("train method=faster_rcnn callbacks=gradients", nothing),
        "no proposal": ("train method=faster_rcnn detector.rpn.train_proposals=0", nothing),
        "a box head of no width": ("train method=faster_rcnn detector.head.channels=0", nothing),
        "regions drawn without any": ("train method=faster_rcnn detector.sampler.number=0", nothing),
        "votes of no width": ("train method=paa postprocess.nms.sigma=0", nothing),
        "multi-scale testing at no scale": ("train testing=multi_scale testing.scales=[]", nothing),
        "an ensemble of one": ("train testing=ensemble testing.runs=[]", nothing),
        "an ensemble with a run that is not there": ("train testing=ensemble testing.runs=[runs/none]", nothing),
        "an ensemble with nobody named": ("train testing=ensemble", nothing),
        "a patience of none": ("train callbacks.barren.patience=0", nothing),
        "a picture for assignments without its boxes": (
            "train callbacks=assignments callbacks.assignments.own_picture=x.png",
            nothing,
        ),
        "a run trained as one that is no name": ("train 'trained_as=[a]'", nothing),
        "a start with a run that is not there": ("train start_from=runs/none", nothing),
        "a start of a classifier with a detector": ("train task=proxy start_from=runs/none", nothing),
        "a quality branch without its loss": ("train detector.head.quality=iou", nothing),
        "a quality loss without its branch": ("train loss=focal_giou_iou", nothing),
        "16 bits throughout": ("train trainer.precision=bf16-true", nothing),
        "an unknown precision": ("train trainer.precision=8", nothing),
        "a device of no such name": ("train trainer.accelerator=gpuu", nothing),
        "no device": ("train trainer.devices=0", nothing),
        "a strategy that detlab cannot lead": (
            "train trainer=ddp trainer.devices=2 trainer.strategy=ddp_spawn",
            nothing,
        ),
        "several nodes from one command": ("train trainer=ddp trainer.accelerator=cpu trainer.num_nodes=2", nothing),
        "logging every 0 steps": ("train logger.every=0", nothing),
        "a class that cannot be imported": ("train assigner._target_=detlab.assigners.Atss", nothing),
        "check of a split of no such name": ("check {VOC} split=tset", nothing),
        "check reading pictures in no such way": ("check {VOC} images=half", nothing),
    },
}
CASES = [
    Case(section, name, command, arrange)
    for section, rows in SECTIONS.items()
    for name, (command, arrange) in rows.items()
]


def rows_of(table: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(section, what is wrong) → (command, message)."""
    rows, section = {}, ""
    for line in table.splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 3 and cells[1].startswith("`"):
            rows[section, cells[0]] = cells[1].strip("`"), cells[2]
    return rows


def table_of(messages: dict[tuple[str, str], str]) -> str:
    lines = [
        "# Bad inputs and what detlab says to them",
        "",
        "Each row is tried by `test_bad_inputs.py`, whose first lines tell how to write this file anew. Every command "
        "ends with status 1 (2 for a misspelt verb) and this message as its last word, leaves no file behind and "
        "changes none. `check` prints the same findings as `train`, all of them, and also decodes every picture.",
        "",
        *(f"- `{{{name}}}` stands for `{arguments}`" for name, arguments in SHARED.items()),
        "- `{SAME}` stands for the overrides that the run in `run` was trained with",
    ]
    for section in SECTIONS:
        lines += ["", f"## {section}", "", "| what is wrong | detlab … | message |", "|---|---|---|"]
        for case in CASES:
            if case.section == section and (section, case.name) in messages:
                message = messages[section, case.name].replace("|", "\\|")
                lines.append(f"| {case.name} | `{case.command}` | {message} |")
    return "\n".join(lines) + "\n"


EXPECTED = rows_of(TABLE.read_text()) if TABLE.exists() else {}


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[tuple[str, str], str]]:
    """The messages of this session; they become the table where that was asked for."""
    messages: dict[tuple[str, str], str] = {}
    yield messages
    if WRITE:
        TABLE.write_text(table_of({key: message for key, (_, message) in EXPECTED.items()} | messages))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file and folder below `folder`, with its content; but for what a run that had begun keeps of its end."""
    paths = [path for path in sorted(folder.rglob("*")) if path.name not in (".lock", "failure.json")]
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in paths}


def findings(out: str) -> str:
    """What `detlab check` lists under its errors."""
    lines = out.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    listed = [line.strip() for start in starts for line in lines[start + 1 :] if line.startswith("  ")]
    return " ".join(dict.fromkeys(listed))


@pytest.mark.slow
@pytest.mark.usefixtures("trained")  # the data in `voc` and the run in `run`
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section}: {case.name}")
def test_bad_input(case, detlab, tmp_path, seen):
    same = json.loads(Path("run/metrics.json").read_text())["command"].removeprefix("detlab train ")
    case.arrange(Files(tmp_path))
    before = snapshot(tmp_path)
    verb, *rest = case.arguments(same)
    # Were the input let through, the training should be short.
    arguments = [verb, *{"check": ["output=null"], "train": ["schedule.iterations=2"]}.get(verb, []), *rest]
    result = detlab(*arguments)
    message = result.err.strip().removeprefix("detlab: ") or findings(result.out)
    seen[case.section, case.name] = message
    assert result.status == (2 if case.name == "a misspelt verb" else 1), result.out
    assert "Traceback" not in result.out + result.err
    assert message
    assert "\n" not in message
    assert not re.search(r"[.!?] [A-Z]", message), "more than one sentence"
    assert message.endswith("."), message
    assert snapshot(tmp_path) == before
    if not WRITE:
        assert (case.command, message) == EXPECTED.get((case.section, case.name))
    if verb == "train" and case.section in ("Pictures", "VOC", "COCO", "YOLO"):
        agree_with_check(message, detlab("check", *rest, "output=null"))
    assert snapshot(tmp_path) == before


def agree_with_check(message: str, checked: Any) -> None:
    """`check` says the same of the data as `train` does."""
    assert checked.status == 1
    assert "Traceback" not in checked.out + checked.err
    first = re.sub(r"^\d+ errors? in the data set: ", "", message).split("; ")[0]
    assert first.rstrip(".") in checked.out + checked.err


@pytest.mark.skipif(WRITE, reason="the table is being written")
def test_every_row_has_a_case_and_every_case_a_row():
    assert list(rows_of(TABLE.read_text())) == [(case.section, case.name) for case in CASES]
    assert len(CASES) >= 30
