"""The same pictures as VOC, COCO and YOLO txt give the same index."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detlab.data.formats.coco import read_coco, to_coco
from detlab.data.formats.voc import VocSource
from detlab.data.formats.yolo_txt import YoloSource, write_yolo
from detlab.data.index import AnnotationIndex

BCCD = Path(__file__).resolve().parents[4] / "shared" / "data" / "bccd"


def write_small_voc(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for place in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / place).mkdir(parents=True)
    names = [f"p{number}" for number in rng.permutation(12)]
    for name in names:
        width, height = rng.integers(20, 400, 2).tolist()
        Image.new("RGB", (width, height)).save(root / "JPEGImages" / f"{name}.jpg")
        objects = ""
        for _ in range(rng.integers(0, 6)):
            x1, y1 = rng.integers(1, width - 5), rng.integers(1, height - 5)
            x2, y2 = rng.integers(x1 + 1, width + 1), rng.integers(y1 + 1, height + 1)
            corners = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            objects += f"<object><name>{rng.choice(['ant', 'bee', 'cow'])}</name><bndbox>{corners}</bndbox></object>"
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("\n".join(names))
    return root


def assert_formats_agree(voc: AnnotationIndex, folder: Path) -> None:
    (folder / "all.json").write_text(json.dumps(to_coco(voc)))
    coco, coco_problems = read_coco("", folder / "all.json", name="one")
    yolo, yolo_problems = YoloSource(str(write_yolo(voc, folder / "yolo")), name="one").load("train")
    assert coco_problems == yolo_problems == []
    for other in (coco, yolo):
        assert [Path(path).name for path in other.paths] == [Path(path).name for path in voc.paths]
        for name, column in vars(voc).items():
            if name == "paths":
                continue
            if isinstance(column, np.ndarray):
                assert getattr(other, name).dtype == column.dtype, name
            np.testing.assert_array_equal(getattr(other, name), column, err_msg=name)
    assert coco.paths.tolist() == voc.paths.tolist()


def test_on_a_generated_set(tmp_path: Path) -> None:
    voc, problems = VocSource(str(write_small_voc(tmp_path / "voc")), name="one").load("train")
    assert not problems
    assert len(voc.boxes) > 20
    assert 0 in voc.counts
    assert_formats_agree(voc, tmp_path)


@pytest.mark.skipif(not BCCD.is_dir(), reason="the BCCD pictures are not beside this checkout")
@pytest.mark.parametrize("split", ["train", "test"])
def test_on_real_microscope_pictures(tmp_path: Path, split: str) -> None:
    voc, _ = VocSource(str(BCCD), name="one").load(split)  # type: ignore[arg-type]
    assert_formats_agree(voc, tmp_path)
