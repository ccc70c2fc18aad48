"""Pseudo-labels in what the losses see, and the gradients they give."""

from __future__ import annotations

import torch

from detlab.losses.classification import CrossEntropy, cross_entropy_elementwise
from detlab.losses.criterion import labelled_and_positives
from detlab.losses.ranking_classification import ranking_targets
from detlab.ops.matching import gather
from detlab.pseudo_labels.matched_targets import apply_to_matches
from detlab.pseudo_labels.none import AllBackground
from detlab.structures import Anchors, Assignment, Matched, Predictions, PseudoLabels, Targets

CLASSES, ANCHORS = 3, 6


def matched(masked: bool) -> Matched:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(ANCHORS, 1)
    known = Targets.of(boxes[:1], torch.tensor([0]), CLASSES, annotated=torch.tensor([True, False, True]))
    targets = [known, known]
    if not masked:
        targets = AllBackground().transform_targets(targets)
    index = torch.full((2, ANCHORS), -1)
    index[0, 1], index[1, 2], index[1, 3] = 0, 0, -2
    predictions = Predictions(
        torch.randn(2, ANCHORS, CLASSES, generator=generator).requires_grad_(),
        boxes.repeat(2, 1, 1),
        torch.zeros(2, ANCHORS, 4),
        objectness=torch.randn(2, ANCHORS, generator=generator).requires_grad_(),
    )
    anchors = Anchors(boxes, torch.zeros(ANCHORS, dtype=torch.int64), (ANCHORS,))
    return gather(anchors, targets, Assignment(index), predictions)


LABELS = PseudoLabels(
    image=torch.tensor([0, 0, 1]),
    anchor=torch.tensor([1, 4, 5]),  # the first has an object of its own
    boxes=torch.zeros(3, 4),
    probs=torch.tensor([[0.1, 0.8, 0.0], [0.05, 0.9, 0.0], [0.85, 0.0, 0.1]]),
    objectness=torch.tensor([0.8, 0.9, 0.85]),
    source_anchor=torch.tensor([1, 4, 5]),
    ignored=torch.tensor([[0, 0, 4], [1, 2, 5]]),  # the second has an object of its own
)


def test_targets_and_weights() -> None:
    for masked in (False, True):
        before = matched(masked)
        after = apply_to_matches(before, LABELS)
        assert after.class_targets is not None
        assert after.object_targets is not None
        assert after.object_weights is not None
        assert after.class_targets[0, 1].tolist() == [1, 0, 0]
        assert torch.equal(after.class_targets[0, 4], LABELS.probs[1])
        assert torch.equal(after.class_targets[1, 5], LABELS.probs[2])
        assert after.class_targets.sum(-1).count_nonzero() == 4
        assert after.object_targets[0].tolist() == [0, 1, 0, 0, *[torch.tensor(0.9).item()], 0]
        weights = after.class_weights.expand(-1, -1, CLASSES)
        assert weights[0, 4].tolist() == [1, 1, 1]
        assert weights[0, 0].tolist() == [0, 0, 0]
        assert after.object_weights[0, 0] == 0
        assert after.object_weights[0, 4] == 1
        assert after.object_weights[1, 2] == 1
        assert torch.equal(after.positive, before.positive)  # no box loss
        same = torch.ones(2, ANCHORS, dtype=torch.bool)
        same[0, 0] = same[0, 4] = same[1, 5] = False
        assert torch.equal(weights[same], before.class_weights.expand(-1, -1, CLASSES)[same])
        assert before.class_targets is None
        assert float(before.object_targets.sum()) == 2  # type: ignore[union-attr]


def test_the_false_negative_signal_is_gone() -> None:
    """The gradient of a labelled prediction is that of its soft target, of a spared one zero."""
    after = apply_to_matches(matched(False), LABELS)
    CrossEntropy()(after).backward()
    gradient = after.logits.grad
    assert gradient is not None
    torch.testing.assert_close(gradient[0, 4], after.logits.detach()[0, 4].sigmoid() - LABELS.probs[1])
    assert (gradient[0, 0] == 0).all()
    assert (gradient[0, 2] > 0).all()


def test_the_loss_is_the_weighted_sum() -> None:
    after = apply_to_matches(matched(True), LABELS)
    assert after.class_targets is not None
    expected = (cross_entropy_elementwise(after.logits, after.class_targets) * after.class_weights).sum()
    torch.testing.assert_close(CrossEntropy()(after), expected)


def test_a_ranking_leaves_them_out() -> None:
    targets, kept = ranking_targets(apply_to_matches(matched(False), LABELS))
    assert targets[0, 4].tolist() == [-1, -1, 0]  # two classes have a soft target, the third is background
    assert targets[0, 1].tolist() == [1, 0, 0]
    assert targets[0, 0].tolist() == [-1, -1, -1]
    assert kept.all()


def test_ignored_anchors_and_neighbours_of_objects_stay_as_they_are() -> None:
    """Anchor 3 of the second image is ignored; anchor 2, of which 4 is a neighbour, has an object."""
    before = matched(False)
    at = torch.tensor([1, 1])
    more = LABELS._replace(
        image=at, anchor=torch.tensor([3, 4]), boxes=torch.zeros(2, 4), probs=LABELS.probs[:2],
        objectness=LABELS.objectness[:2], source_anchor=torch.tensor([3, 2]), ignored=torch.tensor([[1, 0, 2]]),
    )  # fmt: skip
    after = apply_to_matches(before, more)
    assert torch.equal(after.class_weights, before.class_weights)
    assert after.class_targets is not None
    assert after.class_targets.sum() == 2  # the two objects
    assert torch.equal(after.object_weights, before.object_weights)  # type: ignore[arg-type]
    assert after.pseudo == 0


def test_losses_of_classes_count_them_and_losses_of_boxes_do_not() -> None:
    after = apply_to_matches(matched(False), LABELS)
    assert after.pseudo == 2
    labelled, positives = labelled_and_positives(after)
    assert (float(labelled), float(positives)) == (4, 2)
    labelled, positives = labelled_and_positives(matched(False))
    assert (float(labelled), float(positives)) == (2, 2)


def test_nothing_to_do() -> None:
    before = matched(True)
    assert apply_to_matches(before, None) is before
    empty = PseudoLabels(*(field[:0] for field in LABELS))
    assert apply_to_matches(before, empty) is before
