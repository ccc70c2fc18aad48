"""Against a loop written from the development kit's description."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detlab.metrics.columns import Found, Truth
from detlab.metrics.voc_ap import Points, average_precision, judge, voc_ap


def found(*rows: tuple[int, int, float, list[float]]) -> Found:
    """(image, label, score, box) each."""
    return Found(
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.int64),
        np.array([r[3] for r in rows], dtype=np.float64).reshape(-1, 4),
        np.array([r[2] for r in rows], dtype=np.float64),
    )


def truth(*rows: tuple[int, int, bool, list[float]]) -> Truth:
    """(image, label, difficult, box) each."""
    return Truth(
        np.array([r[0] for r in rows], dtype=np.int64),
        np.array([r[1] for r in rows], dtype=np.int64),
        np.array([r[3] for r in rows], dtype=np.float64).reshape(-1, 4),
        np.array([r[2] for r in rows], dtype=bool),
        np.ones(len(rows)),
    )


def iou(a: np.ndarray, b: np.ndarray) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(w, 0) * max(h, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def slow_ap(f: Found, t: Truth, label: int, points: Points) -> float:
    positives = sum(1 for n in range(len(t.label)) if t.label[n] == label and not t.ignore[n])
    if not positives:
        return math.nan
    taken: set[int] = set()
    tp = fp = 0
    curve = []
    mine = [n for n in range(len(f.label)) if f.label[n] == label]
    for n in sorted(mine, key=lambda n: -f.score[n]):
        best, chosen = 0.5, -1
        for m in range(len(t.label)):
            if t.label[m] == label and t.image[m] == f.image[n]:
                overlap = iou(f.box[n], t.box[m])
                if overlap > best or (overlap >= best and chosen < 0):
                    best, chosen = overlap, m
        if chosen >= 0 and t.ignore[chosen]:
            continue
        if chosen >= 0 and chosen not in taken:
            taken.add(chosen)
            tp += 1
        else:
            fp += 1
        curve.append((tp / positives, tp / (tp + fp)))
    if points == "11":
        return sum(max((p for r, p in curve if r >= k / 10 - 1e-9), default=0.0) for k in range(11)) / 11
    area, before = 0.0, 0.0
    for n, (recall, _) in enumerate(curve):
        area += (recall - before) * max(p for _, p in curve[n:])
        before = recall
    return area


@pytest.mark.parametrize("points", ["area", "11"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_slow_loop(seed: int, points: Points) -> None:
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = rng.integers(0, 12, (count, 2))  # whole numbers on a small grid: many equal overlaps
        return np.concatenate([corner, corner + rng.integers(3, 9, (count, 2))], 1).astype(np.float64)

    t = Truth(rng.integers(0, 6, 60), rng.integers(0, 3, 60), boxes(60), rng.random(60) < 0.25, np.ones(60))
    far = Found(rng.integers(0, 7, 100), rng.integers(0, 4, 100), boxes(100), rng.random(100) * 0.8)
    near = Found(t.image, t.label, t.box + rng.integers(0, 2, (60, 4)), rng.random(60))
    f = Found(*(np.concatenate(columns) for columns in zip(far, near)))
    result = voc_ap(f, t, 5, points=points)
    expected = [slow_ap(f, t, label, points) for label in range(5)]
    assert result == pytest.approx(expected, nan_ok=True)
    assert np.isnan(result[3:]).all()
    assert (result[:3] > 0.1).all()


def test_difficult_absorbs_any_number() -> None:
    t = truth((0, 0, True, [0, 0, 10, 10]), (0, 0, False, [50, 50, 60, 60]))
    f = found((0, 0, 0.9, [0, 0, 10, 10]), (0, 0, 0.8, [0, 0, 10, 9]), (0, 0, 0.7, [50, 50, 60, 60]))
    assert voc_ap(f, t, 1)[0] == 1.0


def test_difficult_overlap_is_plain_iou() -> None:
    """A small detection inside a difficult object is false, while COCO's crowd would swallow it."""
    t = truth((0, 0, True, [0, 0, 100, 100]), (0, 0, False, [200, 0, 210, 10]))
    f = found((0, 0, 0.9, [0, 0, 10, 10]), (0, 0, 0.8, [200, 0, 210, 10]))
    assert voc_ap(f, t, 1)[0] == 0.5


def test_duplicate_is_false() -> None:
    right, counted = judge(
        found((0, 0, 0.9, [0, 0, 10, 9]), (0, 0, 0.8, [0, 0, 10, 10])), truth((0, 0, False, [0, 0, 10, 10])), 0.5
    )
    assert right.tolist() == [True, False]
    assert counted.all()


def test_nothing_found_and_nothing_there() -> None:
    t = truth((0, 0, False, [0, 0, 1, 1]))
    assert voc_ap(found(), t, 2).tolist()[0] == 0.0
    assert np.isnan(voc_ap(found(), truth(), 2)).all()
    assert np.isnan(voc_ap(found((0, 0, 0.5, [0, 0, 1, 1])), truth(), 1)).all()


def test_worked_curve() -> None:
    recall, precision = np.array([0.25, 0.5, 0.5, 0.75]), np.array([1.0, 1.0, 2 / 3, 0.75])
    assert average_precision(recall, precision) == pytest.approx(0.5 * 1 + 0.25 * 0.75)
    assert average_precision(recall, precision, "11") == pytest.approx((6 * 1 + 2 * 0.75) / 11)
