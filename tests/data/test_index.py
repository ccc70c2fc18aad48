"""The index against lists of lists, and that forked readers do not copy it."""

from __future__ import annotations

import gc
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from detlab.data.index import AnnotationIndex
from detlab.errors import UserError


def make(counts: list[int], seed: int = 0, classes: int = 3) -> AnnotationIndex:
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(counts)), counts)
    low = rng.random((len(owners), 2)) * 50
    boxes = np.concatenate([low, low + 1 + rng.random((len(owners), 2)) * 40], 1)
    return AnnotationIndex.build(
        [f"c{i}" for i in range(classes)],
        paths=[f"pictures/{i}.jpg" for i in range(len(counts))],
        widths=np.full(len(counts), 100),
        heights=np.arange(len(counts)) + 90,
        ids=np.arange(len(counts)) * 7 + 3,
        box_images=owners,
        boxes=boxes,
        labels=rng.integers(0, classes, len(owners)),
        ignore=rng.random(len(owners)) < 0.3,
    )


def as_lists(index: AnnotationIndex) -> list[tuple[object, ...]]:
    """Image by image, slowly: what an index says."""
    result: list[tuple[object, ...]] = []
    for row in range(len(index)):
        at = range(index.offsets[row], index.offsets[row + 1])
        boxes = [(*index.boxes[b].tolist(), index.labels[b], index.ignore[b], index.areas[b]) for b in at]
        result.append((index.paths[row], index.widths[row], index.heights[row], index.ids[row], boxes))
    return result


COUNTS = [2, 0, 3, 1, 0, 0, 4]


def test_build_groups_boxes_given_in_any_order() -> None:
    index = AnnotationIndex.build(
        ["a", "b"],
        paths=["x", "y", "z"],
        widths=[9, 9, 9],
        heights=[9, 9, 9],
        box_images=[2, 0, 2, 0],
        boxes=[[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3], [0, 0, 4, 4]],
        labels=[0, 1, 1, 0],
    )
    assert index.offsets.tolist() == [0, 2, 2, 4]
    assert index.boxes[:, 2].tolist() == [2, 4, 1, 3]
    assert index.labels.tolist() == [1, 0, 0, 1]
    assert index.areas.tolist() == [4, 16, 1, 9]
    assert index.box_images.tolist() == [0, 0, 2, 2]
    assert index.class_ids.tolist() == [1, 2]


def test_columns_hold_no_python_objects() -> None:
    index = make(COUNTS)
    for name, column in vars(index).items():
        if isinstance(column, np.ndarray):
            assert column.dtype != object, name
            assert column.flags.c_contiguous, name


@pytest.mark.parametrize("rows", [[], [0], [6, 2, 0], [1, 4], [2, 2], [True, False, True, False, False, True, False]])
def test_select_equals_picking_from_lists(rows: list[int]) -> None:
    index = make(COUNTS)
    chosen = np.array(rows, bool) if rows and isinstance(rows[0], bool) else np.array(rows, np.int64)
    expected = [as_lists(index)[i] for i in np.arange(len(index))[chosen]]
    assert as_lists(index.select(chosen)) == expected


def test_select_boxes_keeps_every_image() -> None:
    index = make(COUNTS)
    keep = np.arange(len(index.boxes)) % 2 == 1
    thinned = index.select_boxes(keep)
    assert len(thinned) == len(index)
    expected = [[b for b in range(index.offsets[r], index.offsets[r + 1]) if keep[b]] for r in range(len(index))]
    assert thinned.counts.tolist() == [len(boxes) for boxes in expected]
    np.testing.assert_array_equal(thinned.boxes, index.boxes[[b for boxes in expected for b in boxes]])


def test_split_is_a_partition_that_the_seed_repeats() -> None:
    index = make([1] * 50)
    first, second = index.split(0.3, seed=4)
    assert (len(first), len(second)) == (15, 35)
    assert sorted([*first.ids, *second.ids]) == index.ids.tolist()
    assert first.ids.tolist() == sorted(first.ids)
    assert index.split(0.3, seed=4)[0].ids.tolist() == first.ids.tolist()
    assert index.split(0.3, seed=5)[0].ids.tolist() != first.ids.tolist()
    assert [len(part) for part in make([1, 1]).split(0.01, 0)] == [1, 1]


def test_save_and_load_give_equal_columns(tmp_path: Path) -> None:
    index = make(COUNTS)
    index.save(tmp_path / "deep" / "index.npz")
    again = AnnotationIndex.load(tmp_path / "deep" / "index.npz")
    for name, column in vars(index).items():
        other = getattr(again, name)
        if isinstance(column, np.ndarray):
            assert column.dtype == other.dtype, name
            np.testing.assert_array_equal(column, other)
        else:
            assert column == other, name
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["index.npz"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken"])
def test_loading_something_else_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: not an annotation index"):
        AnnotationIndex.load(tmp_path / "x.npz")


def test_loading_refuses_pickled_objects_and_missing_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", format=np.array([{"a": 1}], object))
    with pytest.raises(UserError, match="not an annotation index"):
        AnnotationIndex.load(tmp_path / "x.npz")
    with pytest.raises(UserError, match="no such annotation index"):
        AnnotationIndex.load(tmp_path / "y.npz")


def test_targets_have_memory_of_their_own() -> None:
    index = make(COUNTS)
    targets = index.targets(2)
    assert len(targets) == 3
    assert targets.labels.dtype == torch.int64
    before = index.boxes.copy()
    targets.boxes += 1
    np.testing.assert_array_equal(index.boxes, before)
    assert len(index.targets(1)) == 0
    assert index.targets(1).boxes.shape == (0, 4)


def test_targets_know_what_their_source_annotated() -> None:
    index = AnnotationIndex.build(
        ["a", "b"],
        paths=["x", "y"],
        widths=[5, 5],
        heights=[5, 5],
        box_images=[],
        boxes=[],
        labels=[],
        sources=[1, 0],
        source_names=["first", "second"],
        annotated=[[True, False], [False, True]],
    )
    assert index.targets(0).annotated.tolist() == [False, True]
    assert index.targets(1).annotated.tolist() == [True, False]


def test_an_index_without_images_works() -> None:
    index = make([])
    assert len(index) == 0
    assert len(index.select([])) == 0
    assert index.describe() == "0 images, 0 boxes, 3 classes (c0, c1, c2)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 3]}, "labels in 0..2, got 0..3"),
        ({"labels": [-1, 0]}, "labels in 0..2"),
        ({"labels": [0]}, "2 labels, got 1"),
        ({"box_images": [0, 2]}, "box_images in 0..1"),
        ({"widths": [1]}, "2 widths, got 1"),
        ({"sources": [0, 1]}, "sources in 0..0"),
        ({"classes": ["a", "a", "b"]}, "distinct class names"),
        ({"class_ids": [1]}, "3 class_ids"),
    ],
)
def test_build_refuses_contradictions(change: dict[str, list[int]], message: str) -> None:
    arguments: dict[str, object] = {
        "classes": ["a", "b", "c"],
        "paths": ["x", "y"],
        "widths": [9, 9],
        "heights": [9, 9],
        "box_images": [0, 1],
        "boxes": [[0, 0, 1, 1], [0, 0, 2, 2]],
        "labels": [0, 1],
    }
    with pytest.raises(ValueError, match=message):
        AnnotationIndex.build(**(arguments | change))  # type: ignore[arg-type]


def test_select_refuses_rows_and_masks_that_do_not_fit() -> None:
    index = make(COUNTS)
    with pytest.raises(ValueError, match=r"rows in 0\.\.6"):
        index.select([7])
    with pytest.raises(ValueError, match="mask of 7 images"):
        index.select(np.ones(3, bool))
    with pytest.raises(ValueError, match="bool mask"):
        index.select_boxes(np.ones(3, bool))


def _private_dirty_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory per page needs Linux")
def test_four_forked_workers_do_not_copy_the_columns() -> None:
    index = make([8] * 100_000)
    size = sum(column.nbytes for column in vars(index).values() if isinstance(column, np.ndarray)) / 2**20
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def read_everything() -> None:
        gc.disable()  # a collection writes to every object of the test session, whatever the index holds
        before = _private_dirty_mb()
        total = sum(float(index.boxes[index.boxes_of(row)].sum()) for row in range(0, len(index), 3))
        total += sum(len(str(path)) for path in index.paths[::7])
        for column in vars(index).values():
            if isinstance(column, np.ndarray):
                total += int(column.view(np.uint8).max())
        queue.put((_private_dirty_mb() - before, total))

    workers = [context.Process(target=read_everything) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    grown = [queue.get()[0] for _ in workers]
    assert size > 25
    assert max(grown) < size / 20, f"a worker's private memory grew by {max(grown):.1f} MB of {size:.1f} MB"
