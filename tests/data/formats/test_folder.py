"""Folders of pictures without labels."""

import numpy as np
import pytest
from PIL import Image

from detlab.data.formats.folder import read_folder
from detlab.data.image import image_size
from detlab.data.sources.custom import CustomSource
from detlab.errors import UserError


def draw(path, width=8, height=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)


def test_pictures_come_in_natural_order_with_those_of_folders_below(tmp_path):
    names = ["2.png", "10.png", "B1.jpg", "b03.jpg", "sub/1.png", "sub/deeper/7.png", "sub2/1.PNG", "sub10/1.png"]
    for side, name in enumerate(names):
        draw(tmp_path / name, width=20 + side, height=9)
    for passed_over in (".hidden.png", ".cache/1.png", "notes.txt"):
        draw(tmp_path / passed_over.replace("txt", "png"))
    (tmp_path / "notes.png").rename(tmp_path / "notes.txt")
    index, problems = read_folder(tmp_path, classes=["a", "b"], name="mine")
    assert [path.removeprefix(f"{tmp_path}/") for path in index.paths.tolist()] == names
    assert index.widths.tolist() == list(range(20, 28))
    assert set(index.heights.tolist()) == {9}
    assert (index.source_names, index.annotated.tolist(), problems) == (("mine",), [[False, False]], [])
    assert len(index.boxes) == 0
    assert not index.targets(3).annotated.any()


def test_sizes_are_as_a_viewer_shows_them(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    index, _ = read_folder(tmp_path)
    assert (int(index.widths[0]), int(index.heights[0])) == image_size(tmp_path / "a.jpg") == (6, 8)


def test_what_cannot_be_read_is_a_problem_and_no_row(tmp_path):
    draw(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"noise")
    index, (problem,) = read_folder(tmp_path)
    assert len(index) == 1
    assert (problem.kind, problem.severity, problem.image) == ("unreadable image", "error", None)
    assert problem.file.endswith("2.png")
    assert "not a picture" in problem.message


def test_no_folder_or_no_picture(tmp_path):
    with pytest.raises(UserError, match=r"no such folder of pictures; set data\.images"):
        read_folder(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="there are no pictures"):
        read_folder(tmp_path)


def test_as_a_format_it_has_pictures_to_train_on_alone(tmp_path):
    draw(tmp_path / "1.png")
    source = CustomSource("images", images=str(tmp_path))
    assert len(source.load("train")[0]) == 1
    for split in ("val", "test"):
        with pytest.raises(UserError, match=r"no labels to evaluate on.*data=semi"):
            source.load(split)
    with pytest.raises(UserError, match=r"format=images needs data\.images"):
        CustomSource("images")
