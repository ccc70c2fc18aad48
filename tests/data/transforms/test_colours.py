import cv2
import numpy as np
import pytest

from detlab.data.transforms import Cutout, PhotometricDistort, Pipeline

RNG = np.random.default_rng(0)
IMAGE = cv2.GaussianBlur(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8), (5, 5), 2)
BOXES = np.array([[5, 5, 20, 30]], np.float32)


def test_brightness_is_the_same_shift_everywhere_and_evenly_drawn():
    pipeline = Pipeline([PhotometricDistort(32, 0, 0, 0, each=1.0)])
    grey = np.full((4, 4, 3), 128, np.uint8)
    shifts = [pipeline(grey, BOXES, seed)[0].astype(int) - 128 for seed in range(200)]
    assert all(len(np.unique(shift)) == 1 for shift in shifts)
    assert np.quantile([shift[0, 0, 0] for shift in shifts], [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(
        [-32, -16, 0, 16, 32], abs=5
    )


def test_contrast_scales():
    pipeline = Pipeline([PhotometricDistort(0, 0.5, 0, 0, each=1.0)])
    levels = np.repeat(np.arange(0, 170, 10, dtype=np.uint8)[None, :, None], 3, 2)
    for seed in range(20):
        out = pipeline(levels, BOXES, seed)[0][0, :, 0].astype(float)
        factor = out[10] / 100
        assert 0.49 < factor < 1.51
        np.testing.assert_allclose(out, (levels[0, :, 0] * factor).clip(0, 255), atol=1.1)


def test_saturation_and_hue_leave_grey_alone():
    pipeline = Pipeline([PhotometricDistort(0, 0, 1.0, 180, each=1.0)])
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    np.testing.assert_array_equal(pipeline(grey, BOXES, 3)[0], grey)
    assert (pipeline(IMAGE, BOXES, 3)[0] != IMAGE).mean() > 0.5


def test_no_strength_changes_nothing():
    np.testing.assert_array_equal(Pipeline([PhotometricDistort(0, 0, 0, 0)])(IMAGE, BOXES, 1)[0], IMAGE)
    np.testing.assert_array_equal(Pipeline([PhotometricDistort(each=0.0)])(IMAGE, BOXES, 1)[0], IMAGE)


def test_swap_permutes_the_channels():
    pipeline = Pipeline([PhotometricDistort(0, 0, 0, 0, swap=1.0)])
    orders = {tuple(pipeline(np.array([[[1, 2, 3]]], np.uint8), BOXES[:0], seed)[0][0, 0]) for seed in range(60)}
    assert len(orders) == 6


def test_the_given_picture_is_never_written_to():
    before = IMAGE.copy()
    for seed in range(20):
        Pipeline([PhotometricDistort(), Cutout(p=1.0)])(IMAGE, BOXES, seed)
    np.testing.assert_array_equal(IMAGE, before)


def test_cutout_fills_squares_and_leaves_boxes():
    image = np.full((100, 200, 3), 255, np.uint8)
    pipeline = Pipeline([Cutout((1, 1), (0.2, 0.2), fill=(1.0, 2.0, 3.0), p=1.0)])
    places = []
    for seed in range(40):
        out, boxes, keep = pipeline(image, BOXES, seed)
        covered = (out == (1, 2, 3)).all(2)
        assert (out[~covered] == 255).all()
        rows, columns = np.nonzero(covered)
        assert covered.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) <= 21 * 21
        np.testing.assert_array_equal(boxes, BOXES)
        assert keep.tolist() == [0]
        places.append(columns.mean())
    assert min(places) < 50
    assert max(places) > 150


@pytest.mark.parametrize(
    "make",
    [
        lambda: PhotometricDistort(brightness=-1),
        lambda: PhotometricDistort(contrast=1.5),
        lambda: PhotometricDistort(swap=2),
        lambda: Cutout(holes=(0, 3)),
        lambda: Cutout(size=(0.5, 0.2)),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="Expected"):
        make()
