"""When the views of a crop that are still to come need no look: against all that they could say."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from detlab.proxy_classifier.views import at_least, still_open


def decision(probs: Tensor, threshold: float) -> Tensor:
    """The class that each region gets, of three, or 3: none."""
    highest, winner = probs.max(1)
    return torch.where(highest >= threshold, winner, 3)


def settled(total: Tensor, threshold: float, to_come: int, views: int) -> bool:
    """Whether every way in which the views to come could each be certain of one output leads to the same; any other
    answers lie between these."""
    certain = torch.eye(4, dtype=total.dtype)
    futures = torch.stack([total + certain[list(sure)].sum(0) for sure in product(range(4), repeat=to_come)])
    return len(decision(futures / views, threshold).unique()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.6, 0.8])
@pytest.mark.parametrize(("seen", "to_come"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_views_are_asked_for_as_long_as_they_could_change_the_decision(
    threshold: float, seen: int, to_come: int
) -> None:
    generator = torch.Generator().manual_seed(seen * 10 + to_come)
    total = (torch.randn(300, seen, 4, generator=generator, dtype=torch.float64) * 3).softmax(-1).sum(1)
    views = seen + to_come
    for row, found in zip(total, still_open(total, views * threshold, to_come), strict=True):
        assert bool(found) != settled(row, threshold, to_come, views)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.45, 0.62, 0.83, 0.97])
@pytest.mark.parametrize("views", [1, 2, 3, 4])
def test_what_every_crop_is_shown_is_what_nothing_can_settle_before(views: int, threshold: float) -> None:
    """By the surest answers there are: all of them certain of a class, or of none."""
    shown = at_least(views, threshold)
    certain = torch.eye(4, dtype=torch.float64)
    for seen in range(1, views + 1):
        rows = [seen * certain[0], seen * certain[3]]
        if any(settled(row - 1e-9 * row, threshold, views - seen, views) for row in rows):
            assert shown == seen
            return
    pytest.fail("nothing is ever settled")


def test_without_a_threshold_all_views_are_shown() -> None:
    assert [at_least(views, None) for views in (1, 3, 4)] == [1, 3, 4]
