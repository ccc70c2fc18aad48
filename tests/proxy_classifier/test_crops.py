"""Which crops a picture gives: labelled boxes as they are, and further ones that keep their promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from detlab.ops.boxes import aligned_iou
from detlab.proxy_classifier.crops import BACKGROUND, OBJECT, OTHER, PARTIAL, CropRecipe, Crops, repeats, shaken, whole

SIZE = (96, 128)
REJECT = 3


def picture(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([90.0, 60.0])
    boxes = torch.cat([corners, corners + 8 + torch.rand(count, 2, generator=generator) * 24], 1)
    return boxes, torch.arange(count) % 4


def draw(recipe: CropRecipe, seed: int, training: bool = True, count: int = 6) -> Crops:
    boxes, labels = picture(count)
    sizes = torch.tensor([[20.0, 30.0], [8.0, 8.0], [400.0, 5.0]])
    return recipe.draw(boxes, labels, boxes, REJECT, SIZE, sizes, torch.Generator().manual_seed(seed), training)


def test_by_default_the_labelled_boxes_and_nothing_else() -> None:
    boxes, labels = picture()
    crops = draw(CropRecipe(), 0)
    assert torch.equal(crops.boxes, boxes)
    assert torch.equal(crops.labels, labels)
    assert crops.kinds.tolist() == [OTHER if label == REJECT else OBJECT for label in labels.tolist()]


@pytest.mark.slow
def test_every_kind_keeps_its_promise() -> None:
    recipe = CropRecipe(jitter=0.5, background=2.0, partial=1.5)
    boxes, labels = picture()
    counts = torch.zeros(4)
    moved = 0
    for seed in range(60):
        crops = draw(recipe, seed)
        counts += torch.bincount(crops.kinds, minlength=4)
        x1, y1, x2, y2 = crops.boxes.unbind(1)
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 <= SIZE[1]).all()
        assert (y2 <= SIZE[0]).all()
        assert (x2 > x1).all()
        assert (y2 > y1).all()
        assert torch.equal(crops.labels[:6], labels)
        own = aligned_iou(crops.boxes[:6], boxes)
        assert (own >= 0.7).all()
        moved += int((own < 1).sum())
        iou = box_iou(crops.boxes, boxes)
        assert (iou[crops.kinds == BACKGROUND] < 0.3).all()
        partial = iou[crops.kinds == PARTIAL]
        assert (partial.amax(1) <= 0.4).all()
        assert (partial.amax(1) >= 0.1).all()
        assert (crops.labels[crops.kinds >= BACKGROUND] == REJECT).all()
    objects = int((labels < REJECT).sum())
    assert counts[OBJECT] == 60 * objects
    assert 0.9 < float(counts[BACKGROUND]) / (60 * objects * 2.0) <= 1.0  # a few find no place
    assert 0.8 < float(counts[PARTIAL]) / (60 * objects * 1.5) <= 1.0
    assert abs(moved / 360 - 0.5) < 0.1


def test_judged_crops_are_not_shaken_and_the_same_each_time() -> None:
    recipe = CropRecipe(jitter=1.0, background=1.0, partial=1.0)
    first, second = draw(recipe, 5, training=False), draw(recipe, 5, training=False)
    assert torch.equal(first.boxes[:6], picture()[0])
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_a_picture_without_boxes_gives_background_alone() -> None:
    crops = draw(CropRecipe(jitter=1.0, background=3.0, partial=2.0), 0, count=0)
    assert crops.kinds.tolist() == [BACKGROUND] * 3
    assert draw(CropRecipe(), 0, count=0).boxes.shape == (0, 4)


def test_shaking_stops_at_the_lowest_iou() -> None:
    boxes, _ = picture(50)
    for lowest in (0.7, 0.95, 1.0):
        moved = shaken(boxes, lowest, SIZE, torch.Generator().manual_seed(1))
        assert (aligned_iou(moved, boxes) >= lowest - 1e-6).all()
    assert not torch.equal(shaken(boxes, 0.7, SIZE, torch.Generator().manual_seed(1)), boxes)


def test_fractions_come_out_right_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    assert sum(whole(1.25, generator) for _ in range(4000)) / 4000 == pytest.approx(1.25, abs=0.03)
    assert {whole(2.0, generator) for _ in range(50)} == {2}
    rates = torch.tensor([0.0, 1.0, 0.5, 2.3]).repeat(3000)
    drawn = torch.bincount(repeats(rates, generator) % 4, minlength=4) / 3000
    assert drawn.tolist() == pytest.approx([0, 1, 0.5, 2.3], abs=0.04)


@pytest.mark.parametrize(
    "wrong", [{"jitter": 1.5}, {"background": -1.0}, {"partial_iou": (0.4, 0.1)}, {"jitter_iou": 0.0}]
)
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        CropRecipe(**wrong)
