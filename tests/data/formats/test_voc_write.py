"""What is written as VOC is read back as it was."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from detlab.data.formats.voc import VocSource
from detlab.data.formats.voc_write import write_voc
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError


@pytest.fixture
def index(tmp_path: Path) -> AnnotationIndex:
    for row in range(5):
        Image.new("RGB", (70, 60)).save(tmp_path / f"{row} é.png")
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 30, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 25, (40, 2))], 1).astype(np.float32)
    boxes[:10] = boxes[:10].round()
    return AnnotationIndex.build(
        ["a & b", "c"],
        paths=[str(tmp_path / f"{row} é.png") for row in range(5)],
        widths=[70] * 5,
        heights=[60] * 5,
        box_images=np.sort(rng.integers(0, 4, 40)),  # the last has none
        boxes=boxes,
        labels=rng.integers(0, 2, 40),
        ignore=rng.random(40) < 0.3,
    )


def test_reading_gives_equal_columns(tmp_path: Path, index: AnnotationIndex) -> None:
    folder = write_voc(index, tmp_path / "voc")
    again, problems = VocSource(str(folder), train="train").load("train")
    assert not problems
    assert again.classes == index.classes
    for name in ("widths", "heights", "offsets", "boxes", "labels", "ignore"):
        assert np.array_equal(getattr(again, name), getattr(index, name)), name
    assert [Path(path).resolve() for path in again.paths] == [Path(path) for path in index.paths]
    # Integers stay integers: another reader may take nothing else.
    text = (folder / "Annotations" / "0 é.xml").read_text()
    assert f"<xmin>{int(index.boxes[0, 0]) + 1}</xmin>" in text


def test_a_second_list_joins_the_first_and_writing_twice_is_the_same(tmp_path: Path, index: AnnotationIndex) -> None:
    folder = write_voc(index.select([0, 1]), tmp_path / "voc", "one")
    write_voc(index.select([1, 4]), folder, "two")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_voc(index.select([1, 4]), folder, "two")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    two, _ = VocSource(str(folder), train="two", classes=index.classes).load("train")
    assert [Path(path).stem for path in two.paths] == ["1 é", "4 é"]
    assert two.counts.tolist() == index.counts[[1, 4]].tolist()


def test_scores_stand_beside_their_boxes(tmp_path: Path, index: AnnotationIndex) -> None:
    scores = np.linspace(0, 1, 40)
    folder = write_voc(index, tmp_path / "voc", scores=scores.tolist())
    found = []
    for row in range(5):
        tree = ElementTree.parse(folder / "Annotations" / f"{row} é.xml")
        found += [float(item.findtext("score", "")) for item in tree.iter("object")]
    assert np.allclose(found, scores, atol=1e-5)


def test_two_pictures_of_one_name_are_refused(tmp_path: Path, index: AnnotationIndex) -> None:
    with pytest.raises(UserError, match="has the same file name"):
        write_voc(index.select([0, 0]), tmp_path / "voc")
