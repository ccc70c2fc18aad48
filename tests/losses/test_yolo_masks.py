"""What an image's annotators did not look for gets no gradient from its background in a YOLO's losses, either."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from detlab.config.groups import options_of
from detlab.config.launch import CONFIG_DIR
from detlab.ops.matching import gather
from detlab.pseudo_labels.none import AllBackground
from detlab.structures import Anchors, Assignment, Predictions, Targets

BATCH, ANCHORS, CLASSES = 3, 60, 4
LOSSES = [name for name in options_of("loss") if name.startswith("yolo")]
ANNOTATED = torch.tensor([[True, True, False, False], [False, False, True, True], [True, True, True, True]])


@pytest.fixture(scope="module", params=LOSSES)
def criterion(request: pytest.FixtureRequest) -> Any:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        loss: Any = compose("train", ["method=yolo", f"loss={request.param}"])
    return instantiate(loss.loss, _convert_="all")


def gradients(criterion: Any, masked: bool, seed: int = 0) -> tuple[Assignment, Tensor, Tensor, Tensor]:
    """The assignment, the logits, and the gradients of logits and objectness."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(ANCHORS, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 8 + torch.rand(ANCHORS, 2, generator=generator) * 30], 1)
    targets = []
    for image, known in enumerate(ANNOTATED):
        labels = known.nonzero()[:, 0]
        targets.append(Targets.of(boxes[: len(labels)] + image, labels, CLASSES, annotated=known))
    index = torch.full((BATCH, ANCHORS), -1)
    for image, target in enumerate(targets):
        index[image, : 2 * len(target)] = torch.arange(len(target)).repeat_interleave(2)
        index[image, 20:25] = -2
    logits = torch.randn(BATCH, ANCHORS, CLASSES, generator=generator).requires_grad_()
    objectness = torch.randn(BATCH, ANCHORS, generator=generator).requires_grad_()
    deltas = torch.randn(BATCH, ANCHORS, 4, generator=generator) / 10
    predictions = Predictions(logits, boxes + 5 * deltas, deltas, objectness=objectness)
    anchors = Anchors(boxes, torch.zeros(ANCHORS, dtype=torch.int64), (ANCHORS,))
    if not masked:
        targets = AllBackground().transform_targets(targets)
    matched = gather(anchors, targets, Assignment(index), predictions)
    torch.stack(list(criterion(matched).values())).sum().backward()
    assert logits.grad is not None
    assert objectness.grad is not None
    return Assignment(index), logits.detach(), logits.grad, objectness.grad


@pytest.mark.parametrize("seed", range(3))
def test_background_that_no_annotated_class_explains_is_left_alone(criterion: Any, seed: int) -> None:
    assignment, logits, by_class, by_object = gradients(criterion, masked=True, seed=seed)
    _, _, _, unmasked = gradients(criterion, masked=False, seed=seed)
    background = assignment.gt_index == -1
    unknown = background & ~ANNOTATED.gather(1, logits.argmax(-1))
    assert unknown[:2].any()
    assert not unknown[2].any()
    assert (by_object[unknown] == 0).all()
    assert (unmasked[unknown] > 0).all()
    assert (by_object[background & ~unknown] > 0).all()
    assert torch.equal(by_object[~unknown], unmasked[~unknown])  # what remains is untouched
    assert (by_class[assignment.gt_index < 0] == 0).all()  # background says nothing of classes
    assert (by_object[assignment.gt_index == -2] == 0).all()
