"""Detections as labels that annotators did not give, against a loop over images and detections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detlab.data.index import AnnotationIndex
from detlab.metrics.columns import Found
from detlab.pseudo_labels.detected import SMALLEST, unlabelled, with_labels
from detlab.structures import Detections

CLASSES = ("ant", "bee", "cow")


def make(seed: int, images: int = 7) -> tuple[AnnotationIndex, dict[int, Detections]]:
    """Images of two sources, one labelled for ants alone, one for all; ids are not rows. Many detections lie near a
    box, some over the edge; one image has none, one was not looked at."""
    rng = np.random.default_rng(seed)
    owners = np.sort(rng.integers(0, images, 20))
    low = rng.uniform(0, 60, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 40, (20, 2))], 1).clip(0, 90)
    sources = np.arange(images) % 2
    index = AnnotationIndex.build(
        CLASSES, paths=[f"{row}.jpg" for row in range(images)], widths=[90] * images, heights=[90] * images,
        box_images=owners, boxes=boxes, labels=np.where(sources[owners] == 0, 0, rng.integers(0, 3, 20)),
        ignore=rng.random(20) < 0.2, areas=rng.uniform(1, 9, 20), ids=rng.permutation(100)[:images],
        sources=sources, source_names=("one", "two"), annotated=[[1, 0, 0], [1, 1, 1]], class_ids=[7, 3, 5],
    )  # fmt: skip
    generator, found = torch.Generator().manual_seed(seed), {}
    for row, image in enumerate(index.ids.tolist()[:-1]):
        near = index.boxes[index.boxes_of(row)] + rng.uniform(-3, 3, (index.counts[row], 4))
        wild = rng.uniform(-20, 110, (0 if row == 2 else 8, 4))
        wild[:, 2:] = wild[:, :2] + rng.uniform(-2, 30, (len(wild), 2))
        both = torch.from_numpy(np.concatenate([near, wild])).float()
        found[image] = Detections(
            both, torch.rand(len(both), generator=generator), torch.randint(0, 4, (len(both),), generator=generator)
        )
    return index, found


def literal(index, found, to, score, max_iou, missing):
    rows = []
    for row, image in enumerate(index.ids.tolist()):
        for number in range(len(found[image].scores) if image in found else 0):
            label = to[int(found[image].labels[number])]
            x1, y1, x2, y2 = found[image].boxes[number].double().tolist()
            x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, 90), min(y2, 90)
            if float(found[image].scores[number]) < score or label < 0 or x2 - x1 < SMALLEST or y2 - y1 < SMALLEST:
                continue
            if missing and index.annotated[index.sources[row], label]:
                continue
            labelled = False
            for box in range(index.offsets[row], index.offsets[row + 1]):
                a1, b1, a2, b2 = index.boxes[box].astype(float)
                inter = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
                iou = inter / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter)
                labelled |= max_iou is not None and index.labels[box] == label and iou > max_iou
            if not labelled:
                rows.append((row, label, x1, y1, x2, y2, float(found[image].scores[number])))
    return np.array(rows, np.float64).reshape(-1, 7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("max_iou", "missing"), [(0.5, True), (0.5, False), (0.2, False), (None, False)])
def test_against_a_loop(seed, max_iou, missing):
    index, found = make(seed)
    to = np.array([2, -1, 1, 0])
    got = unlabelled(index, found, to, score=0.3, max_iou=max_iou, missing=missing)
    expected = literal(index, found, to, 0.3, max_iou, missing)
    assert len(expected) >= 3
    np.testing.assert_array_equal(got.image, expected[:, 0])
    np.testing.assert_array_equal(got.label, expected[:, 1])
    np.testing.assert_allclose(got.box, expected[:, 2:6])
    np.testing.assert_allclose(got.score, expected[:, 6])


def test_what_overlaps_a_label_of_its_class_is_labelled_already():
    """IoU with the ant's box: 1, 0.5 (kept: not more than 0.5), 0; the same boxes as a bee are another object."""
    index = AnnotationIndex.build(
        CLASSES, paths=["a.jpg"], widths=[90], heights=[90], box_images=[0], boxes=[[0, 0, 10, 10]], labels=[0]
    )
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]]).repeat(2, 1)
    found = {0: Detections(boxes, torch.ones(6), torch.tensor([0, 0, 0, 1, 1, 1]))}
    got = unlabelled(index, found, np.arange(3), score=0.5, missing=False)
    assert got.label.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(got.box[:2], boxes[1:3].numpy())


def test_nothing_found_and_no_image():
    index, _ = make(0)
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    for looked in ({}, {int(index.ids[0]): nothing}):
        found = unlabelled(index, looked, np.arange(3), score=0.5)
        assert len(found.image) == 0
        same = with_labels(index, found)
        assert same.scores.shape == (20,)
        assert np.isnan(same.scores).all()
        for name, column in vars(index).items():
            np.testing.assert_array_equal(getattr(same.index, name), column, err_msg=name)


def test_added_labels_stand_behind_those_of_the_annotators():
    index, detections = make(1)
    found = unlabelled(index, detections, np.array([0, 1, 2, -1]), score=0.2)
    assert not index.annotated[index.sources[found.image], found.label].any()
    order = np.random.default_rng(0).permutation(len(found.image))  # in whatever order they come
    labelled = with_labels(index, Found(*(column[order] for column in found)))
    new = labelled.index
    for name in ("paths", "widths", "heights", "ids", "sources", "annotated", "class_ids"):
        np.testing.assert_array_equal(getattr(new, name), getattr(index, name), err_msg=name)
    assert new.classes == index.classes
    for row in range(len(index)):
        at, own = new.boxes_of(row), index.boxes_of(row)
        count = own.stop - own.start
        for name in ("boxes", "labels", "ignore", "areas"):
            np.testing.assert_array_equal(getattr(new, name)[at][:count], getattr(index, name)[own], err_msg=name)
        assert np.isnan(labelled.scores[at][:count]).all()
        mine = order[found.image[order] == row]
        np.testing.assert_allclose(new.boxes[at][count:], found.box[mine], rtol=1e-6)
        np.testing.assert_allclose(labelled.scores[at][count:], found.score[mine], rtol=1e-6)
        assert new.labels[at][count:].tolist() == found.label[mine].tolist()
        assert not new.ignore[at][count:].any()
        sides = new.boxes[at][count:, 2:] - new.boxes[at][count:, :2]
        np.testing.assert_allclose(new.areas[at][count:], sides.prod(1), rtol=1e-5)
