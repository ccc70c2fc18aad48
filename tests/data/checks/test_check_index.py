"""Every kind of wrong row is found once, and only where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detlab.data.checks.check_index import clean, find_problems
from detlab.data.checks.problems import ABSENT, Problem
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError

NAN = float("nan")


def make(boxes: list[list[float]], owners: list[int] | None = None, images: int = 1) -> AnnotationIndex:
    return AnnotationIndex.build(
        ["ant"],
        paths=[f"{row}.png" for row in range(images)],
        widths=[100] * images,
        heights=[80] * images,
        box_images=[0] * len(boxes) if owners is None else owners,
        boxes=boxes,
        labels=[0] * len(boxes),
    )


@pytest.mark.parametrize(
    ("box", "kind", "severity"),
    [
        ([0, 0, 100, 80], None, None),
        ([0, 0, 100.04, 80], None, None),
        ([10, 10, NAN, 20], "NaN box", "error"),
        ([10, 10, float("inf"), 20], "NaN box", "error"),
        ([20, 10, 10, 20], "inverted box", "error"),
        ([10, 20, 20, 10], "inverted box", "error"),
        ([10, 10, 10, 20], "zero-area box", "error"),
        ([10, 20, 30, 20], "zero-area box", "error"),
        ([100, 10, 120, 20], "box outside", "error"),
        ([-9, 10, 0, 20], "box outside", "error"),
        ([10, 80, 20, 81], "box outside", "error"),
        ([10, 10, 102, 20], "box outside", "error"),
        ([-1.5, 10, 20, 20], "box outside", "error"),
        ([-1, 10, 20, 20], "box over the edge", "warning"),
        ([10, 10, 20, 80.5], "box over the edge", "warning"),
        ([10, 10, 11, 20], "thin box", "warning"),
        ([10, 10, 20, 10.5], "thin box", "warning"),
        ([10, 10, 11.5, 20], None, None),
    ],
)
def test_each_kind_of_box(box: list[float], kind: str | None, severity: str | None) -> None:
    problems = find_problems(make([[1, 1, 5, 5], box]), read_images="none")
    if kind is None:
        assert problems == []
    else:
        (problem,) = problems
        assert (problem.kind, problem.severity, problem.image, problem.box) == (kind, severity, 0, 1)
        assert (problem.file, problem.record) == ("0.png", "object 2 (ant)")


def test_a_large_random_index_agrees_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.integers(-3, 104, (2000, 4)).astype(np.float32)
    boxes[rng.random((2000, 4)) < 0.02] = np.nan
    index = make(boxes.tolist(), rng.integers(0, 50, 2000).tolist(), images=50)
    found = {p.box for p in find_problems(index) if p.severity == "error"}
    expected = set()
    for number, (x1, y1, x2, y2) in enumerate(index.boxes.tolist()):
        fine = x1 < x2 and y1 < y2 and x1 < 100 and y1 < 80 and x2 > 0 and y2 > 0
        if not (fine and min(x1, y1) >= -1 and x2 <= 101 and y2 <= 81):
            expected.add(number)
    assert found == expected
    assert 100 < len(found) < 2000


def test_images_and_classes_are_looked_at_as_a_whole() -> None:
    index = AnnotationIndex.build(
        ["ant", "Ant ", "bee"],
        paths=["a.png", "b.png", "a.png"],
        widths=[9] * 3,
        heights=[9] * 3,
        ids=[1, 2, 2],
        box_images=[0, 2],
        boxes=[[0, 0, 5, 5]] * 2,
        labels=[0, 1],
    )
    told = [(p.kind, p.severity, p.file, p.image) for p in find_problems(index)]
    assert told == [
        ("duplicate image", "error", "a.png", 2),
        ("duplicate image", "error", "a.png", 2),
        ("image without boxes", "warning", "b.png", 1),
        ("duplicate class", "warning", "data", None),
        ("class without boxes", "warning", "data", None),
    ]


def test_files_are_compared_with_what_is_annotated(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.png")
    Image.fromarray(noise[:, :90]).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "copy.png").write_bytes((tmp_path / "good.png").read_bytes())
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:9000])
    names = ["good", "small", "text", "copy", "cut", "gone"]
    index = AnnotationIndex.build(
        ["ant"],
        paths=[str(tmp_path / f"{name}.png") for name in names],
        widths=[100] * 6,
        heights=[80] * 6,
        box_images=range(6),
        boxes=[[0, 0, 5, 5]] * 6,
        labels=[0] * 6,
    )
    assert find_problems(index, read_images="none") == []
    header = [(Path(p.file).stem, p.kind, p.severity) for p in find_problems(index, read_images="header")]
    assert header == [
        ("small", "image size", "error"),
        ("text", "unreadable image", "error"),
        ("gone", "missing image", "error"),
    ]
    full = [(Path(p.file).stem, p.kind, p.severity) for p in find_problems(index, read_images="full")]
    assert full == [
        ("small", "image size", "error"),
        ("text", "unreadable image", "error"),
        ("copy", "duplicate image", "warning"),
        ("cut", "unreadable image", "error"),
        ("gone", "missing image", "error"),
    ]
    (size, *_) = find_problems(index, read_images="header")
    assert size.message == "the file is 90 x 80 pixels, its annotation says 100 x 80."


def bad_index() -> tuple[AnnotationIndex, list[Problem]]:
    boxes: list[list[float]] = [[0, 0, 5, 5], [5, 5, 5, 9], [1, 1, 9, 9], [2, 2, 9, 9], [0, 0, 1, 9]]
    index = make(boxes, [0, 0, 1, 2, 3], images=4)
    problems = find_problems(index)
    problems.append(Problem("unreadable image", "error", "1.png", "", "it is damaged.", 1))
    problems.append(Problem("unknown class", "error", "2.txt", "line 7", "unknown class 9.", 2, ABSENT))
    problems.append(Problem("malformed XML", "error", "9.xml", "line 1", "malformed XML.", None))
    return index, problems


COUNTS = {"zero-area box": 1, "unreadable image": 1, "unknown class": 1, "malformed XML": 1}


def test_skip_box_costs_the_box_and_images_only_for_their_own_errors() -> None:
    kept, counts = clean(*bad_index(), "skip_box")
    assert counts == COUNTS
    assert kept.paths.tolist() == ["0.png", "2.png", "3.png"]
    assert kept.boxes.tolist() == [[0, 0, 5, 5], [2, 2, 9, 9], [0, 0, 1, 9]]


def test_skip_image_costs_every_image_with_an_error() -> None:
    kept, counts = clean(*bad_index(), "skip_image")
    assert counts == COUNTS
    assert kept.paths.tolist() == ["3.png"]


def test_raise_quotes_the_first_errors_and_how_to_go_on() -> None:
    with pytest.raises(UserError) as caught:
        clean(*bad_index(), "raise")
    message = str(caught.value)
    assert message.startswith("4 errors in the data set: 0.png, object 2 (ant): it has no area")
    assert "; and 1 more; mend the files" in message
    assert "data.on_error=skip_box" in message


def test_warnings_change_nothing() -> None:
    index = make([[10, 10, 11, 20]], images=2)
    problems = find_problems(index)
    assert [p.severity for p in problems] == ["warning", "warning"]
    kept, counts = clean(index, problems, "raise")
    assert kept is index
    assert counts == {}


def test_nothing_left_is_an_error() -> None:
    index = make([[5, 5, 5, 5]])
    with pytest.raises(UserError, match=r"No image is left after data\.on_error=skip_image"):
        clean(index, find_problems(index), "skip_image")
