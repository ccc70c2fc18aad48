"""Crops against slicing and against a loop of area means; patch-drop against a loop over pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detlab.proxy_classifier.cutting import content_mask, content_sizes, cut, flipped, whole_pixels
from detlab.proxy_classifier.patch_drop import draw_patches, drop_patch

HEIGHT, WIDTH = 40, 60


def pictures(count: int = 3) -> Tensor:
    return torch.randn(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def literal_box(box: Tensor) -> tuple[int, int, int, int] | None:
    """Clipped, rounded half to even, at least a pixel; None outside."""
    x1, x2 = (min(max(float(v), 0.0), WIDTH) for v in (box[0], box[2]))
    y1, y2 = (min(max(float(v), 0.0), HEIGHT) for v in (box[1], box[3]))
    if x2 <= x1 or y2 <= y1:
        return None
    left, top = min(round(x1), WIDTH - 1), min(round(y1), HEIGHT - 1)
    return left, top, max(round(x2), left + 1), max(round(y2), top + 1)


def literal_crop(picture: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """The slice of a RoI that fits, at the top left of zeros."""
    crop = torch.zeros(3, size[1], size[0])
    whole = literal_box(box)
    if whole:
        x1, y1, x2, y2 = whole
        assert x2 - x1 <= size[0]
        assert y2 - y1 <= size[1]
        crop[:, : y2 - y1, : x2 - x1] = picture[:, y1:y2, x1:x2]
    return crop


def test_a_roi_that_fits_keeps_its_very_pixels() -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(200, 2, generator=generator) * torch.tensor([WIDTH + 20.0, HEIGHT + 20.0]) - 10
    boxes = torch.cat([corners, corners + torch.rand(200, 2, generator=generator) * 20], 1)
    boxes[0] = torch.tensor([3.0, 4.0, 4.0, 5.0])  # one pixel
    boxes[1] = torch.tensor([3.2, 4.2, 3.3, 4.3])  # less than one
    boxes[2] = torch.tensor([WIDTH - 0.2, HEIGHT - 0.3, WIDTH + 9.0, HEIGHT + 9.0])  # in the last corner
    image = torch.randint(3, (200,), generator=generator)
    crops = cut(pictures(), image, boxes, (24, 22))
    expected = torch.stack([literal_crop(pictures()[i], b, (24, 22)) for i, b in zip(image, boxes)])
    assert crops.dtype == torch.float32
    torch.testing.assert_close(crops, expected, rtol=0, atol=1e-5)
    assert (crops.flatten(1).abs().sum(1) == 0).sum() > 5  # those outside


def test_a_larger_roi_is_shrunk_by_area_with_its_shape_kept() -> None:
    box = torch.tensor([[2.0, 3.0, 50.0, 27.0]])  # 48 × 24: a third of it fits 16 × 16
    crop = cut(pictures(1), torch.zeros(1, dtype=torch.int64), box, (16, 16))[0]
    assert (crop[:, 8:] == 0).all()
    assert (crop[:, :8] != 0).all()
    # Three samples a side, at the centres of the three pixels of the picture: their mean.
    means = torch.nn.functional.avg_pool2d(pictures(1)[0, :, 3:27, 2:50], 3)
    torch.testing.assert_close(crop[:, :8], means, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (8, 30), (50, 9)])
def test_content_is_the_largest_that_fits_and_never_larger_than_the_roi(size: tuple[int, int]) -> None:
    sizes = torch.tensor([[w, h] for w in (1, 2, 7, 16, 33, 500) for h in (1, 3, 15, 16, 90)])
    for (w, h), found in zip(sizes.tolist(), content_sizes(sizes, size).tolist()):
        scale = min(1.0, size[0] / w, size[1] / h)
        expected = [max(1, min(round(w * scale), size[0])), max(1, min(round(h * scale), size[1]))]
        assert found == expected, (w, h)
        assert found[0] <= w
        assert found[1] <= h
    assert content_sizes(torch.tensor([[0.0, 5.0], [0.0, 0.0]]), size).tolist() == [[0, 0], [0, 0]]


def test_a_flat_picture_stays_flat_inside_and_zero_outside() -> None:
    """Nothing leaks into the padding; into a shrunk RoI's outermost pixels at most an eighth per side does, as between
    any two pixels that a sample lies between."""
    picture = torch.full((1, 3, HEIGHT, WIDTH), 100.0)
    boxes = torch.tensor([[0.0, 0, 60, 40], [10, 5, 47, 38], [20, 10, 59, 13], [30, 0, 32, 40]])
    for i, b in enumerate(boxes.int().tolist()):
        picture[:] = 100.0
        picture[:, :, b[1] : b[3], b[0] : b[2]] = 1.0
        crop = cut(picture, torch.zeros(1, dtype=torch.int64), boxes[i : i + 1], (20, 12))
        own = content_mask(content_sizes(boxes[i : i + 1, 2:] - boxes[i : i + 1, :2], (20, 12)), (20, 12))[0]
        h, w = int(own.any(1).sum()), int(own.any(0).sum())
        inner = crop[0, :, 1 : h - 1, 1 : w - 1]
        torch.testing.assert_close(inner, torch.ones_like(inner), rtol=0, atol=1e-4)
        assert (crop[0, :, own] < 1 + 99 * 2 / 8).all()
        assert (crop[0, :, ~own] == 0).all()


def test_five_thousand_rois_none_and_half_precision() -> None:
    generator = torch.Generator().manual_seed(2)
    boxes = torch.rand(5000, 4, generator=generator) * 90 - 20  # inverted ones among them
    image = torch.randint(3, (5000,), generator=generator)
    crops = cut(pictures(), image, boxes, (16, 12))
    assert crops.shape == (5000, 3, 12, 16)
    assert torch.isfinite(crops).all()
    inverted = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    assert inverted.any()
    assert (crops[inverted] == 0).all()
    assert cut(pictures(), image[:0], boxes[:0], (16, 12)).shape == (0, 3, 12, 16)
    for kind in (torch.float16, torch.bfloat16):
        half = pictures().to(kind)
        torch.testing.assert_close(cut(half, image, boxes, (16, 12)), cut(half.float(), image, boxes, (16, 12)))
    wild = torch.tensor([[math.nan, 0, 5, 5], [-math.inf, 2, math.inf, 4], [1e30, 0, 2e30, 9]])
    pixels = whole_pixels(wild, HEIGHT, WIDTH)
    assert torch.isfinite(pixels).all()
    assert pixels[1].tolist() == [0, 2, WIDTH, 4]
    assert torch.isfinite(cut(pictures(), image[:3], wild, (16, 12))).all()


def test_mirroring_keeps_the_content_at_the_left() -> None:
    crops, content = torch.randn(4, 3, 6, 9), torch.tensor([[9, 6], [4, 3], [1, 1], [0, 0]])
    crops = crops * content_mask(content, (9, 6))[:, None]
    turned = flipped(crops, content)
    for i, (w, _) in enumerate(content.tolist()):
        assert torch.equal(turned[i, :, :, :w], crops[i, :, :, :w].flip(-1))
        assert (turned[i, :, :, w:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("patches", [1, 3, 4])
def test_one_patch_of_the_content_is_dropped(patches: int) -> None:
    content = torch.tensor([[20, 14], [11, 9], [3, 4], [1, 1], [0, 0], [7, 16]])
    for number in range(patches**2):
        crops = torch.ones(len(content), 2, 16, 20)
        dropped = drop_patch(crops, content, torch.full((len(content),), number), patches)
        assert (crops == 1).all()  # the original stays
        row, column = divmod(number, patches)
        for i, (w, h) in enumerate(content.tolist()):
            for y in range(16):
                for x in range(20):
                    inside = (
                        row * h // patches <= y < (row + 1) * h // patches
                        and column * w // patches <= x < (column + 1) * w // patches
                    )
                    assert (dropped[i, :, y, x] == (0 if inside else 1)).all(), (i, number, y, x)


def test_the_patches_share_the_content_out() -> None:
    """Each pixel of the RoI lies in one patch, no pixel of the padding in any."""
    content = torch.tensor([[20, 14], [11, 9], [2, 5]])
    hits = torch.zeros(3, 1, 16, 20)
    for number in range(9):
        hits += 1 - drop_patch(torch.ones(3, 1, 16, 20), content, torch.full((3,), number), 3)
    assert torch.equal(hits[:, 0].bool(), content_mask(content, (20, 16)))
    assert hits.max() == 1


def test_patches_are_drawn_evenly_independently_and_by_their_generator() -> None:
    drawn = draw_patches(9000, 3, 2, torch.Generator().manual_seed(5))
    assert drawn.shape == (2, 9000)
    assert torch.equal(drawn, draw_patches(9000, 3, 2, torch.Generator().manual_seed(5)))
    counts = torch.bincount(drawn.flatten(), minlength=9)
    assert len(counts) == 9
    assert ((counts - 2000).abs() < 250).all()
    assert float((drawn[0] == drawn[1]).float().mean()) == pytest.approx(1 / 9, abs=0.02)
