from __future__ import annotations

import numpy as np
import pytest
import torch

from detlab.structures import Detections, Targets
from detlab.visualization.compare import ground_truth_beside_predictions
from detlab.visualization.style import colour, rgb

TARGETS = Targets.of(torch.tensor([[10.0, 10, 40, 40]]), torch.tensor([0]), 3)
FOUND = Detections(torch.tensor([[10.0, 10, 40, 40], [5, 5, 20, 20]]), torch.tensor([0.9, 0.1]), torch.tensor([1, 2]))


def shades(picture: np.ndarray, label: int) -> int:
    return int((picture == np.array(rgb(colour(label)))).all(-1).sum())


def test_left_is_truth_and_right_is_found() -> None:
    image = np.full((64, 64, 3), 128, dtype=np.uint8)
    picture = ground_truth_beside_predictions(image, TARGETS, FOUND, ["x", "y", "z"], title="one.png")
    panels = picture[:500]  # without the legend
    left, right = np.split(panels, [picture.shape[1] // 2], axis=1)
    assert shades(left, 0) > 100
    assert shades(right, 1) > 100
    assert shades(left, 1) == shades(right, 0) == 0
    assert shades(picture, 2) == 0  # below the threshold: neither drawn nor in the legend
    assert shades(ground_truth_beside_predictions(image, TARGETS, FOUND, "xyz", score_threshold=0.05), 2) > 100


def test_small_pictures_are_enlarged_and_large_ones_reduced() -> None:
    for size in ((32, 48), (2000, 3000)):
        picture = ground_truth_beside_predictions(np.zeros((*size, 3), dtype=np.uint8), TARGETS, FOUND, "xyz")
        assert 900 < picture.shape[1] < 1100
        assert 300 < picture.shape[0] < 500


@pytest.mark.parametrize("size", [(1, 1), (4, 900), (900, 4)])
def test_empty_and_odd(size: tuple[int, int]) -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    empty = Targets.of(torch.zeros(0, 4), torch.zeros(0), 1)
    picture = ground_truth_beside_predictions(np.zeros((*size, 3), dtype=np.uint8), empty, nothing, ["x"])
    assert picture.dtype == np.uint8
    assert picture.ndim == 3


def test_many_classes_wrap_in_the_legend() -> None:
    names = [f"a rather long class name {k}" for k in range(30)]
    targets = Targets.of(torch.rand(30, 4) * 20, torch.arange(30), 30)
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    few = ground_truth_beside_predictions(image, TARGETS, FOUND, names)
    many = ground_truth_beside_predictions(image, targets, FOUND, names)
    assert many.shape[0] > few.shape[0] + 100
    assert many.shape[1] == few.shape[1]
