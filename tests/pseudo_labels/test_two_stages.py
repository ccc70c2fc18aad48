"""Treatments of missing labels with a detector of two stages: pseudo-labels are boxes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from detlab.config.instantiate import build_module
from detlab.data.scenes.shapes import CLASSES
from detlab.engine.module import LitDetector
from detlab.proxy_classifier import ProxyClassifier, save
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.matched_targets import with_boxes
from detlab.pseudo_labels.proxy import ProxyPseudoLabels
from detlab.structures import PseudoLabels, Targets
from tests.pseudo_labels.steps import NAMES, Sure, batch_of, configured, step


@pytest.fixture(scope="module")
def config() -> Any:
    return configured("method=faster_rcnn", "detector.rpn.train_proposals=30")


def module_with(config: Any, treatment: PseudoLabelCallback | None) -> LitDetector:
    torch.manual_seed(0)
    module = build_module(config, NAMES, training=False)
    if treatment is not None:
        module.pseudo_labels = treatment
        treatment.bind(NAMES)
    return module.train()


def test_labels_of_proposals_become_boxes_that_are_not_learnt() -> None:
    known = Targets.of(torch.tensor([[1.0, 2, 30, 40]]), torch.tensor([2]), 3, weights=torch.tensor([0.5]))
    other = Targets.of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 3)
    boxes = torch.tensor([[5.0, 5, 9, 9], [6, 5, 9, 9], [50, 50, 60, 60]])
    probs = torch.tensor([[0.1, 0.8, 0.0], [0.1, 0.8, 0.0], [0.9, 0.0, 0.0]])
    labels = PseudoLabels(
        image=torch.tensor([0, 0, 0]), anchor=torch.tensor([4, 5, 9]), boxes=boxes, probs=probs,
        objectness=torch.tensor([0.8, 0.8, 0.9]), source_anchor=torch.tensor([4, 4, 9]),
        ignored=torch.zeros(0, 3, dtype=torch.int64),
    )  # fmt: skip
    first, second = with_boxes([known, other], labels)
    assert second is other
    assert torch.equal(first.boxes, torch.cat([known.boxes, boxes[[0, 2]]]))  # a neighbour is not another object
    assert first.labels.tolist() == [2, 1, 0]
    assert first.weights.tolist() == pytest.approx([0.5, 0.8, 0.9])
    assert first.box_weights is not None
    assert first.box_weights.tolist() == [0.5, 0, 0]
    assert first.probs is not None
    torch.testing.assert_close(first.probs, torch.cat([one_hot(torch.tensor([2]), 3).float(), probs[[0, 2]]]))
    assert not first.ignore.any()
    assert with_boxes([known], None) == [known]


def test_sure_proposals_are_objects_of_both_stages(config) -> None:
    """In pictures without a labelled object, whatever is positive is so by the classifier's word."""
    treatment = ProxyPseudoLabels(Sure(), start=0, min_score=0.0, cap=4, nms=0.3)
    module = module_with(config, treatment)
    seen: list[Tensor] = []
    module.detector.backbone.register_forward_hook(lambda *_: seen.append(torch.ones(())))
    given: list[Any] = []
    module.criterion.register_forward_pre_hook(lambda _, arguments: given.extend(arguments))  # type: ignore[operator]
    logged = step(module, batch_of([True, False, True]))
    assert len(seen) == 1  # once through the backbone
    assert logged["pseudo_labels_per_image"] > 0.5
    assert logged["loss_proposals"] == logged["loss_localization"] == 0  # no coordinate loss
    assert logged["positives_per_object"] > 0
    first, rois = given[0], given[1].rois
    assert len(first.positive) > 0
    assert (first.positive >= first.labels.shape[1]).all()  # the second picture: nothing is missing in the first
    torch.testing.assert_close(first.class_weights.flatten()[first.positive], torch.full((len(first.positive),), 0.9))
    assert len(rois.positive) > 0
    assert (rois.labels[rois.positive] == 1).all()
    torch.testing.assert_close(rois.weights, torch.full((len(rois.positive),), 0.9))
    torch.testing.assert_close(rois.class_targets, torch.tensor([[0.0, 0.9, 0.05]]).expand(len(rois.positive), 3))


def test_doubtful_proposals_give_no_signal(config) -> None:
    """Where the classifier sees a class, but not surely, and that is to be spared."""
    treatment = ProxyPseudoLabels(Sure(), start=0, min_score=0.0, cap=4, nms=0.3, confidence=0.95, unsure="spare")
    module = module_with(config, treatment)
    given: list[Any] = []
    module.criterion.register_forward_pre_hook(lambda _, arguments: given.extend(arguments))  # type: ignore[operator]
    logged = step(module, batch_of([True, False, True]))
    assert logged["pseudo_labels_per_image"] == 0
    first, rois = given[0], given[1].rois
    assert len(first.positive) > 0
    assert not first.class_weights.flatten()[first.positive].any()
    assert len(rois.positive) > 0
    assert not rois.weights.any()


def test_a_classifier_that_is_sure_of_nothing_changes_nothing(config) -> None:
    batch = batch_of([True, False, True], objects=2)
    given = []
    for treatment in (ProxyPseudoLabels(Sure(), confidence=0.95, start=0), None):
        module = module_with(config, treatment)
        if treatment is None:
            batch.targets[1].annotated[:] = True
        given.append(step(module, batch))
    assert given[0].pop("pseudo_labels_per_image") == 0
    assert given[0].pop("pseudo_regions_per_image") > 0
    assert given[0] == given[1]


def test_a_masked_picture_teaches_its_objects_alone(config) -> None:
    everything = step(module_with(config, None), batch_of([True] * 3, objects=2))
    masked = step(module_with(config, None), batch_of([False] * 3, objects=2))
    assert masked["positives_per_object"] == everything["positives_per_object"]
    assert masked["loss_objectness"] != everything["loss_objectness"]


def columns(folder: Path) -> dict[str, list[float]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


@pytest.mark.slow
def test_training_with_pseudo_boxes_as_a_user_would_type_it(detlab, toy, tmp_path) -> None:
    torch.manual_seed(0)
    save(ProxyClassifier(CLASSES, torch.tensor([[16, 16], [32, 24]]), width=0.25), tmp_path / "h.ckpt")
    result = detlab(
        "train", "method=faster_rcnn", "data=scenes_split", "data.source.train=24", "data.source.val=4",
        "data.source.test=4", "data.source.size=64", "data.source.cache_dir=scenes", "pseudo=proxy",
        "pseudo.classifier=h.ckpt", "pseudo.start=2", "pseudo.min_score=0", "pseudo.confidence=0", "logger=csv",
        *[word for word in toy if "logger.pictures" not in word], "run_dir=run", "save_every=0",
    )  # fmt: skip
    assert result.status == 0, result.err
    history = columns(tmp_path / "run")
    assert history["train/pseudo_labels_per_image"][:2] == [0, 0]
    assert history["train/pseudo_labels_per_image"][-1] > 0
    assert history["pseudo/labels_per_image"][-1] > 0
    assert len(history["train/loss_proposals"]) == 4
    assert (tmp_path / "run/figures/pseudo_00.png").is_file()
    labelled = detlab("label", "ckpt_path=run", "by=proxy", "split=train", "format=coco", "score=0", "output=labels")
    assert labelled.status == 0, labelled.err
    assert "labels found" in labelled.out + labelled.err
