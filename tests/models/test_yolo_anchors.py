from __future__ import annotations

from typing import Any

import pytest
import torch

from detlab.models.anchors import AnchorGenerator
from detlab.models.yolo_anchors import ShapeAnchors

SHAPES = [[(10.0, 20.0), (30.0, 6.0)], [(40.0, 40.0), (64.0, 16.0)]]
CPU = torch.device("cpu")


@pytest.mark.parametrize("shrink", [1.0, 0.5])
def test_every_anchor_by_hand(shrink: float) -> None:
    sizes = [(3, 2), (1, 2)]
    expected, level = [], []
    for number, (stride, (height, width)) in enumerate(zip((8, 16), sizes, strict=True)):
        for row in range(height):
            for column in range(width):
                for w, h in SHAPES[number]:
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    dx, dy = w * shrink / 2, h * shrink / 2
                    expected.append([x - dx, y - dy, x + dx, y + dy])
                    level.append(number)
    anchors = ShapeAnchors((3, 4), SHAPES, shrink)(sizes, CPU)
    torch.testing.assert_close(anchors.boxes, torch.tensor(expected))
    assert anchors.level.tolist() == level
    assert anchors.level_sizes == (12, 4)
    assert ShapeAnchors((3, 4), SHAPES).per_location == 2


def test_squares_in_strides_are_those_of_the_generator() -> None:
    sizes = [(4, 5), (2, 3)]
    found = ShapeAnchors((3, 4), [[(64, 64)], [(128, 128)]])(sizes, CPU)
    expected = AnchorGenerator((3, 4), scale=8, octaves=1, ratios=(1,))(sizes, CPU)
    for a, b in zip(found, expected, strict=True):
        assert a == b if isinstance(a, tuple) else torch.equal(a, b)  # type: ignore[arg-type]


def test_the_same_tensors_for_the_same_sizes_fit_for_training() -> None:
    generator = ShapeAnchors((3,), [[(8, 8)]])
    with torch.inference_mode():
        first = generator([(2, 2)], CPU)
    assert generator([(2, 2)], CPU).boxes is first.boxes
    assert not first.boxes.is_inference()
    assert generator([(0, 3)], CPU).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), []), "pyramid levels"),
        (((3, 4), SHAPES[:1]), "each of 2 levels, got 1"),
        (((3, 4), [SHAPES[0], SHAPES[1][:1]]), r"as many anchor shapes on every level, at least one, got \[2, 1\]"),
        (((3, 4), [[], []]), r"got \[0, 0\]"),
        (((3,), [[(0, 3)]]), "above 0"),
        (((3,), [[(3, 3, 3)]]), "width, height"),
        (((3,), [[(3, 3)]], 0.0), "shrink"),
    ],
)
def test_bad_shapes_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapeAnchors(*arguments)


def test_as_many_maps_as_levels() -> None:
    with pytest.raises(ValueError, match="Expected 1 feature maps, got 2"):
        ShapeAnchors((3,), [[(3, 3)]])([(1, 1), (1, 1)], CPU)
