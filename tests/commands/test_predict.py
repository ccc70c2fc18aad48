"""`detlab predict` with a trained toy detector: pictures, and a JSON that COCO's own code reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.ops import box_iou

pytestmark = pytest.mark.usefixtures("trained")
RUN = ["accelerator=cpu", "ckpt_path=run"]
PICTURE = "voc/JPEGImages/0000.jpg"


def found_in(file: str) -> list[dict]:
    return json.loads(Path(file).read_text())["annotations"]


def corners(records: list[dict]) -> torch.Tensor:
    xywh = torch.tensor([record["bbox"] for record in records], dtype=torch.float32).reshape(-1, 4)
    return torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)


def test_on_a_picture(detlab):
    before = Path(PICTURE).read_bytes()
    result = detlab("predict", *RUN, f"source={PICTURE}", "score=0.2")
    assert result.status == 0, result.err
    assert result.err == ""
    folder = Path("run/predictions/0000")
    assert sorted(p.name for p in folder.iterdir()) == ["0001_0000.png", "predictions.json"]
    content = json.loads((folder / "predictions.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": PICTURE, "width": 64, "height": 64}]
    assert content["categories"] == [{"id": 1, "name": "blue"}, {"id": 2, "name": "red"}]
    shown = sum(record["score"] >= 0.2 for record in content["annotations"])
    assert 0 < shown < len(content["annotations"])
    assert f"{shown} boxes with score ≥ 0.2 on 1 images: {folder}" in result.out
    assert Path(PICTURE).read_bytes() == before


def test_a_picture_is_drawn_on_where_something_was_found(detlab):
    original = np.asarray(Image.open(PICTURE))
    for score, changed in (("0.2", True), ("1", False)):
        assert detlab("predict", *RUN, f"source={PICTURE}", f"score={score}", "output=out").status == 0
        drawn = Image.open("out/0001_0000.png").convert("RGB")
        same = drawn.size == (64, 64) and np.array_equal(np.asarray(drawn), original)
        assert same != changed


def test_on_a_folder_coco_reads_the_result(detlab):
    Path("voc/JPEGImages/more").mkdir()
    Path(PICTURE).rename("voc/JPEGImages/more/0000.JPG")
    Path("voc/JPEGImages/notes.txt").write_text("not a picture")
    result = detlab("predict", *RUN, "source=voc/JPEGImages", "batch_size=4", "output=out")
    assert result.status == 0, result.err
    coco = COCO("out/predictions.json")
    names = [image["file_name"] for image in coco.loadImgs(coco.getImgIds())]
    assert names == [f"voc/JPEGImages/000{i}.jpg" for i in range(1, 6)] + ["voc/JPEGImages/more/0000.JPG"]
    assert len(list(Path("out").glob("*.png"))) == 6
    records = coco.loadAnns(coco.getAnnIds())
    assert len(records) == len(coco.getAnnIds(catIds=[1, 2])) > 0
    for record in records:
        x, y, width, height = record["bbox"]
        assert 0 <= x <= x + width <= 64.01
        assert 0 <= y <= y + height <= 64.01
        assert record["area"] == pytest.approx(width * height, abs=0.01)
        assert 0 < record["score"] <= 1


def test_it_finds_what_eval_finds(detlab):
    assert detlab("predict", *RUN, "source=voc/JPEGImages/0004.jpg", "output=out", "batch_size=2").status == 0
    expected = [r for r in json.loads(Path("run/predictions.json").read_text()) if r["image_id"] == 0]
    found = found_in("out/predictions.json")
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.05)
        assert one["score"] == pytest.approx(other["score"], abs=1e-3)
        assert one["category_id"] == other["category_id"]


def test_boxes_are_in_pixels_of_the_file_whatever_the_resizing(detlab):
    path = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["detlab"]["config"]["resize"] = {"_target_": "detlab.data.transforms.Fixed", "size": [64, 64]}
    torch.save(checkpoint, path)
    picture = Image.open(PICTURE)
    picture.resize((256, 192), Image.Resampling.NEAREST).save("large.png")
    picture.save("small.png")
    for name in ("small", "large"):
        assert detlab("predict", *RUN, f"source={name}.png", f"output={name}").status == 0
    image = json.loads(Path("large/predictions.json").read_text())["images"][0]
    assert (image["width"], image["height"]) == (256, 192)
    small, large = (found_in(f"{name}/predictions.json") for name in ("small", "large"))
    best = max(small, key=lambda record: record["score"])
    stretched = corners([best]) * torch.tensor([4.0, 3.0, 4.0, 3.0])
    same_class = [record for record in large if record["category_id"] == best["category_id"]]
    assert box_iou(stretched, corners(same_class)).max() > 0.8


def test_a_broken_picture_in_a_folder_is_left_out_and_named(detlab):
    Path("voc/JPEGImages/0003.jpg").write_bytes(b"\xff\xd8\xff broken")
    result = detlab("predict", *RUN, "source=voc/JPEGImages", "output=out")
    assert result.status == 0
    assert "Left out: voc/JPEGImages/0003.jpg: " in result.out
    images = json.loads(Path("out/predictions.json").read_text())["images"]
    assert [image["file_name"][-8:] for image in images] == [f"000{i}.jpg" for i in (0, 1, 2, 4, 5)]
    assert {record["image_id"] for record in found_in("out/predictions.json")} <= {image["id"] for image in images}


@pytest.mark.slow
def test_grey_transparent_and_turned_pictures_are_read(detlab):
    Path("odd").mkdir()
    picture = Image.open(PICTURE)
    picture.convert("L").save("odd/grey.png")
    picture.convert("RGBA").save("odd/transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    picture.resize((64, 32)).save("odd/turned.jpg", exif=exif)
    assert detlab("predict", *RUN, "source=odd", "output=out").status == 0
    images = json.loads(Path("out/predictions.json").read_text())["images"]
    assert [(image["width"], image["height"]) for image in images] == [(64, 64), (64, 64), (32, 64)]


def test_another_postprocess_can_be_tried(detlab):
    one = ["postprocess=nms", "postprocess.max_detections=1"]
    assert detlab("predict", *RUN, f"source={PICTURE}", *one, "output=out").status == 0
    assert len(found_in("out/predictions.json")) == 1


@pytest.mark.slow
def test_several_scales_can_be_tried(detlab):
    """Once and at one scale alike; mirrored, too, there is more to suppress."""
    found = {}
    for name, words in {
        "once": [],
        "one": ["testing=multi_scale", "testing.scales=[1]", "testing.flip=false"],
        "several": ["testing=multi_scale", "testing.flip=true"],
    }.items():
        assert detlab("predict", *RUN, f"source={PICTURE}", *words, f"output={name}").status == 0
        found[name] = found_in(f"{name}/predictions.json")
    assert found["once"] == found["one"] != found["several"]


@pytest.mark.parametrize("verb", ["eval", "predict"])
def test_a_device_that_is_not_there_is_refused(detlab, monkeypatch, verb):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    source = [f"source={PICTURE}"] if verb == "predict" else []
    for device in ("gpu", "cuda", "mps"):
        result = detlab(verb, "ckpt_path=run", *source, f"accelerator={device}")
        assert result.status == 1
        assert result.err == f"detlab: accelerator={device}: this machine has no such device; take accelerator=cpu.\n"
