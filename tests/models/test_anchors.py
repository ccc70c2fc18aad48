from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from detlab.models.anchors import AnchorGenerator

CPU = torch.device("cpu")


def sizes(height: int, width: int, levels: tuple[int, ...] = (3, 4, 5, 6, 7)) -> list[tuple[int, int]]:
    return [(math.ceil(height / 2**n), math.ceil(width / 2**n)) for n in levels]


def test_retinanet_has_49104_anchors_at_512_pixels() -> None:
    anchors = AnchorGenerator()(sizes(512, 512), CPU)
    assert anchors.boxes.shape == (49104, 4)
    assert anchors.level_sizes == (36864, 9216, 2304, 576, 144)
    assert anchors.level.bincount().tolist() == list(anchors.level_sizes)
    assert anchors.level.dtype == torch.int64
    assert (anchors.level.diff() >= 0).all()


def test_against_a_loop_over_every_anchor() -> None:
    generator = AnchorGenerator((3, 4), scale=4, octaves=2, ratios=(0.5, 2.0))
    anchors = generator([(2, 3), (1, 2)], CPU)
    expected = []
    for level, (height, width) in ((3, (2, 3)), (4, (1, 2))):
        stride = 2**level
        for row in range(height):
            for column in range(width):
                for octave in range(2):
                    for ratio in (0.5, 2.0):
                        area = (4 * stride * 2 ** (octave / 2)) ** 2
                        w, h = math.sqrt(area / ratio), math.sqrt(area * ratio)
                        x, y = (column + 0.5) * stride, (row + 0.5) * stride
                        expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    assert generator.per_location == 4
    torch.testing.assert_close(anchors.boxes, torch.tensor(expected))


def test_the_single_square_anchor() -> None:
    generator = AnchorGenerator((3,), scale=8, octaves=1, ratios=(1.0,))
    assert generator.per_location == 1
    assert generator([(1, 2)], CPU).boxes.tolist() == [[-28, -28, 36, 36], [-20, -28, 44, 36]]


def test_shrink_multiplies_the_scale() -> None:
    small, plain = AnchorGenerator(scale=4, shrink=0.5), AnchorGenerator(scale=2)
    assert torch.equal(small(sizes(64, 96), CPU).boxes, plain(sizes(64, 96), CPU).boxes)


def test_the_same_tensors_for_the_same_sizes() -> None:
    generator = AnchorGenerator()
    assert generator(sizes(64, 96), CPU).boxes is generator(sizes(64, 96), CPU).boxes
    assert generator(sizes(96, 64), CPU).boxes is not generator(sizes(64, 96), CPU).boxes
    assert AnchorGenerator(scale=5)(sizes(64, 96), CPU).boxes[0, 0] != generator(sizes(64, 96), CPU).boxes[0, 0]


def test_anchors_first_made_in_inference_mode_serve_training() -> None:
    generator = AnchorGenerator(scale=4.125)
    with torch.inference_mode():
        generator(sizes(64, 64), CPU)
    boxes = generator(sizes(64, 64), CPU).boxes
    factor = torch.ones(4, requires_grad=True)
    (boxes * factor).sum().backward()
    torch.testing.assert_close(factor.grad, boxes.sum(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": ()}, "pyramid levels"),
        ({"scale": 0.0}, "scale and shrink above 0"),
        ({"shrink": 0.0}, "scale and shrink above 0"),
        ({"octaves": 0}, "at least one octave"),
        ({"ratios": ()}, "positive aspect ratios"),
        ({"ratios": (1.0, -1.0)}, "positive aspect ratios"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnchorGenerator(**arguments)
    with pytest.raises(ValueError, match="Expected 5 feature maps, got 1"):
        AnchorGenerator()([(1, 1)], CPU)
