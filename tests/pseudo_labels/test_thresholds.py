"""Eq. 6 against a literal computation."""

from __future__ import annotations

import pytest
import torch

from detlab.pseudo_labels.thresholds import ClassThresholds


def literal(batches, classes: int, tau: float, gamma1: float, gamma2: float, limits, most: float, decay: float):
    """τ_m and α_m after the (score, label) pairs of each batch."""
    sums, counts = [0.0] * classes, [0.0] * classes
    for batch in batches:
        sums, counts = [decay * s for s in sums], [decay * n for n in counts]
        for score, label in batch:
            sums[label] += score
            counts[label] += 1
    mean = sum(counts) / classes
    thresholds, weights = [], []
    for c in sums:
        share = c / mean if mean else 1.0
        t = share**gamma1 * tau
        thresholds.append(min(max(t, limits[0]), limits[1]) if gamma1 else t)
        weights.append(min(max(_power(share, -gamma2), 1 / most), most))
    return thresholds, weights


def _power(base: float, exponent: float) -> float:
    return 1.0 if exponent == 0 else base**exponent if base else float("inf")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gamma1": 0.0, "gamma2": 0.0, "tau": 0.2},
        {"gamma1": 0.5, "gamma2": 2.0, "most": 3.0, "decay": 0.5},
        {"decay": 1.0, "limits": (0.6, 0.72)},
    ],
    ids=str,
)
def test_against_a_literal_computation(settings) -> None:
    settings = {
        "tau": 0.7, "gamma1": 0.05, "gamma2": 0.6, "limits": (0.4, 0.9), "most": 5.0, "decay": 0.999,
    } | settings  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    found = ClassThresholds(5, **settings)
    batches = []
    for size in (0, 30, 1, 200, 0, 7):
        scores = torch.rand(size, generator=generator)
        labels = (torch.rand(size, generator=generator) ** 3 * 4).long()  # class 4 is never seen, 3 rarely
        found.update(scores, labels)
        batches.append(list(zip(scores.tolist(), labels.tolist(), strict=True)))
        thresholds, weights = literal(batches, 5, **settings)
        assert found.thresholds().tolist() == pytest.approx(thresholds, rel=1e-5)
        assert found.weights().tolist() == pytest.approx(weights, rel=1e-5)


def test_nothing_seen_one_class_alone_and_never_seen() -> None:
    fresh = ClassThresholds(3)
    assert fresh.thresholds().tolist() == pytest.approx([0.7] * 3)
    assert fresh.weights().tolist() == [1, 1, 1]
    fresh.update(torch.tensor([0.9, 0.8]), torch.tensor([1, 1]))
    assert fresh.thresholds()[[0, 2]].tolist() == pytest.approx([0.4, 0.4])
    assert fresh.weights()[[0, 2]].tolist() == [5, 5]
    assert fresh.weights()[1] < 1
    assert fresh.thresholds()[1] > 0.7
    alone = ClassThresholds(1)
    alone.update(torch.full((10,), 0.6), torch.zeros(10, dtype=torch.int64))
    assert alone.thresholds().tolist() == pytest.approx([0.6**0.05 * 0.7])
    assert alone.weights().tolist() == pytest.approx([(1 / 0.6) ** 0.6])


def test_a_checkpoint_has_the_sums() -> None:
    before, after = ClassThresholds(2), ClassThresholds(2)
    before.update(torch.tensor([0.9]), torch.tensor([1]))
    after.load_state_dict(before.state_dict())
    assert torch.equal(before.thresholds(), after.thresholds())
    assert torch.equal(before.weights(), after.weights())


@pytest.mark.parametrize(
    "bad",
    [
        {"num_classes": 0}, {"tau": 1.5}, {"limits": (0.9, 0.4)}, {"limits": (0.1, 1.4)}, {"gamma1": -1.0},
        {"gamma2": -1.0}, {"most": 0.5}, {"decay": 0.0}, {"decay": 1.1},
    ],
    ids=str,
)  # fmt: skip
def test_bad_values(bad) -> None:
    with pytest.raises(ValueError, match="Expected"):
        ClassThresholds(**{"num_classes": 3} | bad)
