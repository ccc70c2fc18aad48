from __future__ import annotations

import pytest
import torch

from detlab.models.points import PointGenerator

CPU = torch.device("cpu")


@pytest.mark.parametrize("shrink", [1.0, 0.5])
def test_every_point_by_hand(shrink: float) -> None:
    points = PointGenerator((3, 5), shrink)
    found = points([(2, 3), (1, 1)], CPU)
    cells = [[8.0 * column, 8.0 * row, 8.0 * column + 8, 8.0 * row + 8] for row in range(2) for column in range(3)]
    assert found.boxes.tolist() == [*cells, [0, 0, 32, 32]]
    assert found.level.tolist() == [0] * 6 + [1]
    assert found.level_sizes == (6, 1)
    assert points.per_location == 1
    assert points.shrink == shrink


@pytest.mark.parametrize("arguments", [{"shrink": 0.0}, {"levels": ()}, {"levels": (-1, 2)}])
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        PointGenerator(**arguments)  # type: ignore[arg-type]
