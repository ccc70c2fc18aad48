"""A teacher's boxes as targets, the batch in parts, and what follows the student, with teachers that say what they are
told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detlab.engine.module import LitDetector
from detlab.errors import UserError
from detlab.models.detectors.loss_groups import losses_by_group
from detlab.postprocess import Postprocess
from detlab.pseudo_labels.teacher import TeacherLabels
from detlab.structures import Anchors, Assignment, Batch, LossGroup, Predictions, Targets

CLASSES = ["cat", "dog", "cow"]
BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 30], [0, 50, 20, 60]])


class Told(nn.Module):
    """In every picture the same boxes; `scores [A, C]`, certainty `quality [A]`. Remembers what it was shown."""

    candidates = LitDetector.candidates

    def __init__(self, scores: Tensor, quality: Tensor | None = None) -> None:
        super().__init__()
        self.scores, self.quality = scores, quality
        self.detector = nn.Linear(2, 2)
        self.postprocess = Postprocess(score_threshold=0.0)
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        self.shown.append(images)
        count = len(images)
        quality = None if self.quality is None else self.quality.logit().expand(count, -1)
        logits = self.scores.logit().expand(count, -1, -1)
        boxes = BOXES.expand(count, -1, -1)
        return Predictions(logits, boxes, boxes, quality), Anchors(BOXES, torch.zeros(4, dtype=torch.int64), (4,))


def scores() -> Tensor:
    """Box 0 is a cat for certain, 1 perhaps a dog, 2 hardly a cow, 3 nothing."""
    return torch.tensor([[0.95, 0.01, 0.01], [0.01, 0.72, 0.01], [0.01, 0.01, 0.5], [0.01, 0.01, 0.01]])


def labels(teachers: list[Told], **settings: Any) -> TeacherLabels:
    found = TeacherLabels(**settings)
    found.bind(CLASSES, 100)
    found.teachers = teachers  # type: ignore[assignment]
    for teacher in teachers:
        teacher.postprocess.quality = "product" if found.certainty else "ignore"
    return found


def a_batch(views: bool = True) -> Batch:
    """Picture 1 of three is unlabelled."""
    known = Targets.of(torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([2]), 3)
    nobody = Targets.of(torch.zeros(0, 4), torch.zeros(0), 3, annotated=torch.zeros(3, dtype=torch.bool))
    two = Targets.of(torch.tensor([[1.0, 1, 9, 9], [5, 5, 30, 30]]), torch.tensor([0, 2]), 3)
    sizes = torch.tensor([[64, 64]] * 3)
    return Batch(
        images=torch.zeros(3, 3, 64, 64),
        targets=[known, nobody, two],
        sizes=sizes,
        scales=torch.ones(3, 2),
        original_sizes=sizes,
        image_ids=torch.arange(3),
        views=torch.ones(1, 3, 64, 64) if views else None,
    )


def test_what_reaches_the_threshold_becomes_a_target() -> None:
    teacher = Told(scores())
    plain = labels([teacher], gamma1=0.0, gamma2=0.0, certainty=False)
    batch = plain.before_forward(a_batch(), 0)
    assert torch.equal(teacher.shown[0], torch.ones(1, 3, 64, 64))  # the weak view
    made = batch.targets[1]
    assert made.boxes.tolist() == BOXES[:2].tolist()
    assert made.labels.tolist() == [0, 1]
    assert made.weights.tolist() == [1, 1]
    assert made.annotated.all()
    assert [t.weights.tolist() for t in (batch.targets[0], batch.targets[2])] == [[1], [1, 1]]
    assert float(plain.log_metrics["pseudo_boxes_per_image"]) == 2
    labels([teacher], certainty=False).before_forward(a_batch(views=False), 0)
    assert torch.equal(teacher.shown[-1], torch.zeros(1, 3, 64, 64))


def test_certainty_counts_and_can_be_left_out() -> None:
    quality = torch.tensor([0.9, 0.3, 0.9, 0.9])
    settings = {"gamma1": 0.0, "gamma2": 0.0}
    by_both = labels([Told(scores(), quality)], certainty=True, **settings).before_forward(a_batch(), 0)
    assert by_both.targets[1].labels.tolist() == [0]  # 0.72 * 0.3 is not enough
    alone = labels([Told(scores(), quality)], certainty=False, **settings).before_forward(a_batch(), 0)
    assert alone.targets[1].labels.tolist() == [0, 1]


def test_thresholds_and_weights_by_class_are_those_of_what_was_found() -> None:
    found = labels([Told(scores())], certainty=False, gamma1=0.5, gamma2=1.0, foreground=0.3, decay=1.0)
    batch = found.before_forward(a_batch(), 0)
    tau = [(c / 1.0) ** 0.5 * 0.7 for c in (0.95, 0.72, 0.5)]  # one box of each class: the mean is 1
    alpha = [1 / 0.95, 1 / 0.72, 1 / 0.5]
    by_class = found.by_class()
    assert by_class["threshold"].tolist() == pytest.approx(tau, abs=1e-4)
    assert by_class["weight"].tolist() == pytest.approx(alpha, abs=1e-3)
    assert batch.targets[1].labels.tolist() == [0, 1, 2]  # 0.5 reaches its class's 0.495
    assert batch.targets[1].weights.tolist() == pytest.approx(alpha, abs=1e-3)
    assert batch.targets[2].weights.tolist() == pytest.approx([alpha[0], alpha[2]], abs=1e-3)  # labelled ones, too


def test_a_batch_without_unlabelled_pictures_and_one_of_nothing_else() -> None:
    teacher = Told(scores())
    treatment = labels([teacher], certainty=False)
    whole = a_batch()
    whole.targets[1] = whole.targets[0]
    whole.views = None
    assert [len(t) for t in treatment.before_forward(whole, 0).targets] == [1, 1, 2]
    assert not teacher.shown
    assert [len(part.rows) for part in treatment.loss_groups(whole)] == [3, 0]
    alone = a_batch()
    alone.targets = [alone.targets[1]] * 3
    alone.views = None
    assert [len(t) for t in treatment.before_forward(alone, 0).targets] == [2, 2, 2]
    assert [part.rows.tolist() for part in treatment.loss_groups(alone)] == [[], [0, 1, 2]]


def test_two_teachers_share_one_suppression() -> None:
    second = scores()
    second[1], second[3] = torch.tensor([0.01, 0.1, 0.01]), torch.tensor([0.9, 0.01, 0.01])
    settings = {"gamma1": 0.0, "gamma2": 0.0, "certainty": False}
    treatment = labels([Told(scores()), Told(second)], **settings)
    made = treatment.before_forward(a_batch(), 0).targets[1]
    assert sorted(map(tuple, made.boxes.tolist())) == sorted(map(tuple, BOXES[[0, 1, 3]].tolist()))


def test_the_moving_average_follows_and_is_saved() -> None:
    treatment = labels([Told(scores())], kind="ema", momentum=0.75)
    student = nn.Linear(2, 2)
    before = treatment.teachers[0].detector.weight.clone()
    treatment.after_step(student)
    after = treatment.teachers[0].detector.weight
    assert torch.allclose(after, 0.75 * before + 0.25 * student.weight)
    treatment.before_forward(a_batch(), 0)
    other = labels([Told(scores())], kind="ema", momentum=0.75)
    other.load_state_dict(treatment.state_dict())
    assert torch.equal(other.teachers[0].detector.weight, after)
    assert torch.equal(other.thresholds.sums, treatment.thresholds.sums)
    fixed = labels([Told(scores())])
    fixed.after_step(student)
    assert "teacher" not in fixed.state_dict()


def test_the_student_begins_as_its_teacher() -> None:
    treatment = labels([Told(scores())])
    student = nn.Linear(2, 2)
    treatment.initialize(student)
    assert torch.equal(student.weight, treatment.teachers[0].detector.weight)
    treatment.runs = ["runs/other"]
    with pytest.raises(UserError, match=r"pseudo.teacher=runs/other is another detector"):
        treatment.initialize(nn.Linear(3, 2))


def test_labels_of_training_pictures_can_be_looked_at() -> None:
    treatment = labels([Told(scores())], gamma1=0.0, gamma2=0.0, certainty=False)
    found = treatment.label_batch(a_batch(), Told(scores())(torch.zeros(3, 3, 64, 64))[0])
    assert found.image.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.labels.tolist() == [0, 1] * 3
    assert found.objectness.tolist() == pytest.approx([0.95, 0.72] * 3, abs=1e-4)
    assert found.boxes.tolist() == BOXES[:2].tolist() * 3


def test_losses_losses_by_group() -> None:
    """Each part is told of its own pictures, and one without any of a picture that nobody looked at."""
    logits = torch.arange(12.0).view(3, 4, 1).requires_grad_()
    boxes = BOXES.expand(3, -1, -1)
    said = Predictions(logits, boxes, boxes)
    targets = a_batch().targets
    seen: list[tuple[int, list[int], list[int]]] = []

    def learn(mine: Predictions, own: list[Targets], assignment: Assignment) -> dict[str, Tensor]:
        seen.append((len(own), [len(t) for t in own], assignment.gt_index[:, 0].tolist()))
        anything = float(any(bool(t.annotated.any()) for t in own))
        return {"a": mine.logits.mean() * anything, "b": mine.logits.sum() * 0}

    index = torch.tensor([[0, -1, -1, -1], [-1, -1, -1, -1], [1, 0, -1, -1]])
    parts = [LossGroup(torch.tensor([0, 2]), 1.0), LossGroup(torch.tensor([1]), 0.5)]
    targets[1] = Targets.of(torch.zeros(0, 4), torch.zeros(0), 3)
    total = losses_by_group(parts, learn, said, targets, Assignment(index))
    assert total["a"].item() == pytest.approx((logits[[0, 2]].mean() + 0.5 * logits[1].mean()).item())
    assert seen == [(2, [1, 2], [0, 1]), (1, [0], [-1])]
    seen.clear()
    empty = losses_by_group(
        [LossGroup(torch.arange(3), 1.0), LossGroup(torch.arange(0), 0.5)], learn, said, targets, Assignment(index)
    )
    assert empty["a"].item() == pytest.approx(logits.mean().item())
    assert seen[1] == (1, [0], [-1])
    assert losses_by_group([], learn, said, targets, Assignment(index))["a"] == logits.mean()


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "mean"}, {"kind": "ensemble", "teacher": "runs/a"}, {"second": "runs/b"}, {"momentum": 1.0},
        {"foreground": 1.1}, {"weight": -1.0}, {"tau": 2.0}, {"gamma1": -1.0},
    ],
    ids=str,
)  # fmt: skip
def test_bad_values(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        TeacherLabels(**bad)


def test_a_missing_teacher_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"pseudo.teacher=runs/a: there is no such run; train it"):
        TeacherLabels("runs/a")
