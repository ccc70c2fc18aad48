"""Sizes of crops: k-means against its own definition, and the same way to a size in training and in use."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detlab.proxy_classifier.clusters import CropSizes, fit_centres, limited, nearest


def test_clear_groups_are_found_and_rounded_up() -> None:
    rng = np.random.default_rng(0)
    groups = [(10.2, 30.0), (40.0, 12.5), (50.0, 50.0)]
    sizes = np.concatenate([np.array(g) + rng.uniform(-0.1, 0.1, (50, 2)) for g in groups])
    centres = fit_centres(sizes, 3)
    assert sorted(centres.tolist()) == sorted([[int(np.ceil(w)), int(np.ceil(h))] for w, h in
                                               (sizes[i : i + 50].mean(0) for i in (0, 50, 100))])  # fmt: skip
    assert centres.prod(1).tolist() == sorted(centres.prod(1).tolist())
    assert torch.equal(centres, fit_centres(sizes, 3))
    spread = rng.uniform(5, 90, (300, 2))
    assert torch.equal(fit_centres(spread, 8, seed=4), fit_centres(spread, 8, seed=4))
    assert not torch.equal(fit_centres(spread, 8, seed=4), fit_centres(spread, 8, seed=5))


def test_few_or_tiny_sizes() -> None:
    assert fit_centres([[20, 30]], 8).tolist() == [[20, 30]]
    assert fit_centres([[20, 30], [20, 30], [2, 3]], 8).tolist() == [[8, 8], [20, 30]]
    assert fit_centres([[1, 1], [2, 2], [3, 3]], 2).tolist() == [[8, 8]]


@pytest.mark.parametrize("sizes", [np.zeros((0, 2)), [[0, 5]], [[np.nan, 5]]])
def test_impossible_sizes_are_refused(sizes: object) -> None:
    with pytest.raises(ValueError, match="at least one positive"):
        fit_centres(sizes, 2)  # type: ignore[arg-type]


def test_nearest_equals_a_loop() -> None:
    centres = torch.tensor([[8, 8], [20, 10], [10, 20], [40, 40]])
    sizes = torch.rand(300, 2) * 60
    expected = [min(range(4), key=lambda c: ((s - centres[c]) ** 2).sum().item()) for s in sizes]
    assert nearest(sizes, centres).tolist() == expected
    assert nearest(torch.tensor([[15.0, 15.0]]), centres).tolist() == [1]  # as near to the third
    assert nearest(sizes[:0], centres).shape == (0,)


def test_longer_sides_are_limited() -> None:
    sizes = torch.tensor([[100.0, 50.0], [10.0, 40.0], [3.0, 3.0], [0.0, 0.0]])
    assert limited(sizes, 20).tolist() == [[20, 10], [5, 20], [3, 3], [0, 0]]
    assert torch.equal(limited(sizes, None), sizes)


def test_groups_are_a_partition_by_the_clipped_whole_box() -> None:
    sizes = CropSizes(torch.tensor([[8, 8], [16, 10], [10, 16], [24, 24]]), largest=24)
    corners = torch.rand(200, 2) * 70 - 10
    boxes = torch.cat([corners, corners + torch.rand(200, 2) * 60], 1)
    seen = torch.full((200,), -1)
    for number, which, size in sizes.group(boxes, 48, 64):
        assert size == tuple(sizes.centres[number].tolist())
        assert (seen[which] == -1).all()
        seen[which] = number
    assert torch.equal(seen, sizes.of(boxes, 48, 64))
    # What lies outside the picture does not count for the size.
    inside, reaching_out = torch.tensor([[50.0, 30, 64, 48]]), torch.tensor([[50.0, 30, 900, 900]])
    assert torch.equal(sizes.of(inside, 48, 64), sizes.of(reaching_out, 48, 64))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels"):
        CropSizes(torch.tensor([[7, 20]]))
    with pytest.raises(ValueError, match="largest"):
        CropSizes(torch.tensor([[8, 20]]), largest=4)
