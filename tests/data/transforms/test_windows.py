import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detlab.data.transforms import MinIoUCrop, Pipeline, Zoom, ZoomOut
from detlab.data.transforms.backend import generators

BOXES = np.array([[20, 20, 120, 90], [150, 30, 180, 60]], np.float32)


def windows(transform, count=300, boxes=BOXES):
    found = []
    for seed in range(count):
        transform.set_random_state(*generators(seed, 0))
        found.append(transform.pick(100, 200, boxes))
    return np.array(found)


def test_zoom_out_surrounds_the_picture():
    x1, y1, x2, y2 = windows(ZoomOut(4.0)).T
    assert (x1 <= 0).all()
    assert (y1 <= 0).all()
    assert (x2 >= 200).all()
    assert (y2 >= 100).all()
    ratio = (x2 - x1) / 200
    assert ratio.min() < 1.1
    assert 3.9 < ratio.max() <= 4
    assert np.abs(ratio - (y2 - y1) / 100).max() < 0.02  # the aspect stays
    assert np.quantile(-x1 / np.maximum(x2 - x1 - 200, 1), [0.1, 0.9]) == pytest.approx([0.1, 0.9], abs=0.07)


def test_zoom_covers_its_range_evenly_in_the_logarithm():
    x1, _, x2, y2 = windows(Zoom((0.5, 2.0))).T
    factor = np.log2(200 / (x2 - x1))
    assert np.quantile(factor, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([-1, -0.5, 0, 0.5, 1], abs=0.15)
    inside = factor > 0
    assert (x1[inside] >= 0).all()
    assert (y2[inside] <= 100).all()


def test_crops_keep_the_promises_of_ssd():
    found = windows(MinIoUCrop())
    whole = (found == [0, 0, 200, 100]).all(1)
    assert 0.08 < whole.mean() < 0.4  # one option of seven, and where no patch fits
    x1, y1, x2, y2 = found[~whole].T
    assert x1.min() >= 0
    assert y1.min() >= 0
    assert x2.max() <= 200
    assert y2.max() <= 100
    aspect = (x2 - x1) / (y2 - y1)
    assert aspect.min() > 0.48
    assert aspect.max() < 2.1
    centres = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    assert all(((centres > w[:2]) & (centres < w[2:])).all(1).any() for w in found)


@pytest.mark.parametrize("minimum", [0.1, 0.5, 0.7])
def test_crops_reach_the_minimum_overlap(minimum):
    # 50 of 52 options ask for the minimum; the others are the whole picture and any patch.
    found = windows(MinIoUCrop(min_ious=[minimum] * 50), 200)
    iou = box_iou(torch.tensor(found, dtype=torch.float32), torch.tensor(BOXES)).amax(1).numpy()
    cropped = (found != [0, 0, 200, 100]).any(1)
    assert cropped.mean() > 0.8
    assert (iou[cropped] >= minimum).mean() > 0.95


def test_an_object_that_no_patch_can_match_gives_the_whole_picture():
    tiny = np.array([[0, 0, 1, 1]], np.float32)
    assert {tuple(w) for w in windows(MinIoUCrop(min_ious=[0.9], min_side=1.0), 20, tiny)} == {(0, 0, 200, 100)}
    assert {tuple(w) for w in windows(MinIoUCrop(), 20, np.zeros((0, 4), np.float32))} == {(0, 0, 200, 100)}


def test_crops_drop_boxes_whose_centre_is_out_and_clip_the_others():
    image = np.zeros((100, 200, 3), np.uint8)

    class Left(MinIoUCrop):
        def pick(self, height, width, boxes):  # noqa: ARG002
            return 0, 0, 100, height

    boxes = np.array([[60, 0, 130, 50], [90, 0, 130, 50]], np.float32)  # centres at 95 and 110
    _, left, keep = Pipeline([Left()], min_visibility=0.0)(image, boxes, 0)
    assert keep.tolist() == [0]
    np.testing.assert_allclose(left, [[60, 0, 100, 50]], atol=1e-4)


def test_the_border_has_the_fill_colour():
    image = np.full((10, 10, 3), 255, np.uint8)
    picture, boxes, _ = Pipeline([Zoom((0.5, 0.5), fill=(1, 2, 3))])(image, np.array([[0, 0, 10, 10]], np.float32), 5)
    assert picture.shape == (20, 20, 3)
    x1, y1, x2, y2 = boxes[0].astype(int)
    assert (picture[y1:y2, x1:x2] == 255).all()
    picture[y1:y2, x1:x2] = (1, 2, 3)
    assert (picture == (1, 2, 3)).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ZoomOut(0.5),
        lambda: ZoomOut(fill=(1, 2)),
        lambda: Zoom((2.0, 1.0)),
        lambda: Zoom(fill=(0, 0, 300)),
        lambda: MinIoUCrop(min_ious=[1.0]),
        lambda: MinIoUCrop(min_side=0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="Expected"):
        make()
