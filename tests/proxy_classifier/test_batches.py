"""Batches of one size: every crop goes to the size that it has in use, and comes out once."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from detlab.data.dataset import DetectionDataset
from detlab.data.scenes import CLASSES, ScenesSource
from detlab.data.transforms import Pipeline
from detlab.proxy_classifier import ProxyClassifier
from detlab.proxy_classifier.batches import (
    JudgedPictures,
    PictureCrops,
    SameSizeBatches,
    TrainingCrops,
    join_by_size,
    join_pictures,
)
from detlab.proxy_classifier.crops import CropRecipe
from detlab.proxy_classifier.cutting import cut

CENTRES = torch.tensor([[8, 8], [16, 10], [10, 16], [20, 20]])


@pytest.fixture
def crops(tmp_path: Path) -> PictureCrops:
    """Eight scenes, vehicles of interest, signs as the reject class."""
    source = ScenesSource(train=8, val=1, test=1, size=64, cache_dir=str(tmp_path))
    pictures = DetectionDataset(source.load("train")[0], Pipeline(), cache=True, seed=3)
    lookup = torch.tensor([min(i, 6) for i in range(len(CLASSES))])
    return PictureCrops(pictures, lookup, CropRecipe(), 6, torch.tensor([[10.0, 10.0]]), seed=3)


def test_a_crop_in_training_is_the_crop_in_use(crops: PictureCrops) -> None:
    """The size each RoI goes to and its pixels (mirrored or not) are those that the classifier would look at."""
    classifier = ProxyClassifier(list(CLASSES[:6]), CENTRES, largest=20, width=0.25)
    training = TrainingCrops(crops, classifier.sizes, torch.ones(7))
    mirrored = 0
    for row in range(8):
        picture = crops.pictures[row]
        assert picture is not None
        boxes, image = picture.targets.boxes, picture.image[None]
        numbers = classifier.sizes.of(boxes, 64, 64)  # in use
        parts = training[row]
        assert sum(len(labels) for _, labels in parts.values()) == len(boxes)
        for number, (found, labels) in parts.items():
            which = (numbers == number).nonzero().flatten()
            size = tuple(CENTRES[number].tolist())
            expected = cut(image, torch.zeros(len(which), dtype=torch.int64), boxes[which], size)
            assert torch.equal(labels, crops.lookup[picture.targets.labels[which]])
            for one, other in zip(found, expected):
                if not torch.equal(one, other):
                    width = int((other != 0).any(0).any(0).sum())
                    assert torch.equal(one[:, :, :width], other[:, :, :width].flip(-1))
                    mirrored += 1
    assert mirrored > 3


def test_boxes_flagged_ignore_are_no_crops(crops: PictureCrops) -> None:
    crops.pictures.index.ignore[:] = True
    read = crops.read(0, training=True)
    assert read is not None
    assert len(read[1].boxes) == 0


def test_batches_hold_one_size_and_lose_nothing() -> None:
    """Numbered crops: all batches of one size, no crop twice, and those that wait are few."""
    generator = torch.Generator().manual_seed(0)
    parts, number = [], 0
    for _ in range(200):
        part = {}
        for size in (0, 1, 2):
            count = int(torch.randint(0, 4, (), generator=generator))
            if count:
                labels = torch.arange(number, number + count)
                part[size], number = (torch.full((count, 3, 8, 8 + size), float(size)), labels), number + count
        parts.append(part)
    batches = list(SameSizeBatches(parts, batch_size=10, seed=1, pool=2))
    seen = torch.cat([b.labels for b in batches])
    assert len(seen.unique()) == len(seen)
    assert number - len(seen) < 3 * 2 * 10
    for batch in batches:
        assert batch.crops.shape == (10, 3, 8, 8 + int(batch.crops[0, 0, 0, 0]))
    again = list(SameSizeBatches(parts, batch_size=10, seed=1, pool=2))
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(batches, again, strict=True))
    assert sorted(batches[0].labels.tolist()) != list(range(10))  # mixed


def test_rates_take_crops_more_or_less_often(crops: PictureCrops) -> None:
    from detlab.proxy_classifier.clusters import CropSizes

    rates = torch.tensor([3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0])
    training = TrainingCrops(crops, CropSizes(CENTRES), rates)
    taken = torch.cat([labels for row in range(8) for _, labels in training[row].values()])
    objects = sum(int((crops.lookup[crops.pictures.index.targets(row).labels] < 6).sum()) for row in range(8))
    assert (taken < 6).all()
    assert len(taken) == 3 * objects


@pytest.mark.slow
def test_the_stream_from_pictures_is_deterministic_and_ends_never(crops: PictureCrops) -> None:
    from torch.utils.data import DataLoader

    from detlab.data.samplers import InfiniteSampler
    from detlab.proxy_classifier.clusters import CropSizes

    training = TrainingCrops(crops, CropSizes(CENTRES), torch.ones(7))

    def stream() -> list:
        loader = DataLoader(training, 4, sampler=InfiniteSampler(8, 4, seed=2), collate_fn=join_by_size)
        return list(islice(iter(SameSizeBatches(loader, 6, seed=2)), 12))

    first, second = stream(), stream()
    assert all(torch.equal(a.crops, b.crops) for a, b in zip(first, second, strict=True))
    assert len({tuple(b.crops.shape[-2:]) for b in first}) > 1


def test_pictures_of_several_sizes_are_padded_and_unreadable_ones_left_out(crops: PictureCrops) -> None:
    judged = JudgedPictures(crops)
    one, other = judged[0], judged[1]
    assert one is not None
    assert other is not None
    batch = join_pictures([one, None, (other[0][:, :40, :50], other[1])])
    assert batch.images.shape == (2, 3, 64, 64)
    assert (batch.images[1, :, 40:] == 0).all()
    assert batch.image.tolist() == [0] * len(one[1].labels) + [1] * len(other[1].labels)
    assert torch.equal(batch.boxes, torch.cat([one[1].boxes, other[1].boxes]))
    nothing = join_pictures([None])
    assert len(nothing.images) == len(nothing.boxes) == 0
