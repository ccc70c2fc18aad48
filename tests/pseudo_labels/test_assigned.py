"""`neighbours=assigned`: a proxy's labels as boxes that a dense detector's assigner sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from detlab.config.instantiate import build_module
from detlab.pseudo_labels.proxy import ProxyPseudoLabels
from detlab.structures import Batch, Matched, Targets
from tests.pseudo_labels.steps import NAMES, Sure, batch_of, configured, step


@pytest.fixture(scope="module")
def config() -> Any:
    return configured("method=retinanet", "detector.head.convs=1")


def seen_by_the_losses(config: Any, batch: Batch, treatment: ProxyPseudoLabels | None) -> tuple[Matched, dict]:
    torch.manual_seed(0)
    module = build_module(config, NAMES, training=False)
    if treatment is not None:
        module.pseudo_labels = treatment
        treatment.bind(NAMES)
    given: list[Matched] = []
    module.criterion.register_forward_pre_hook(lambda _, arguments: given.extend(arguments))  # type: ignore[operator]
    logged = step(module.train(), batch)
    (matched,) = given
    return matched, logged


@pytest.mark.slow
def test_a_pseudo_label_gets_the_anchors_of_a_labelled_box(config) -> None:
    """In pictures without a labelled object, whatever is positive is so by the classifier's word."""
    treatment = ProxyPseudoLabels(Sure(), start=0, min_score=0.0, cap=2, nms=0.3, neighbours="assigned")
    found: list[Any] = []
    add = treatment.append_pseudo_boxes
    treatment.append_pseudo_boxes = lambda targets, labels: found.append(labels) or add(targets, labels)  # type: ignore[method-assign]
    batch = batch_of([True, False, True])
    matched, logged = seen_by_the_losses(config, batch, treatment)
    (labels,) = found
    assert labels.size == 2
    assert logged["loss_localization"] == 0  # no coordinate loss
    assert logged["positives_per_object"] > 0

    # the same boxes as if annotators had drawn them
    drawn = [batch.targets[0], Targets.of(labels.boxes, torch.ones(2), 3)]
    expected, _ = seen_by_the_losses(config, Batch(**{**vars(batch), "targets": drawn}), None)
    assert len(expected.positive) > 2  # several anchors for a box
    assert torch.equal(matched.labels, expected.labels)
    assert torch.equal(matched.target_boxes, expected.target_boxes)
    assert float(expected.box_weights.min()) == 1
    assert float(matched.box_weights.abs().max()) == 0
    weights = matched.class_weights.expand_as(matched.logits).flatten(0, 1)
    torch.testing.assert_close(weights[matched.positive], torch.full((len(matched.positive), 3), 0.9))
    assert matched.class_targets is not None
    rows = matched.class_targets.flatten(0, 1)[matched.positive]
    torch.testing.assert_close(rows, torch.tensor([[0.0, 0.9, 0.05]]).expand(len(rows), 3))


def test_before_its_start_it_is_the_baseline(config) -> None:
    batch = batch_of([True, False, True], objects=2)
    late = ProxyPseudoLabels(Sure(), start=5, neighbours="assigned")
    none = ProxyPseudoLabels(Sure(), start=5, neighbours="background")
    assert seen_by_the_losses(config, batch, late)[1] == seen_by_the_losses(config, batch, none)[1]
