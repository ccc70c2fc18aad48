"""Against COCO's greedy matching as a loop, and against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detlab.metrics.coco_match import match, ranked_classes
from detlab.metrics.columns import Found, Truth


def columns(
    boxes: list[list[float]], scores: list[float], objects: list[list[float]], ignore: list[bool] | None = None
) -> tuple[Found, Truth]:
    """One image, one class."""
    n, m = len(boxes), len(objects)
    zeros = np.zeros(n, dtype=np.int64)
    found = Found(zeros, zeros, np.array(boxes, dtype=float).reshape(-1, 4), np.array(scores, dtype=float))
    at, box = np.zeros(m, dtype=np.int64), np.array(objects, dtype=float).reshape(-1, 4)
    return found, Truth(at, at, box, np.array([False] * m if ignore is None else ignore, dtype=bool), np.ones(m))


@pytest.mark.parametrize("tau", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop(seed, tau, random_columns, looped_class):
    found, truth = random_columns(seed)
    classes = {ranked.label: ranked for ranked in ranked_classes(found, truth, match(found, truth, tau))}
    for label in range(4):
        expected, positives = looped_class(found, truth, label, tau)
        got = classes[label]
        assert got.positives == positives
        assert got.rows.tolist() == [one.row for one in expected]
        assert got.correct.tolist() == [one.correct for one in expected]
        assert got.score.tolist() == [one.score for one in expected]
        assert got.iou == pytest.approx([one.iou for one in expected], abs=1e-12)
        assert 5 < got.correct.sum() < len(got.rows) - 5


@pytest.mark.parametrize("tau", [0.5, 0.75])
def test_equals_pycocotools(tau, random_columns):
    found, truth = random_columns(11)
    size = lambda box: [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]  # noqa: E731
    annotations = [
        {"id": m + 1, "image_id": int(truth.image[m]), "category_id": int(truth.label[m]), "bbox": size(truth.box[m]),
         "area": 1.0, "iscrowd": int(truth.ignore[m])}
        for m in range(len(truth.label))
    ]  # fmt: skip
    results = [
        {"image_id": int(found.image[n]), "category_id": int(found.label[n]), "bbox": size(found.box[n]),
         "score": float(found.score[n])}
        for n in range(len(found.score))
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images, categories = [{"id": n} for n in range(25)], [{"id": n} for n in range(4)]
        coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array([tau])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    matches = match(found, truth, tau)
    seen = 0
    for one in filter(None, evaluation.evalImgs):
        for number, partner, ignored in zip(one["dtIds"], one["dtMatches"][0], one["dtIgnore"][0]):
            n, on_object = number - 1, partner > 0 and not ignored
            assert matches.truth[n] == (partner - 1 if on_object else -1)
            assert matches.counted[n] == (not ignored)
            seen += 1
    assert seen == len(found.score)
    assert 20 < (~matches.counted).sum() < seen / 2


def test_at_most_100_of_an_image_and_class(random_columns, looped_class):
    found, truth = random_columns(7, images=1, classes=1)
    many = Found(*(np.concatenate([column] * 20) for column in found))
    matches = match(many, truth)
    expected, _ = looped_class(many, truth, 0)
    (got,) = ranked_classes(many, truth, matches)
    assert got.rows.tolist() == [one.row for one in expected]
    assert len(many.score) > 200
    assert matches.counted.sum() <= 100


def test_a_chain_of_second_choices():
    """Each detection but the first finds its favourite taken by a better-scored one and goes on to the next."""
    objects = [[0, 0, 10 + shift, 10] for shift in range(4)]
    boxes = [objects[0]] * 4
    matches = match(*columns(boxes, [0.9, 0.8, 0.7, 0.6], objects))
    assert matches.truth.tolist() == [0, 1, 2, 3]
    assert matches.iou == pytest.approx([1, 10 / 11, 10 / 12, 10 / 13])
    backwards = match(*columns(boxes, [0.6, 0.7, 0.8, 0.9], objects))
    assert backwards.truth.tolist() == [3, 2, 1, 0]


def test_equal_scores_keep_their_order_and_equal_overlaps_take_the_last():
    box = [0, 0, 10, 10]
    assert match(*columns([box, box, box], [0.5, 0.5, 0.5], [box, box])).truth.tolist() == [1, 0, -1]


def test_the_threshold_itself_is_enough():
    found, truth = columns([[0, 0, 10, 5]], [0.9], [[0, 0, 10, 10]])
    assert match(found, truth, 0.5).truth.tolist() == [0]
    assert match(found, truth, 0.5001).truth.tolist() == [-1]


def test_a_crowd_takes_any_number_by_their_own_area():
    crowd, person = [0, 0, 100, 100], [10, 10, 20, 20]
    boxes = [person, person, [10, 10, 20, 20.5], [95, 0, 105, 10], [96, 0, 106, 10], [300, 0, 310, 10]]
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    matches = match(*columns(boxes, scores, [crowd, person], [True, False]))
    assert matches.truth.tolist() == [1, -1, -1, -1, -1, -1]
    assert matches.counted.tolist() == [True, False, False, False, True, True]


def test_nothing_found_nothing_there():
    empty_found, one_object = columns([], [], [[0, 0, 10, 10]])
    one_found, empty_truth = columns([[0, 0, 10, 10]], [0.9], [])
    for found, truth in ((empty_found, one_object), (one_found, empty_truth), (empty_found, empty_truth)):
        matches = match(found, truth)
        assert (matches.truth < 0).all()
        assert matches.counted.all()
        assert len(matches.iou) == len(found.score)
    (ranked,) = ranked_classes(empty_found, one_object, match(empty_found, one_object))
    assert (len(ranked.rows), ranked.positives) == (0, 1)
    assert list(ranked_classes(one_found, empty_truth, match(one_found, empty_truth))) == []
    crowd_only = columns([[0, 0, 10, 10]], [0.9], [[0, 0, 10, 10]], [True])
    assert list(ranked_classes(*crowd_only, match(*crowd_only))) == []
