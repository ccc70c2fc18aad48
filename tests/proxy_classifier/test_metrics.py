"""Figures of a classifier against loops."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.errors import UserError
from detlab.proxy_classifier.crops import BACKGROUND, OBJECT, OTHER, PARTIAL
from detlab.proxy_classifier.labels import balanced_rates, classes_of_interest, label_of_each
from detlab.proxy_classifier.metrics import confusion, judge, reliability


def crops(count: int = 400) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (count,), generator=generator)
    logits = torch.randn(count, 4, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, 4)
    kinds = torch.where(labels < 3, OBJECT, torch.randint(1, 4, (count,), generator=generator))
    return (2 * logits).softmax(1), labels, kinds


def test_equals_the_loop() -> None:
    probs, labels, kinds = crops()
    found = judge(probs, labels, kinds, threshold=0.7)
    rows = list(zip(probs.double().tolist(), labels.tolist(), kinds.tolist()))

    def share(values: list[bool]) -> float:
        return sum(values) / len(values)

    best = [p.index(max(p)) for p, _, _ in rows]
    kept = [b != 3 and p[b] >= 0.7 for b, (p, _, _) in zip(best, rows)]
    expected = {
        "accuracy": share([b == y for b, (_, y, _) in zip(best, rows)]),
        "accuracy_K": share([p.index(max(p[:3])) == y for p, y, k in rows if k == OBJECT]),
        "kept_precision": share([b == y for b, k, (_, y, _) in zip(best, kept, rows) if k]),
        "kept_recall": share([k and b == y for b, k, (_, y, kind) in zip(best, kept, rows) if kind == OBJECT]),
    }
    for kind, name in ((OTHER, "others"), (BACKGROUND, "background"), (PARTIAL, "partial")):
        expected[f"rejected_{name}"] = share([b == 3 for b, (_, _, k) in zip(best, rows) if k == kind])
    positive, negative = [p[3] for p, y, _ in rows if y == 3], [p[3] for p, y, _ in rows if y < 3]
    pairs = [(a > b) + 0.5 * (a == b) for a in positive for b in negative]
    expected["reject_AUROC"] = sum(pairs) / len(pairs)
    error = 0.0
    for number in range(15):
        inside = [(p[b], b == y) for b, (p, y, _) in zip(best, rows) if number / 15 < p[b] <= (number + 1) / 15]
        if inside:
            error += abs(sum(c for c, _ in inside) - sum(r for _, r in inside)) / len(rows)
    expected["ECE"] = error
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_nothing_to_measure_is_nan() -> None:
    probs, labels, kinds = crops()
    none = judge(probs[:0], labels[:0], kinds[:0])
    assert all(math.isnan(value) for value in none.values())
    objects = kinds == OBJECT
    only = judge(probs[objects], labels[objects], kinds[objects])
    assert math.isnan(only["reject_AUROC"])
    assert math.isnan(only["rejected_background"])
    assert only["ECE"] > 0


def test_bins_and_confusion_add_up() -> None:
    probs, labels, _ = crops()
    confidence, accuracy, count = reliability(probs, labels)
    assert count.sum() == 400
    filled = count > 0
    assert float((accuracy[filled] * count[filled]).sum() / 400) == pytest.approx(
        float((probs.argmax(1) == labels).float().mean())
    )
    edges = torch.arange(15) / 15
    assert (confidence[filled] > edges[filled]).all()
    assert (confidence[filled] <= edges[filled] + 1 / 15 + 1e-6).all()
    table = confusion(probs, labels)
    for row in range(4):
        for column in range(4):
            assert table[row, column] == ((labels == row) & (probs.argmax(1) == column)).sum()


def test_classes_and_their_labels() -> None:
    known = ["car", "tree", "dog", "sky"]
    assert classes_of_interest(known) == known
    assert classes_of_interest(known, reject_classes=["sky"]) == ["car", "tree", "dog"]
    assert classes_of_interest(known, ["dog", "car"]) == ["dog", "car"]
    assert label_of_each(known, ["dog", "car"]).tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize(
    ("classes", "rejects", "words"),
    [
        (["cart"], [], "no class 'cart'.*did you mean 'car'"),
        (["car", "car"], [], "twice"),
        ([], [], "empty"),
        (["car"], ["car"], "in task.classes and in task.reject_classes"),
        (None, ["car", "tree", "dog"], "leave at least one"),
        (None, ["skies"], "task.reject_classes"),
    ],
)
def test_impossible_classes_get_a_sentence(classes: list[str] | None, rejects: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        classes_of_interest(["car", "tree", "dog"], classes, rejects)


def test_balanced_rates_even_out_and_keep_the_number() -> None:
    counts = torch.tensor([100, 50, 0, 150])
    rates = balanced_rates(counts)
    assert (rates * counts).tolist() == pytest.approx([100, 100, 0, 100])
    assert balanced_rates(torch.tensor([1000, 1])).max() == 10
