from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detlab.visualization import boxes_per_image, class_histogram, size_histogram


def bars(figure: Any) -> list[Any]:
    return [bar.get_height() for bar in figure.axes[0].patches]


def test_classes_most_frequent_first() -> None:
    figure = class_histogram([0, 1, 1, 1, 2, 2], ["one", "three", "two", "none"])
    axes: Any = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["three", "two", "one", "none"]
    assert [bar.get_width() for bar in axes.patches] == [3, 2, 1, 0]
    assert axes.get_title(loc="left") == "6 objects by class"


def test_very_many_classes_are_cut() -> None:
    figure = class_histogram(np.arange(100), [str(k) for k in range(100)])
    assert len(figure.axes[0].patches) == 40
    assert "60 more classes: 60" in figure.axes[0].get_title(loc="left")


def test_sizes_count_every_box_with_area_and_give_shares() -> None:
    boxes: list[list[float]] = [
        [0, 0, 10, 10],
        [0, 0, 32, 32],
        [0, 0, 64, 64],
        [0, 0, 100, 200],
        [5, 5, 5, 9],
        [0, 0, np.nan, 3],
    ]
    figure = size_histogram(boxes)
    assert sum(bars(figure)) == 4
    assert [text.get_text() for text in figure.axes[0].texts] == ["small\n25%", "medium\n50%", "large\n25%"]


def test_boxes_per_image() -> None:
    figure = boxes_per_image([0, 0, 1, 3])
    assert bars(figure) == [2, 1, 0, 1]
    assert figure.axes[0].get_title(loc="left") == "Boxes per image: mean 1.0, most 3, none in 2"
    assert sum(bars(boxes_per_image([5, 700, 300]))) == 3


@pytest.mark.parametrize("draw", [size_histogram, boxes_per_image, lambda x: class_histogram(x, ["a"])])
def test_empty_data_set(draw: Any) -> None:
    assert sum(bars(draw([]))) in (0, 0.72)  # an empty horizontal bar has its thickness
