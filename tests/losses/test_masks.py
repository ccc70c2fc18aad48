"""A class that an image's annotators did not look for gets no gradient from that image, in any loss of `conf/loss`."""

from __future__ import annotations

from collections.abc import Callable
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
# Those of other outputs have tests of their own; focal_intervals is the focal loss beside other boxes.
OTHERS = ("yolo", "faster_rcnn", "focal_intervals")
LOSSES = [name for name in options_of("loss") if not name.startswith(OTHERS)]
# Whom the annotators of each image asked for: two of the classes, the other two, none.
ANNOTATED = torch.tensor([[True, True, False, False], [False, False, True, True], [False, False, False, False]])
NOWHERE = -1e4  # a logit so low that its element counts in no loss


@pytest.fixture(scope="module", params=LOSSES)
def criterion(request: pytest.FixtureRequest) -> Callable[..., Any]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        loss: Any = compose("train", [f"loss={request.param}"])
    return instantiate(loss.loss, _convert_="all")


def scene(seed: int) -> tuple[Anchors, list[Targets], Assignment, Predictions]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(ANCHORS, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 8 + torch.rand(ANCHORS, 2, generator=generator) * 30], 1)
    targets = []
    for image, known in enumerate(ANNOTATED):
        labels = known.nonzero()[:, 0].repeat(2)  # every class that was looked for, twice
        targets.append(Targets.of(boxes[: len(labels)] + image, labels, CLASSES, annotated=known))
    index = torch.full((BATCH, ANCHORS), -1)
    for image, target in enumerate(targets):
        for number in range(len(target)):
            index[image, 3 * number : 3 * number + 2] = number
        index[image, 20:25] = -2
    logits = torch.randn(BATCH, ANCHORS, CLASSES, generator=generator, dtype=torch.float64)
    deltas = torch.randn(BATCH, ANCHORS, 4, generator=generator) / 10
    quality = torch.randn(BATCH, ANCHORS, generator=generator)
    return (
        Anchors(boxes, torch.zeros(ANCHORS, dtype=torch.int64), (ANCHORS,)),
        targets,
        Assignment(index),
        Predictions(logits, boxes + 5 * deltas, deltas, quality),
    )


def gradient(criterion: Any, scene: tuple[Any, ...]) -> Tensor:
    anchors, targets, assignment, predictions = scene
    logits = predictions.logits.clone().requires_grad_()
    quality = predictions.quality if getattr(criterion, "quality", None) is not None else None
    matched = gather(anchors, targets, assignment, predictions._replace(logits=logits, quality=quality))
    torch.stack(list(criterion(matched).values())).sum().backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize("seed", range(3))
def test_classes_that_nobody_looked_for_get_none(criterion: Any, seed: int) -> None:
    found = gradient(criterion, scene(seed))
    silent = ~ANNOTATED[:, None].expand(-1, ANCHORS, -1)
    assert torch.equal(found[silent], torch.zeros_like(found[silent]))
    assert (found[~silent] != 0).any()


@pytest.mark.parametrize("seed", range(3))
def test_the_others_get_what_they_would_without_them(criterion: Any, seed: int) -> None:
    """The same scene with everything annotated, its silent elements so low that no loss counts them."""
    anchors, targets, assignment, predictions = scene(seed)
    masked = gradient(criterion, (anchors, targets, assignment, predictions))
    heard = ANNOTATED[:, None].expand(-1, ANCHORS, -1)
    low = predictions._replace(logits=predictions.logits.masked_fill(~heard, NOWHERE))
    whole = gradient(criterion, (anchors, AllBackground().transform_targets(targets), assignment, low))
    torch.testing.assert_close(masked[heard], whole[heard], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_as_background_they_do_get_one(criterion: Any, seed: int) -> None:
    """Without the mask, so that the first test can fail. A ranking loss punishes only what stands above a positive."""
    anchors, targets, assignment, predictions = scene(seed)
    found = gradient(criterion, (anchors, AllBackground().transform_targets(targets), assignment, predictions))
    asked = ANNOTATED.any(1)[:, None, None]  # an image in which nobody looked for anything stays silent
    background = (assignment.gt_index == -1)[..., None] & ~ANNOTATED[:, None] & asked
    assert (found[background] > 0).float().mean() > 0.5
