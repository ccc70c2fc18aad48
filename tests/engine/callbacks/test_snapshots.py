from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detlab.assigners.max_iou import MaxIoU
from detlab.assigners.paa import PAA
from detlab.engine.callbacks.snapshots import Snapshot, judge, of_object, read_snapshots, save_snapshots, take_snapshots
from detlab.errors import UserError
from detlab.structures import Anchors, Batch, Predictions, Targets

TOPK = 3
SCALES = torch.tensor([[0.5, 2.0], [1.0, 1.0]])


def iou(a: Any, b: Any) -> float:
    a, b = [float(v) for v in a], [float(v) for v in b]
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def overlap(matched: Any) -> torch.Tensor:
    """A cost that a loop can repeat: 1 − IoU of predicted and true box."""
    pairs = zip(matched.boxes.double(), matched.target_boxes.double())
    return torch.tensor([1 - iou(a, b) for a, b in pairs]).float()


@pytest.fixture
def scene() -> tuple[Anchors, list[Targets], Predictions]:
    """Two levels of anchors; a picture with three objects, one of them a crowd, and one without any."""
    generator = torch.Generator().manual_seed(0)
    boxes, level = [], []
    for number, (step, side) in enumerate(((8, 16), (16, 32))):
        centres = torch.arange(step / 2, 64, step)
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        boxes.append(torch.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], -1).view(-1, 4))
        level += [number] * boxes[-1].shape[0]
    anchors = Anchors(torch.cat(boxes), torch.tensor(level), tuple(len(b) for b in boxes))
    first = Targets.of(
        torch.tensor([[4.0, 6, 28, 30], [30, 34, 62, 60], [40, 0, 64, 10]]), torch.tensor([1, 0, 1]), 2,
        ignore=torch.tensor([False, False, True]),
    )  # fmt: skip
    none = Targets.of(torch.zeros(0, 4), torch.zeros(0), 2)
    count = len(anchors.boxes)
    moved = anchors.boxes + 6 * torch.rand(2, count, 4, generator=generator)
    logits = torch.randn(2, count, 2, generator=generator)
    return anchors, [first, none], Predictions(logits, moved, torch.zeros(2, count, 4))


def test_samples_are_those_of_a_loop(scene):
    anchors, targets, predictions = scene
    assigner = PAA(overlap, topk=TOPK)
    found, empty = judge(assigner, anchors, targets, predictions, SCALES)
    assigned = assigner(anchors, targets, predictions).gt_index
    nearest = MaxIoU(0.1, 0.1, True)(anchors, targets).gt_index[0]
    expected = []
    for number in range(3):
        for level in (0, 1):
            own = [a for a in range(len(nearest)) if nearest[a] == number and anchors.level[a] == level]
            own.sort(key=lambda a: 1 - iou(predictions.boxes[0, a], targets[0].boxes[number]))
            expected += [(number, a) for a in own[:TOPK]]
    assert len(expected) == len(found.of) > 8
    scale = np.array([0.5, 2.0, 0.5, 2.0])
    for n, (number, a) in enumerate(expected):
        own = iou(predictions.boxes[0, a], targets[0].boxes[number])
        assert found.of[n] == number
        assert found.state[n] == (1 if assigned[0, a] == number else 0)
        np.testing.assert_allclose(found.anchors[n], anchors.boxes[a].numpy() / scale, rtol=1e-6)
        np.testing.assert_allclose(found.predicted[n], predictions.boxes[0, a].numpy() / scale, rtol=1e-6)
        assert (found.iou[n], found.cost[n]) == (pytest.approx(own, abs=1e-5), pytest.approx(1 - own, abs=1e-5))
    assert {0, 1} == set(found.state.tolist())
    assert (found.state == 1).sum() == (assigned[0] >= 0).sum()
    np.testing.assert_allclose(found.objects, targets[0].boxes.numpy() / scale)
    assert found.labels.tolist() == [1, 0, 1]
    assert [len(field) for field in empty] == [0] * 8


def test_ignored_candidates_are_told_apart(scene):
    anchors, targets, predictions = scene
    states = judge(PAA(overlap, topk=9, scheme="b_between_peaks"), anchors, targets, predictions, SCALES)[0].state
    assert set(states.tolist()) == {1, 0, -1}


def test_of_other_assigners_the_positives_are_known(scene):
    anchors, targets, predictions = scene
    assigner = MaxIoU(0.4, 0.3, True)
    found = judge(assigner, anchors, targets, predictions, SCALES)[0]
    assigned = assigner(anchors, targets).gt_index[0]
    assert sorted(found.of.tolist()) == sorted(assigned[assigned >= 0].tolist())
    assert (found.state == 1).all()
    assert np.isnan(found.cost).all()


class Moody(nn.Module):
    """A detector that draws random numbers and keeps statistics while it trains, with a part that never does."""

    def __init__(self, anchors: Anchors, predictions: Predictions) -> None:
        super().__init__()
        self.frozen, self.norm, self.dropout = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.anchors, self.predictions = anchors, predictions

    def forward(self, images: torch.Tensor) -> tuple[Predictions, Anchors]:
        spread = self.dropout(self.norm(self.frozen(images))).mean()
        random.random(), torch.rand(1)  # an evaluation that draws, too
        return Predictions(self.predictions.logits + 0 * spread, *self.predictions[1:]), self.anchors


def test_nothing_is_changed_by_looking(scene):
    anchors, targets, predictions = scene
    detector = Moody(anchors, predictions).train()
    detector.frozen.eval()
    images = torch.rand(2, 3, 8, 8)
    sizes = torch.tensor([[8, 8], [8, 8]])
    batch = Batch(images, targets, sizes, SCALES, sizes, torch.tensor([3, 4]))
    module = nn.Module()
    module.detector, module.assigner = detector, PAA(overlap, topk=TOPK)
    module.forward = lambda pictures: detector(pictures)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random.seed(1), torch.manual_seed(1)
    wanted = (random.random(), torch.rand(1).item())
    random.seed(1), torch.manual_seed(1)
    taken = take_snapshots(module, batch)
    assert (random.random(), torch.rand(1).item()) == wanted
    modes = {name: part.training for name, part in detector.named_modules()}
    assert modes == {"": True, "frozen": False, "norm": True, "dropout": True}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert len(taken[0].of) == len(judge(module.assigner, anchors, targets, predictions, SCALES)[0].of)


def test_the_mode_comes_back_after_an_error():
    module = nn.Module()
    module.detector = nn.Dropout()
    batch: Any = SimpleNamespace(images=None)
    with pytest.raises(NotImplementedError):
        take_snapshots(module.train(), batch)
    assert module.detector.training


def test_files_bring_back_what_was_written(scene, tmp_path):
    anchors, targets, predictions = scene
    first, empty = judge(PAA(overlap, topk=TOPK), anchors, targets, predictions, SCALES)
    first.cost[0] = math.nan
    save_snapshots(tmp_path / "0000007.json", 7, 100, {"12": first, "own": empty})
    iteration, total, found = read_snapshots(tmp_path / "0000007.json")
    assert (iteration, total, list(found)) == (7, 100, ["12", "own"])
    for name, wanted in (("12", first), ("own", empty)):
        for field, value in wanted._asdict().items():
            read = getattr(found[name], field)
            assert (read.shape, read.dtype.kind) == (value.shape, value.dtype.kind)
            np.testing.assert_allclose(read, value, atol=0.006)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"iteration": 1, "total": 2, "pictures": {"1": {"of": [0]}}}'])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "1.json").write_text(content)
    with pytest.raises(UserError, match=r"1\.json is not a file of callbacks=assignments"):
        read_snapshots(tmp_path / "1.json")


def test_one_object_alone():
    boxes = np.arange(12.0).reshape(3, 4)
    numbers = np.array([1, 0, 1])
    one = Snapshot(
        boxes[:2], np.array([5, 6]), numbers, np.array([1, 1, 0]), boxes, boxes + 1, boxes[:, 0], boxes[:, 1]
    )
    alone = of_object(one, 1)
    assert (alone.objects.tolist(), alone.labels.tolist(), alone.of.tolist()) == ([[4, 5, 6, 7]], [6], [0, 0])
    assert (alone.state.tolist(), alone.cost.tolist()) == ([1, 0], [0, 8])
    assert alone.predicted.tolist() == [[1, 2, 3, 4], [9, 10, 11, 12]]
