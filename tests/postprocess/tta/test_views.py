"""A batch at another size or mirrored, and boxes brought back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detlab.postprocess.tta.views import view

SIZES = torch.tensor([[40, 60], [64, 30]])


def pictures(sizes: Tensor = SIZES) -> Tensor:
    """Noise inside the content, 0 in the padding."""
    images = torch.zeros(len(sizes), 3, 64, 64)
    for image, (height, width) in zip(images, sizes.tolist()):
        image[:, :height, :width] = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) + 1
    return images


def test_as_it_is() -> None:
    images = pictures()
    seen = view(images, SIZES)
    assert seen.images is images
    boxes, where = torch.rand(5, 4), torch.tensor([0, 1, 1, 0, 1])
    assert torch.equal(seen.bring_back(boxes, where), boxes)


def test_mirrored_content_stays_at_the_left() -> None:
    images = pictures()
    seen = view(images, SIZES, flipped=True)
    assert torch.equal(seen.sizes, SIZES)
    for before, after, (height, width) in zip(images, seen.images, SIZES.tolist()):
        assert torch.equal(after[:, :height, :width], before[:, :height, :width].flip(-1))
        assert (after[:, height:] == 0).all()
        assert (after[:, :, width:] == 0).all()


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("scale", [0.5, 0.73, 1.0, 1.5, 2.25])
def test_sizes_and_padding(scale: float, flipped: bool) -> None:
    """Content never mixes with padding: all of it is at least 1, all of that is 0."""
    seen = view(pictures(), SIZES, scale, flipped)
    assert seen.sizes.tolist() == [[round(scale * h), round(scale * w)] for h, w in SIZES.tolist()]
    assert all(side % 32 == 0 for side in seen.images.shape[2:])
    assert (seen.sizes <= torch.tensor(seen.images.shape[2:])).all()
    for image, (height, width) in zip(seen.images, seen.sizes.tolist()):
        assert (image[:, :height, :width] >= 1 - 1e-5).all()
        assert image.count_nonzero() == 3 * height * width


def test_a_picture_does_not_depend_on_its_batch() -> None:
    images = pictures()
    together = view(images, SIZES, 1.3, True)
    for i in range(2):
        alone = view(images[i : i + 1], SIZES[i : i + 1], 1.3, True)
        height, width = alone.sizes[0].tolist()
        assert torch.equal(alone.images[0, :, :height, :width], together.images[i, :, :height, :width])


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_a_bright_square_comes_back_to_its_place(scale: float, flipped: bool) -> None:
    """Seen in the view by its pixels, brought back as a box; on both pictures, whose contents differ in width."""
    boxes = torch.tensor([[8.0, 12, 24, 32], [4, 40, 14, 60]])
    images = torch.zeros(2, 3, 64, 64)
    for image, (x1, y1, x2, y2) in zip(images, boxes.int().tolist()):
        image[:, y1:y2, x1:x2] = 1
    seen = view(images, SIZES, scale, flipped)
    found = []
    for image in seen.images:
        rows, columns = (image[0] > 0.5).nonzero().unbind(1)
        found.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    back = seen.bring_back(torch.tensor(found).float(), torch.arange(2))
    torch.testing.assert_close(back, boxes, atol=0.6 / scale if scale != 1 else 0, rtol=0)


def test_scales_that_do_not_fit_whole_pixels_are_undone_exactly() -> None:
    """63 · 0.5 is 32 pixels, not 31.5: the picture's right border stays its right border."""
    sizes = torch.tensor([[41, 63]])
    seen = view(torch.zeros(1, 3, 64, 64), sizes, 0.5)
    assert seen.sizes.tolist() == [[20, 32]]
    back = seen.bring_back(torch.tensor([[0.0, 0, 32, 20]]), torch.tensor([0]))
    torch.testing.assert_close(back, torch.tensor([[0.0, 0, 63, 41]]))


def test_tiny_and_no_pictures() -> None:
    assert view(torch.ones(1, 3, 32, 32), torch.tensor([[1, 3]]), 0.1).sizes.tolist() == [[1, 1]]
    nothing = view(torch.zeros(0, 3, 32, 32), torch.zeros(0, 2).long(), 2.0, True)
    assert nothing.images.shape == (0, 3, 32, 32)
    assert nothing.bring_back(torch.zeros(0, 4), torch.zeros(0).long()).shape == (0, 4)
