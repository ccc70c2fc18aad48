from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detlab.engine.callbacks.gradients import ClassificationGradients, RatioStatistics, gradient_sums
from detlab.errors import UserError
from detlab.losses.alrp import ALRPCriterion
from detlab.losses.classification import CrossEntropy, Focal
from detlab.losses.criterion import Criterion
from detlab.losses.iou import IoULoss
from detlab.reporting.history import read_history
from detlab.structures import Matched


def matched(positives: int = 2, soft: bool = False) -> Matched:
    """B = 2, A = 3, C = 2; the last anchor is ignored."""
    logits = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[1, -1, -1], [0, -1, -1]])
    labels.view(-1)[[i for n, i in enumerate((0, 3)) if n >= positives]] = -1
    positive = (labels.flatten() >= 0).nonzero()[:, 0]
    weights = torch.ones(2, 3, 1)
    weights[1, 2] = 0
    targets = None
    if soft:
        targets = torch.zeros(2, 3, 2)
        targets[0, 0], targets[1, 0] = torch.tensor([0.2, 0.8]), torch.tensor([1.0, 0.0])
    box = torch.tensor([[0.0, 0, 10, 10]]).expand(len(positive), 4)
    none = torch.zeros(len(positive), 4)
    level = torch.zeros(len(positive), dtype=torch.int64)
    return Matched(
        logits, labels, weights, targets, positive, box, none, box, box, None, torch.ones(len(positive)), level
    )


class FakeLogger:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))


def train(callback: ClassificationGradients, module: Any, batches: list[Matched | None], scale: float = 1.0,
          accumulate: int = 1) -> FakeLogger:  # fmt: skip
    """The hooks that Lightning calls, in its order; a batch None is skipped, as one without readable pictures."""
    logger = FakeLogger()
    loop = SimpleNamespace(_batches_that_stepped=0)
    trainer = SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=loop),
        precision_plugin=SimpleNamespace(scaler=SimpleNamespace(get_scale=lambda: scale)),
        accumulate_grad_batches=accumulate,
        log_every_n_steps=4,
        loggers=[logger],
    )
    callback.on_train_start(trainer, module)
    for number, batch in enumerate(batches):
        callback.on_train_batch_start(trainer, module, batch, number)
        if batch is not None:
            total = torch.stack(list(module.criterion(batch).values())).sum()
            (total * scale / accumulate).backward()
            callback.on_after_backward(trainer, module)
        callback.on_train_batch_end(trainer, module, None, batch, number)
        loop._batches_that_stepped += (number + 1) % accumulate == 0
    return logger


def lit(classification: nn.Module | None = None) -> Any:
    return SimpleNamespace(criterion=Criterion(classification or CrossEntropy(), IoULoss("giou")))


def literal(batch: Matched) -> tuple[float, float]:
    """Σ |p − t| / P of the cross-entropy, element by element."""
    on = off = 0.0
    for b in range(2):
        for a in range(3):
            for c in range(2):
                t = float(batch.labels[b, a] == c)
                pull = abs(float(batch.logits[b, a, c].detach().double().sigmoid()) - t)
                pull *= float(batch.class_weights[b, a, 0]) / max(len(batch.positive), 1)
                on, off = (on + pull, off) if t else (on, off + pull)
    return on, off


@pytest.mark.parametrize("scale", [1.0, 1024.0])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_sums_are_those_of_a_loop(scale, accumulate):
    batch = matched()
    logger = train(ClassificationGradients(every=1), lit(), [batch, matched(1)][:accumulate], scale, accumulate)
    on, off = literal(batch)
    assert logger.rows == [
        (
            0,
            {
                "train/gradient_positives": pytest.approx(on, rel=1e-5),
                "train/gradient_negatives": pytest.approx(off, rel=1e-5),
                "train/gradient_ratio": pytest.approx(off / on, rel=1e-5),
            },
        )
    ]


def test_every_so_many_iterations_and_no_hook_in_between():
    module = lit()
    callback = ClassificationGradients(every=3)
    logger = train(callback, module, [matched() for _ in range(8)])
    assert [step for step, _ in logger.rows] == [2, 5]
    assert not module.criterion._forward_pre_hooks


def test_as_often_as_the_losses_unless_told_otherwise():
    logger = train(ClassificationGradients(), lit(), [matched() for _ in range(9)])
    assert [step for step, _ in logger.rows] == [3, 7]


def test_a_batch_without_positives_has_no_ratio():
    batch = matched(positives=0)
    ((_, values),) = train(ClassificationGradients(every=1), lit(), [batch]).rows
    assert values == {"train/gradient_positives": 0.0, "train/gradient_negatives": pytest.approx(literal(batch)[1])}


def test_a_skipped_batch_logs_nothing_and_leaves_no_hook():
    module = lit()
    logger = train(ClassificationGradients(every=1), module, [None, matched(), None])
    assert [step for step, _ in logger.rows] == [1]
    assert not module.criterion._forward_pre_hooks


def test_the_gradient_of_training_is_the_same_with_and_without():
    alone, watched = matched(), matched()
    sum(lit(Focal()).criterion(alone).values()).backward()
    train(ClassificationGradients(every=1), lit(Focal()), [watched])
    assert torch.equal(alone.logits.grad, watched.logits.grad)


def test_the_ratio_is_that_of_all_processes_together(monkeypatch):
    batch, beside = matched(), torch.tensor([1.0, 3.0])  # the sums of another process
    monkeypatch.setattr("detlab.engine.callbacks.gradients.reduce_mean", lambda own: (own + beside) / 2)
    ((_, values),) = train(ClassificationGradients(every=1), lit(), [batch]).rows
    on, off = literal(batch)
    assert values["train/gradient_positives"] == pytest.approx((on + 1) / 2)
    assert values["train/gradient_ratio"] == pytest.approx((off + 3) / (on + 1))


def test_alrp_loss_is_balanced():
    """Theorem 2 of Oksuz et al. 2020."""
    module = SimpleNamespace(criterion=ALRPCriterion("iou"))
    ((_, values),) = train(ClassificationGradients(every=1), module, [matched()]).rows
    assert values["train/gradient_positives"] > 0.1
    assert values["train/gradient_ratio"] == pytest.approx(1, rel=1e-5)


def test_a_test_says_how_far_and_how_unsteadily_the_ratios_were_off_balance():
    """0.1 and 1000 are one and three orders of magnitude off, both 2 from their mean; no other is a ratio."""
    said: dict[str, float] = {}
    module = SimpleNamespace(log_dict=lambda values, **_: said.update(values))
    callback = ClassificationGradients()
    callback.on_test_epoch_end(None, module)
    assert said == {}  # nothing was logged
    for ratio in (0.1, 0.0, float("nan"), float("inf")):
        callback._ratios.add(ratio)
    resumed = ClassificationGradients()
    resumed.load_state_dict(callback.state_dict())
    resumed._ratios.add(1000.0)
    resumed.on_test_epoch_end(None, module)
    expected = {"test/gradient_imbalance": 2.0, "test/gradient_swing": 2.0}
    assert said == pytest.approx(expected)


def test_ratios_are_counted_as_they_are_logged():
    callback = ClassificationGradients(every=1)
    rows = train(callback, lit(), [matched(), matched(1), matched(0)]).rows
    logs = np.log10([values["train/gradient_ratio"] for _, values in rows[:2]])
    assert callback._ratios.count == 2
    assert callback._ratios.imbalance == pytest.approx(np.abs(logs).mean())
    assert callback._ratios.swing == pytest.approx(logs.std())
    assert np.isnan([RatioStatistics().imbalance, RatioStatistics().swing]).all()


def test_overflow_is_left_out():
    module = lit()
    logger = train(ClassificationGradients(every=1), module, [matched()], scale=float("inf"))
    assert logger.rows == [(0, {})]


def test_soft_targets_make_several_classes_positive():
    gradient = torch.arange(12.0).view(2, 3, 2) - 6
    positives, negatives = gradient_sums(gradient, matched(soft=True))
    assert positives == 6 + 5 + 0  # both classes of the first anchor, the first class of the fourth
    assert negatives == gradient.abs().sum() - 11


def test_a_loss_that_is_no_module_is_refused():
    with pytest.raises(UserError, match=r"callbacks=gradients watches losses that are a torch\.nn\.Module"):
        ClassificationGradients().on_train_start(None, SimpleNamespace(criterion=len))
    with pytest.raises(ValueError, match="every >= 1"):
        ClassificationGradients(every=0)


@pytest.mark.slow
def test_a_training_run_has_them_in_its_history(detlab, tiny):
    done = detlab("train", *tiny, "callbacks=gradients", "run_dir=run", "logger=csv", "logger.every=2", "report=false")
    assert done.status == 0, done.err
    history = read_history(Path("run/metrics.csv"))
    logged = np.isfinite(history["train/loss"])
    assert history["step"][logged].tolist() == [1, 3]
    for name in ("positives", "negatives", "ratio"):
        assert np.isfinite(history[f"train/gradient_{name}"]).tolist() == logged.tolist()
    on, off, ratio = (history[f"train/gradient_{name}"][logged] for name in ("positives", "negatives", "ratio"))
    np.testing.assert_allclose(ratio, off / on, rtol=1e-6)
    assert (on > 0).all()
    values = read_values("run", "gradient_")
    logs = np.log10(ratio)
    assert values == pytest.approx({"gradient_imbalance": np.abs(logs).mean(), "gradient_swing": logs.std()}, rel=1e-4)


def read_values(run: str, prefix: str) -> dict[str, float]:
    """What a run's test measured, of the names that begin so."""
    test = json.loads((Path(run) / "metrics.json").read_text())["test"]
    return {name: value for name, value in test.items() if name.startswith(prefix)}
