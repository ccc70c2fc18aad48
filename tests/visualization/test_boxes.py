from __future__ import annotations

import numpy as np
import pytest
import torch

from detlab.visualization.boxes import draw_boxes, ink_on
from detlab.visualization.style import FAINT, colour, rgb


def blank(height: int = 100, width: int = 140) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def is_shade(picture: np.ndarray, shade: str) -> np.ndarray:
    return (picture == np.array(rgb(shade))).all(-1)


def test_outline_lies_on_the_box() -> None:
    picture = draw_boxes(blank(), [[30, 40, 90, 80]], [2], None, "abc", names=False)
    ys, xs = np.nonzero(is_shade(picture, colour(2)))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (30, 40, 89, 79)  # right and bottom are exclusive
    assert (picture[50:70, 40:80] == 128).all()


def test_input_is_left_alone() -> None:
    image = blank()
    draw_boxes(image, [[30, 40, 90, 80]], [0], [0.5], "a")
    assert (image == 128).all()


def test_colour_follows_the_class() -> None:
    picture = draw_boxes(blank(), [[10, 40, 50, 80], [70, 40, 120, 80]], [0, 1], None, "ab")
    assert is_shade(picture[:, :60], colour(0)).any()
    assert is_shade(picture[:, 60:], colour(1)).any()
    assert not is_shade(picture[:, 60:], colour(0)).any()


def test_surer_boxes_lie_on_top() -> None:
    both = [[20, 30, 100, 90], [20, 30, 100, 90]]
    picture = draw_boxes(blank(), both, [0, 1], [0.9, 0.2], "ab")
    assert is_shade(picture, colour(0)).any()
    assert is_shade(picture, colour(0)).sum() > 5 * is_shade(picture, colour(1)).sum()


def test_tags_carry_names_only_while_there_are_few() -> None:
    box = [[30, 40, 90, 80]]
    bare = draw_boxes(blank(), box, [0], None, ["a"], names=False)
    assert (draw_boxes(blank(), box, [0], None, ["a"]) != bare).any()
    many = draw_boxes(blank(), box * 13, [0] * 13, None, ["a"])
    assert (many == bare).all()


def test_ignored_boxes_are_grey_and_broken() -> None:
    picture = draw_boxes(blank(), [[30, 40, 90, 80]], [0], None, ["a"], ignore=[True], names=False)
    assert not is_shade(picture, colour(0)).any()
    upper_edge = is_shade(picture, FAINT)[40, 30:90]
    assert 10 < upper_edge.sum() < 50


@pytest.mark.parametrize(
    "box",
    [[-50, -50, 500, 500], [0, 0, 0, 0], [139, 99, 140, 100], [200, 200, 300, 300], [90, 80, 30, 40], [0, 0, 1e9, 1]],
)
def test_any_box_can_be_drawn(box: list[float]) -> None:
    assert draw_boxes(blank(), [box], [0], [0.5], ["a"]).shape == (100, 140, 3)


def test_no_boxes_and_boxes_that_are_no_numbers() -> None:
    assert (draw_boxes(blank(), np.zeros((0, 4)), [], [], ["a"]) == 128).all()
    assert (draw_boxes(blank(), [[np.nan, 0, 50, 50]], [0], [0.5], ["a"]) == 128).all()


@pytest.mark.parametrize("size", [(1, 1), (8, 2000), (3000, 16)])
def test_any_picture_size(size: tuple[int, int]) -> None:
    assert draw_boxes(blank(*size), [[0, 0, size[1], size[0]]], [0], [1.0], ["long class name"]).shape[:2] == size


def test_takes_tensors_and_thickens_with_the_picture() -> None:
    boxes, labels = torch.tensor([[400.0, 400, 1600, 1600]]), torch.tensor([0])
    picture = draw_boxes(blank(2000, 2000), boxes, labels, torch.tensor([0.5]), ["a"], names=False)
    assert is_shade(picture, colour(0))[1000].sum() >= 2 * 8


@pytest.mark.parametrize(
    ("background", "ink"), [("#ffffff", "#000000"), ("#000000", "#ffffff"), ("#f0e442", "#000000")]
)
def test_ink_on(background: str, ink: str) -> None:
    assert ink_on(background) == ink
