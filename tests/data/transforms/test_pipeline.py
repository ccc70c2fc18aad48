import warnings

import albumentations as A
import numpy as np
import pytest

from detlab.data.transforms import Fixed, Longest, Pipeline, Zoom, flip, scratch, ssd

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[10, 10, 30, 40], [40, 5, 79, 55]], np.float32)


@pytest.mark.parametrize("augment", [flip(0.5, 0.5, 0.5), ssd((50, 70)), scratch()], ids=["flip", "ssd", "scratch"])
def test_the_seed_decides_everything(augment):
    pipeline, again = Pipeline(augment, Longest(64)), Pipeline(augment, Longest(64))
    first = [pipeline(IMAGE, BOXES, seed) for seed in range(20)]
    for seed in reversed(range(20)):  # whatever ran before
        for one, other in zip(first[seed], again(IMAGE, BOXES, seed)):
            np.testing.assert_array_equal(one, other)
    assert len({image.tobytes() for image, _, _ in first}) > 3


def test_transforms_of_a_pipeline_draw_independently():
    pipeline = Pipeline([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])
    assert len({pipeline(IMAGE, BOXES, seed)[0].tobytes() for seed in range(30)}) == 4


def test_without_boxes():
    for augment in ([], flip(), ssd((50, 70)), scratch()):
        image, boxes, keep = Pipeline(augment, Fixed((32, 48)))(IMAGE, np.zeros((0, 4), np.float32), 3)
        assert image.ndim == 3
        assert boxes.shape == (0, 4)
        assert keep.shape == (0,)


@pytest.mark.parametrize("augment", [[], flip()], ids=["none", "flip"])
def test_bad_boxes_are_clipped_or_dropped_and_numbers_stay_with_their_boxes(augment):
    nan = float("nan")
    boxes = np.array(
        [
            [-20, -10, 40, 30],  # reaches out
            [10, 10, 10, 40],  # no width
            [30, 30, 20, 40],  # inverted
            [nan, 0, 10, 10],
            [200, 200, 300, 300],  # outside
            [70, 50, 500, 500],
            [20, 20, 20.4, 40],  # under a pixel wide
        ],
        np.float32,
    )
    _, left, keep = Pipeline(augment)(IMAGE, boxes, 0)
    assert keep.tolist() == [0, 5]
    if not augment:
        assert left.tolist() == [[0, 0, 40, 30], [70, 50, 80, 60]]


def test_a_box_with_less_than_min_visibility_in_view_is_dropped():
    crop = A.Crop(x_min=0, y_min=0, x_max=32, y_max=60)
    boxes = np.array([[30, 0, 70, 20], [22, 0, 62, 20], [0, 0, 10, 10]], np.float32)  # 5 %, 25 % and all in view
    assert Pipeline([crop], min_visibility=0.1)(IMAGE, boxes, 0)[2].tolist() == [1, 2]
    assert Pipeline([crop], min_visibility=0.0)(IMAGE, boxes, 0)[2].tolist() == [0, 1, 2]
    assert Pipeline([crop], min_visibility=0.5)(IMAGE, boxes, 0)[2].tolist() == [2]


def test_many_boxes_keep_their_numbers():
    corners = np.random.default_rng(1).uniform(0, 50, (3000, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 5], 1)
    _, moved, keep = Pipeline([A.HorizontalFlip(p=1.0), Zoom((1.5, 1.5))])(IMAGE, boxes, 0)
    assert 100 < len(keep) < 3000
    assert (np.diff(keep) > 0).all()
    inner = (moved > 0.1).all(1) & (moved[:, 2] < 52.9) & (moved[:, 3] < 39.9)
    offset = (moved[inner][:, :2] + np.stack([boxes[keep[inner], 2], -boxes[keep[inner], 1]], 1)).round(2)
    assert len(np.unique(offset, axis=0)) == 1  # flipped and shifted, all by the same


def test_pixel_transforms_may_follow_the_resize():
    sizes = []

    def note(image, **_):
        sizes.append(image.shape[:2])
        return image

    look = A.Lambda(image=note, p=1.0)
    Pipeline([look, "resize", look], Fixed((20, 30)))(IMAGE, BOXES, 0)
    Pipeline([look, Fixed((10, 15)), look], Fixed((20, 30)))(IMAGE, BOXES, 0)
    Pipeline([look], Fixed((20, 30)))(IMAGE, BOXES, 0)
    assert sizes == [(60, 80), (20, 30), (60, 80), (10, 15), (60, 80)]


def test_a_misspelt_argument_is_an_error():
    with warnings.catch_warnings():
        # As it stands outside of pytest, which resets the filters for each test.
        warnings.filterwarnings("error", message=r"Argument\(s\) .* (is|are) not valid for transform")
        with pytest.raises(UserWarning, match="probability"):
            A.HorizontalFlip(probability=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lenient = A.OneOf([A.HorizontalFlip(probability=0.5)])
    with pytest.raises(ValueError, match="HorizontalFlip has no argument probability"):
        Pipeline([lenient])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"augment": ["flip"]}, "'resize', got 'flip'"),
        ({"augment": ["resize", Fixed((2, 2))]}, "at most one"),
        ({"augment": [print]}, "albumentations transform"),
        ({"min_visibility": 1.5}, "min_visibility"),
        ({"min_side": 0}, "min_side"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pipeline(**arguments)


@pytest.mark.parametrize("image", [IMAGE[..., 0], IMAGE.astype(np.float32), np.zeros((4, 4, 4), np.uint8)])
def test_images_of_another_kind_are_refused(image):
    with pytest.raises(ValueError, match="uint8 image"):
        Pipeline()(image, BOXES, 0)


@pytest.mark.parametrize(
    ("steps", "same"),
    [
        ([A.HorizontalFlip(p=0.5)], True),
        ([A.HorizontalFlip(p=0.5), "resize", A.GaussianBlur()], True),
        ([A.HorizontalFlip(p=0.5), A.GaussianBlur()], True),
        ([A.GaussianBlur(), A.HorizontalFlip(p=0.5)], False),  # what the blur draws, the flip does not
        ([A.HorizontalFlip(p=0.4)], False),
        ([], False),
        (["resize", A.HorizontalFlip(p=0.5)], False),
        ([A.HorizontalFlip(p=0.5), A.OneOf([A.VerticalFlip(), A.GaussianBlur()])], False),
        ([A.HorizontalFlip(p=0.5), Longest(40)], False),
    ],
)
def test_geometry_tells_which_pipelines_move_alike(steps, same):
    image = np.random.default_rng(0).integers(0, 255, (24, 36, 3), dtype=np.uint8)
    boxes = np.array([[3, 4, 15, 20], [20, 2, 30, 9]], np.float32)
    one, other = Pipeline([A.HorizontalFlip(p=0.5)], Longest(60)), Pipeline(steps, Longest(60))
    assert (one.geometry == other.geometry) == same
    moved = [[view(image, boxes, seed)[1].tolist() for seed in range(30)] for view in (one, other)]
    assert (moved[0] == moved[1]) == same
