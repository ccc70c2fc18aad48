"""Boxes stay on their objects: draw boxes in known colours, transform, find them again by colour."""

import cv2
import numpy as np
import pytest

from detlab.data.transforms import (
    Fixed,
    Longest,
    Pipeline,
    Shortest,
    flip,
    multiscale,
    none,
    scratch,
    ssd,
    strong,
    weak,
)

# Red, green and blue on black: the jitter of any preset turns hues by at most 36 degrees, half way is 60.
HUES = (0, 120, 240)
LAYOUTS = {
    "landscape": ((240, 320), [[20, 30, 90, 100], [150, 40, 300, 120], [60, 140, 200, 225]]),
    "portrait": ((300, 200), [[5, 10, 120, 60], [130, 20, 190, 150], [30, 160, 150, 290]]),
    "touching the edge": ((256, 256), [[0, 0, 100, 80], [180, 60, 256, 256], [20, 120, 90, 256]]),
}
PRESETS = {
    "none": none(),
    "flip": flip(),
    "flip in all ways": flip(0.5, 0.5, 0.5),
    "ssd": ssd((300, 300)),
    "multiscale": multiscale((400, 440, 480), 640),
    "weak": weak(),
    "strong": strong(cutout=0.0),
    "scratch": scratch(0.5, 0.5, 0.5),
    "scratch, strong zoom": scratch(zoom=(0.3, 3.0), colour=1.0),
}


def draw(shape, boxes):
    image = np.zeros((*shape, 3), np.uint8)
    for channel, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2, channel] = 255
    return image, np.array(boxes, np.float32)


def find(image, number):
    """The smallest box around the pixels of hue `number`, or None."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int))
    distance = np.abs((hue * 2 - HUES[number] + 180) % 360 - 180)
    coloured = (distance < 50) & (saturation > 60)
    if not coloured.any():
        return None
    rows, columns = np.nonzero(coloured & (value > value[coloured].max() / 2))
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_boxes_stay_on_their_objects(preset, layout):
    image, boxes = draw(*LAYOUTS[layout])
    pipeline = Pipeline(PRESETS[preset], Longest(280))
    kept = 0
    for seed in range(25):
        picture, moved, keep = pipeline(image, boxes, seed)
        assert picture.dtype == np.uint8
        assert moved.dtype == np.float32
        assert keep.dtype == np.int64
        assert len(moved) == len(keep)
        height, width = picture.shape[:2]
        assert ((moved >= 0) & (moved <= [width, height, width, height])).all()
        for box, number in zip(moved, keep):
            assert find(picture, number) == pytest.approx(box, abs=2), f"seed {seed}, box {number}"
        kept += len(keep)
    cropped = preset.startswith(("ssd", "scratch"))
    assert kept > 25 if cropped else kept == 75


def test_the_drawn_boxes_are_found_exactly_before_any_transform():
    for shape, boxes in LAYOUTS.values():
        image, boxes = draw(shape, boxes)
        assert [find(image, number).tolist() for number in range(3)] == boxes.tolist()


def test_flip_draws_each_of_the_eight_symmetries():
    image = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    pipeline = Pipeline(flip(0.5, 0.5, 0.5))
    seen = [pipeline(image, np.zeros((0, 4), np.float32), seed)[0].tobytes() for seed in range(400)]
    counts = np.unique(seen, return_counts=True)[1]
    assert len(counts) == 8
    assert counts.min() > 25  # 50 expected


def test_weak_and_strong_move_boxes_alike_with_the_same_seed():
    image, boxes = draw(*LAYOUTS["landscape"])
    teacher, student = (
        Pipeline(weak(), Shortest([100, 150, 200], 400)),
        Pipeline(strong(), Shortest([100, 150, 200], 400)),
    )
    views = [(teacher(image, boxes, seed), student(image, boxes, seed)) for seed in range(40)]
    for one, other in views:
        np.testing.assert_array_equal(one[1], other[1])
    assert len({one[1].tobytes() for one, _ in views}) == 6  # flipped or not, at three sizes
    assert sum(not np.array_equal(one[0], other[0]) for one, other in views) > 30


def test_presets_that_resize_replace_the_rule_of_the_pipeline():
    image, boxes = draw(*LAYOUTS["landscape"])
    assert Pipeline(ssd((96, 64)), Longest(10))(image, boxes, 0)[0].shape == (96, 64, 3)
    sides = {min(Pipeline(multiscale((64, 96), 1333), Fixed((9, 9)))(image, boxes, s)[0].shape[:2]) for s in range(20)}
    assert sides == {64, 96}


@pytest.mark.parametrize(
    "make",
    [
        lambda: flip(1.5),
        lambda: flip(vertical=-0.1),
        lambda: strong(hue=0.7),
        lambda: strong(brightness=2),
        lambda: scratch(colour=-1),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="Expected"):
        make()
