from __future__ import annotations

import numpy as np
import pytest

from detlab.metrics.columns import Found, Truth, box_area, pairs


def columns(seed: int) -> tuple[Found, Truth]:
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = rng.uniform(0, 20, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(0, 20, (count, 2))], 1)

    found = Found(rng.integers(0, 4, 50), rng.integers(0, 3, 50), boxes(50), rng.random(50))
    return found, Truth(rng.integers(0, 4, 30), rng.integers(0, 3, 30), boxes(30), np.zeros(30, bool), np.ones(30))


@pytest.mark.parametrize("at_most", [1, 7, 1000])
def test_pairs_equal_double_loop(at_most: int) -> None:
    found, truth = columns(0)
    seen = {}
    for block in pairs(found, truth, at_most):
        seen.update(zip(zip(block.found.tolist(), block.truth.tolist()), block.iou.tolist()))
    expected = {}
    for n in range(50):
        for m in range(30):
            if found.image[n] == truth.image[m] and found.label[n] == truth.label[m]:
                a, b = found.box[n], truth.box[m]
                overlap = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
                expected[n, m] = overlap / (box_area(a[None])[0] + box_area(b[None])[0] - overlap)
    assert seen == pytest.approx(expected)
    assert list(seen) == sorted(seen)
    assert max(expected.values()) > 0.3


def test_blocks_stay_small_and_whole() -> None:
    found, truth = columns(1)
    blocks = [block for block in pairs(found, truth, 10) if len(block.found)]
    assert len(blocks) > 3
    assert all(len(block.found) <= 20 for block in blocks)
    rows = [set(block.found.tolist()) for block in blocks]
    assert sum(len(r) for r in rows) == len(set.union(*rows))


def test_boxes_without_area() -> None:
    zero = np.zeros((1, 4))
    index = np.zeros(1, dtype=np.int64)
    (block,) = pairs(Found(index, index, zero, np.ones(1)), Truth(index, index, zero, np.zeros(1, bool), np.zeros(1)))
    assert block.iou.tolist() == [0.0]


def test_with_a_crowd_it_is_the_share_of_the_detection() -> None:
    index = np.zeros(1, dtype=np.int64)
    found = Found(index, index, np.array([[0.0, 0, 10, 10]]), np.ones(1))
    truth = Truth(index, index, np.array([[4.0, 0, 100, 100]]), np.ones(1, bool), np.ones(1))
    (block,) = pairs(found, truth, crowd=True)
    assert block.iou.tolist() == [0.6]
