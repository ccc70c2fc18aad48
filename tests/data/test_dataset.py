import io
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from PIL import Image

from detlab.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DetectionDataset, collate
from detlab.data.index import AnnotationIndex
from detlab.data.transforms import Fixed, Longest, Pipeline, flip, scratch
from detlab.errors import UserError

SIZES = [(40, 60), (50, 30), (64, 64)]  # height, width


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{number}.png")
    return arrays


@pytest.fixture
def index(tmp_path, pictures):  # noqa: ARG001
    return AnnotationIndex.build(
        ["a", "b"],
        paths=[str(tmp_path / f"{number}.png") for number in range(3)],
        widths=[60, 30, 64],
        heights=[40, 50, 64],
        ids=[7, 8, 9],
        box_images=[0, 0, 2],
        boxes=[[0, 0, 30, 20], [10, 10, 10, 30], [4, 8, 60, 64]],
        labels=[1, 0, 1],
        ignore=[False, False, True],
        areas=[500, 0, 1234],
    )


def test_a_sample_is_the_normalised_picture_with_its_targets(index, pictures):
    sample = DetectionDataset(index, Pipeline())[0]
    expected = (pictures[0].transpose(2, 0, 1) - np.array(IMAGENET_MEAN)[:, None, None]) / np.array(IMAGENET_STD)[
        :, None, None
    ]
    np.testing.assert_allclose(sample.image.numpy(), expected, atol=1e-5)
    assert sample.image.dtype == torch.float32
    assert sample.targets.boxes.tolist() == [[0, 0, 30, 20]]  # the box without area is gone
    assert sample.targets.labels.tolist() == [1]
    assert sample.targets.labels.dtype == torch.int64
    assert sample.targets.annotated.tolist() == [True, True]
    assert (sample.scale, sample.original_size, sample.image_id) == ((1.0, 1.0), (40, 60), 7)
    assert sample.original is None
    assert sample.areas is None


def test_at_evaluation_the_annotations_come_along_untouched(index):
    dataset = DetectionDataset(index, Pipeline(resize=Fixed((80, 30))), evaluation=True)
    sample = dataset[0]
    assert sample.original.boxes.tolist() == [[0, 0, 30, 20], [10, 10, 10, 30]]
    assert sample.areas.tolist() == [500, 0]
    assert sample.scale == (0.5, 2.0)
    torch.testing.assert_close(sample.targets.boxes, torch.tensor([[0.0, 0, 15, 40]]))
    assert len(dataset[1].targets) == len(dataset[1].original) == len(dataset[1].areas) == 0
    assert dataset[2].targets.ignore.tolist() == [True]


def test_annotations_of_the_index_are_never_written_to(index):
    before = index.boxes.copy()
    dataset = DetectionDataset(index, Pipeline(), evaluation=True)
    for row in range(3):
        sample = dataset[row]
        sample.targets.boxes.fill_(-1)
        sample.original.boxes.fill_(-1)
        sample.areas.fill_(-1)
    np.testing.assert_array_equal(index.boxes, before)
    assert index.areas.tolist() == [500, 0, 1234]


def test_augmentation_follows_the_position_and_the_seed(index):
    dataset = DetectionDataset(index, Pipeline(scratch(), Longest(48)), seed=1)
    again = DetectionDataset(index, Pipeline(scratch(), Longest(48)), seed=1)
    other = DetectionDataset(index, Pipeline(scratch(), Longest(48)), seed=2)
    views = {position: dataset[position, 0] for position in range(8)}
    for position in reversed(range(8)):
        assert torch.equal(views[position].image, again[position, 0].image)
        assert torch.equal(views[position].targets.boxes, again[position, 0].targets.boxes)
        view = other[position, 0].image
        assert view.shape != views[position].image.shape or not torch.equal(view, views[position].image)
    assert len({view.image.numpy().tobytes() for view in views.values()}) == 8


def test_cached_pictures_give_the_same_samples_without_their_files(index, tmp_path):
    from_disk = DetectionDataset(index, Pipeline(flip(), Longest(48)))
    cached = DetectionDataset(index, Pipeline(flip(), Longest(48)), cache=True)
    samples = [from_disk[position, position % 3] for position in range(9)]
    for number in range(3):
        (tmp_path / f"{number}.png").unlink()
    for position, sample in enumerate(samples):
        assert torch.equal(cached[position, position % 3].image, sample.image)
    with pytest.raises(UserError, match="no such image"):
        from_disk[0]


def test_a_cache_larger_than_memory_is_refused(index):
    huge = AnnotationIndex.build(
        index.classes,
        paths=["x"] * 1000,
        widths=[2**20] * 1000,
        heights=[2**20] * 1000,
        box_images=[],
        boxes=[],
        labels=[],
    )
    with pytest.raises(UserError, match="do not cache"):
        DetectionDataset(huge, Pipeline(), cache=True)


@pytest.mark.parametrize("cache", [False, True])
def test_unreadable_pictures_are_named_or_skipped(index, tmp_path, cache):
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    with pytest.raises(UserError, match=r"1\.png"):
        DetectionDataset(index, Pipeline(), cache=cache)[1]
    for policy in ("skip_box", "skip_image"):
        dataset = DetectionDataset(index, Pipeline(), on_error=policy, cache=cache)
        assert dataset[1] is None
        batch = collate([dataset[row] for row in range(3)])
        assert (len(batch), batch.skipped, batch.image_ids.tolist()) == (2, 1, [7, 9])


def test_collate_pads_at_right_and_bottom_with_zero(index):
    dataset = DetectionDataset(index, Pipeline(), evaluation=True)
    samples = [dataset[row] for row in range(3)]
    batch = collate(samples)
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.images.is_contiguous()
    assert batch.sizes.tolist() == [list(size) for size in SIZES]
    assert batch.original_sizes.tolist() == [list(size) for size in SIZES]
    assert batch.scales.tolist() == [[1, 1]] * 3
    assert batch.image_ids.tolist() == [7, 8, 9]
    for picture, sample, (height, width) in zip(batch.images, samples, SIZES):
        assert torch.equal(picture[:, :height, :width], sample.image)
        assert picture[:, height:].abs().sum() == picture[:, :, width:].abs().sum() == 0
    assert [len(targets) for targets in batch.originals] == [2, 0, 1]
    assert [areas.tolist() for areas in batch.areas] == [[500, 0], [], [1234]]


@pytest.mark.parametrize(("divisor", "expected"), [(1, (3, 3, 64, 64)), (48, (3, 3, 96, 96)), (128, (3, 3, 128, 128))])
def test_collate_pads_to_a_multiple(index, divisor, expected):
    dataset = DetectionDataset(index, Pipeline())
    assert collate([dataset[row] for row in range(3)], divisor).images.shape == expected


def test_a_batch_of_nothing_but_unreadable_pictures_is_empty():
    batch = collate([None, None])
    assert (len(batch), batch.skipped, batch.targets) == (0, 2, [])
    assert batch.sizes.shape == batch.scales.shape == batch.original_sizes.shape == (0, 2)


def test_training_batches_carry_no_originals(index):
    batch = collate([DetectionDataset(index, Pipeline())[0]])
    assert batch.originals is None
    assert batch.areas is None


def test_only_the_pictures_of_a_batch_travel_in_shared_memory(index, monkeypatch):
    shared = []
    reduce = ForkingPickler._extra_reducers[torch.UntypedStorage]
    monkeypatch.setitem(
        ForkingPickler._extra_reducers, torch.UntypedStorage, lambda item: shared.append(item.nbytes()) or reduce(item)
    )
    dataset = DetectionDataset(index, Pipeline(), evaluation=True)
    batch = collate([dataset[row] for row in range(3)])
    ForkingPickler(io.BytesIO()).dump(batch)
    assert shared == [batch.images.nbytes]
    ForkingPickler(io.BytesIO()).dump(batch.sizes)
    assert len(shared) == 2  # a bare tensor would


@pytest.mark.parametrize("evaluation", [False, True])
def test_batches_survive_the_way_from_a_worker(index, evaluation):
    dataset = DetectionDataset(index, Pipeline(), evaluation=evaluation)
    batch = collate([dataset[row] for row in range(3)])
    loader = torch.utils.data.DataLoader(dataset, 3, num_workers=1, collate_fn=collate)
    (received,) = list(loader)
    for name in ("images", "sizes", "scales", "original_sizes", "image_ids"):
        assert torch.equal(getattr(received, name), getattr(batch, name))
    for mine, theirs in zip(batch.targets + (batch.originals or []), received.targets + (received.originals or [])):
        for name in ("boxes", "labels", "weights", "ignore", "annotated"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name))
            assert getattr(mine, name).dtype == getattr(theirs, name).dtype
    assert (received.areas is None) == (not evaluation)
    received.targets[0].boxes.add_(1)  # what arrives may be written to


@pytest.mark.parametrize(("mean", "std"), [((1, 2), (1, 1, 1)), ((0, 0, 0), (1, 0, 1))])
def test_bad_normalisation(index, mean, std):
    with pytest.raises(ValueError, match="three means"):
        DetectionDataset(index, Pipeline(), mean, std)
