"""The training step asks nothing of a detector but its contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detlab.assigners.counts import count_matches
from detlab.engine.module import LitDetector
from detlab.errors import UserError
from detlab.models.detectors.base import Detector, LossOutput
from detlab.postprocess import Postprocess
from detlab.structures import Anchors, Assignment, Batch, Predictions, Targets
from tests.pseudo_labels.steps import NAMES, batch_of, configured, step


class OneBox(Detector):
    """A detector that the engine has never heard of: one box for an image, matched to the image's first object."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        boxes = torch.tensor([[0.0, 0, 32, 32]])
        logits = self.scores(images.mean((2, 3)))[:, None]
        spread = boxes.expand(len(images), 1, 4)
        return Predictions(logits, spread, spread), Anchors(boxes, torch.zeros(1, dtype=torch.int64), (1,))

    def losses(self, batch: Batch, assigner: Any, criterion: Any, pseudo_labels: Any, iteration: int) -> LossOutput:
        batch = pseudo_labels.before_forward(batch, iteration)
        predictions, anchors = self(batch.images)
        assignment = assigner(anchors, batch.targets, predictions)
        return LossOutput(criterion(predictions), count_matches(batch.targets, assignment))


def first_object(anchors: Anchors, targets: list[Targets], predictions: Predictions) -> Assignment:  # noqa: ARG001
    return Assignment(torch.tensor([[0 if len(t) else -1] for t in targets]))


def a_module(criterion: Any) -> LitDetector:
    return LitDetector(OneBox(), first_object, criterion, Postprocess(score_threshold=0.0), NAMES)


def two_terms(predictions: Predictions) -> dict[str, Tensor]:
    return {"a": predictions.logits.square().sum(), "b": predictions.logits.sum() * 0 + 2}


def test_a_detector_of_any_kind_trains_and_detects() -> None:
    module, batch = a_module(two_terms), batch_of([True] * 3, objects=2)
    logged = step(module, batch)
    assert logged["loss"] == pytest.approx(logged["loss_a"] + logged["loss_b"])
    assert logged["loss_b"] == 2
    assert logged["positives_per_object"] == 0.5
    assert logged["unmatched_objects"] == 0.5
    assert module.detector.scores.weight.grad is not None
    found = module.detect(batch)
    assert [len(d.boxes) for d in found] == [3, 3]
    regions, anchors = module.detector.predict_regions(batch.images, batch.sizes)
    assert torch.equal(regions.logits, module(batch.images)[0].logits)
    assert len(anchors.boxes) == 1


def test_a_batch_without_a_readable_image_is_skipped() -> None:
    module, batch = a_module(two_terms), batch_of([True] * 3, objects=1)
    step(module, batch)
    assert module.counts is not None
    none = Batch(
        batch.images[:0], [], batch.sizes[:0], batch.scales[:0], batch.sizes[:0], batch.image_ids[:0], skipped=2
    )
    logged: dict[str, Any] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign]
    assert module.training_step(none, 0) is None
    assert logged == {"train/skipped_images": 2}
    assert module.counts is None


def test_a_loss_that_is_not_finite_names_its_terms_and_images() -> None:
    module = a_module(lambda predictions: {"a": predictions.logits.sum() * 0, "bad": predictions.logits.sum() / 0})
    with pytest.raises(UserError, match=r"a = .*bad = .*\[0, 1\]"):
        step(module, batch_of([True] * 3))


def test_weights_have_the_names_that_earlier_checkpoints_give_them() -> None:
    from detlab.config.instantiate import build_module

    module = build_module(configured("method=atss"), NAMES, training=False)
    assert {name.partition(".")[0] for name in module.state_dict()} == {"detector"}
