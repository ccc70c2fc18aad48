"""Algorithm 1 against a loop over single boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from detlab.errors import UserError
from detlab.proxy_classifier.classifier import ProxyClassifier
from detlab.proxy_classifier.cutting import flipped
from detlab.proxy_classifier.patch_drop import draw_patches, drop_patch
from detlab.pseudo_labels.candidates import Regions, overlapping
from detlab.pseudo_labels.proxy import ProxyPseudoLabels
from detlab.structures import Anchors, Batch, Predictions, Targets

NAMES = ("cat", "cow", "dog")
SIZE = 64


class Toy:
    """A classifier whose answer is a function of the box alone; patch-drop is another matter."""

    def __init__(self, classes: Sequence[str] = NAMES, sharpness: float = 4.0) -> None:
        self.classes = list(classes)
        self.sharpness = sharpness
        self.asked = 0

    def classify(self, images: Tensor, image: Tensor, boxes: Tensor, *args: Any) -> Tensor:  # noqa: ARG002
        self.asked += len(boxes)
        waves = torch.arange(1.0, len(self.classes) + 2) / 7
        return (self.sharpness * torch.sin(boxes.sum(-1, keepdim=True) * waves)).softmax(-1)


def scene(
    seed: int = 0, *, objectness: bool = True, images: int = 3, anchors: int = 80
) -> tuple[Batch, Predictions, Anchors]:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    corner = rand(images, anchors, 2) * 70 - 8
    boxes = torch.cat([corner, corner + rand(images, anchors, 2) * 30], -1)  # some outside, some of less than a pixel
    targets = []
    for image in range(images):
        near = boxes[image, :3] + rand(3, 4) * 3
        known = torch.tensor([True, image % 2 == 1, True])
        targets.append(Targets.of(near[: 3 - image], torch.zeros(3 - image), len(NAMES), annotated=known))
    batch = Batch(
        images=rand(images, 3, SIZE, SIZE),
        targets=targets,
        sizes=torch.tensor([[SIZE, SIZE - 10]] * images),
        scales=torch.ones(images, 2),
        original_sizes=torch.tensor([[SIZE, SIZE - 10]] * images),
        image_ids=torch.arange(images),
    )
    predictions = Predictions(
        rand(images, anchors, len(NAMES)) * 4 - 2,
        boxes,
        torch.zeros(images, anchors, 4),
        objectness=rand(images, anchors) * 4 - 2 if objectness else None,
    )
    return batch, predictions, Anchors(boxes[0], torch.zeros(anchors, dtype=torch.int64), (anchors,))


def literal(batch: Batch, predictions: Predictions, treatment: ProxyPseudoLabels) -> dict[tuple[int, int], Any]:
    """(image, anchor) → (p̃(c), p̃(O)) of S_e, box by box, without NMS and cap."""
    found = {}
    for image, targets in enumerate(batch.targets):
        if bool(targets.annotated.all()):
            continue
        height, width = batch.sizes[image].tolist()
        for anchor, box in enumerate(predictions.boxes[image]):
            x1, y1, x2, y2 = box.tolist()
            x1, x2 = (min(max(x, 0.0), width) for x in (x1, x2))
            y1, y2 = (min(max(y, 0.0), height) for y in (y1, y2))
            if x2 - x1 < 1 or y2 - y1 < 1:
                continue
            region = torch.tensor([[x1, y1, x2, y2]])
            if len(targets) and float(box_iou(region, targets.boxes).max()) > treatment.max_iou:
                continue
            logits = predictions.logits[image, anchor]
            if predictions.objectness is None:
                score, own = float(logits.sigmoid().max()), logits.sigmoid() / logits.sigmoid().sum()
            else:
                score, own = float(predictions.objectness[image, anchor].sigmoid()), logits.softmax(-1)
            if score < treatment.min_score:
                continue
            said = treatment.classifier.classify(batch.images, torch.tensor([image]), region)[0]
            best = int(said.argmax())
            if best == len(NAMES) or float(said[best]) < treatment.confidence:
                continue
            probs = said[: len(NAMES)]
            if treatment.beta > 0:
                mixed = treatment.beta * own + (1 - treatment.beta) * probs
                probs = mixed / mixed.sum() * probs.sum()
            product = treatment.objectness == "product"
            surety = float(said[best]) * (score if product else 1.0)
            if product and predictions.objectness is None:
                probs = probs * score
            if treatment.classes == "unannotated" and bool(targets.annotated[best]):
                continue
            found[image, anchor] = (probs, surety)
    return found


def treatment(**changes: Any) -> ProxyPseudoLabels:
    settings: dict[str, Any] = {"start": 0, "nms": None, "cap": None, "min_score": 0.0, "confidence": 0.5}
    result = ProxyPseudoLabels(Toy(), **(settings | changes))
    result.bind(NAMES)
    return result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("objectness", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"beta": 0.3}, {"beta": 1.0}, {"objectness": "product"}, {"min_score": 0.6}, {"max_iou": 0.1},
        {"confidence": 0.9}, {"classes": "unannotated"},
    ],
    ids=str,
)  # fmt: skip
def test_equals_the_loop(seed: int, objectness: bool, changes: dict[str, Any]) -> None:
    batch, predictions, anchors = scene(seed, objectness=objectness)
    own = treatment(**changes)
    expected = literal(batch, predictions, own)
    labels = own.predict_pseudo_labels(batch, anchors, predictions, 0)
    assert labels is not None
    found = {
        (int(i), int(a)): (p, float(o))
        for i, a, p, o in zip(labels.image, labels.anchor, labels.probs, labels.objectness)
    }
    assert found.keys() == expected.keys()
    for key, (probs, surety) in expected.items():
        torch.testing.assert_close(found[key][0], probs, rtol=1e-5, atol=1e-6)
        assert found[key][1] == pytest.approx(surety, rel=1e-5)
    assert float(own.log_metrics["pseudo_labels_per_image"]) == pytest.approx(len(expected) / 3)


def test_some_are_labelled_in_those_tests() -> None:
    batch, predictions, _ = scene(0)
    assert len(literal(batch, predictions, treatment())) > 10


def missing(predictions: Predictions, batch: Batch, regions: Any) -> Tensor:
    """For each region: the detector's probability of an object of a class that nobody looked for in its image."""
    assert predictions.objectness is not None
    found = []
    for image, anchor in zip(regions.image.tolist(), regions.anchor.tolist()):
        classes = predictions.logits[image, anchor].softmax(-1)[~batch.targets[image].annotated].sum()
        found.append(float(classes * predictions.objectness[image, anchor].sigmoid()))
    return torch.tensor(found)


@pytest.mark.parametrize("objectness", [True, False])
def test_regions_likely_of_a_class_that_nobody_looked_for_come_first(objectness: bool) -> None:
    batch, predictions, _ = scene(1, objectness=objectness)
    found = treatment(nms=0.3, cap=100).regions(batch, predictions)
    for image in range(3):
        here = found.image == image
        if objectness:
            scores = missing(predictions, batch, found)[here]
        else:
            logits = predictions.logits[image, found.anchor[here]]
            scores = logits[:, ~batch.targets[image].annotated].sigmoid().amax(1) if len(logits) else logits
        assert (scores[1:] <= scores[:-1] + 1e-6).all()
    assert len(found.image) > 10


def test_of_overlapping_ones_the_best_and_so_many_per_image() -> None:
    batch, predictions, _ = scene(1)
    every = treatment(max_iou=1.0).regions(batch, predictions)
    few = treatment(nms=0.3, cap=4).regions(batch, predictions)
    for image in range(3):
        here, known = every.image == image, batch.targets[image].boxes
        boxes, scores = every.boxes[here], missing(predictions, batch, every)[here]
        kept = boxes[nms(boxes, scores, 0.3)]  # those on labelled objects take their neighbours with them
        free = (box_iou(kept, known) <= 0.5).all(1) if len(known) else torch.ones(len(kept), dtype=torch.bool)
        assert torch.equal(few.boxes[few.image == image], kept[free][:4])
    assert 0 < len(few.image) < len(every.image)


def test_each_picture_has_a_cap_of_its_own() -> None:
    """By what its annotators did not look for, where cap=auto has been told how frequent that is."""
    batch, predictions, _ = scene(1)
    automatic = treatment(nms=0.3, cap="auto")
    automatic.rates = torch.linspace(1, 5, len(batch.targets[0].annotated))
    found = automatic.regions(batch, predictions)
    numbers = torch.bincount(found.image, minlength=3).tolist()
    lacking = [float(automatic.rates[~t.annotated].sum()) for t in batch.targets]
    assert numbers == [max(3, math.ceil(1.5 * number)) if number else 0 for number in lacking]
    assert len(set(numbers)) > 1
    every = treatment(nms=0.3, cap=100).regions(batch, predictions)
    for image in range(3):
        first = every.boxes[every.image == image][: numbers[image]]
        assert torch.equal(found.boxes[found.image == image], first)


@pytest.mark.parametrize(("count", "pairs", "min_iou"), [(0, 100, 0.3), (1, 100, 0.3), (9, 100, 0.3), (9, 2**22, 0.0)])
def test_an_anchor_goes_to_the_region_it_overlaps_most(
    count: int, pairs: int, min_iou: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detlab.pseudo_labels.candidates.PAIRS_AT_ONCE", pairs)
    generator = torch.Generator().manual_seed(count)
    corners = torch.randint(20, (2, 60, 2), generator=generator)
    boxes = torch.cat([corners, corners + torch.randint(1, 12, (2, 60, 2), generator=generator)], 2).float()
    boxes[0, 10] = boxes[0, 4] = boxes[0, 7]  # two regions in one place: a tie
    flat = torch.tensor([4, 7, 13, 22, 31, 60, 66, 71, 90])[:count]
    image, anchor = flat // 60, flat % 60
    regions = Regions(image, anchor, boxes[image, anchor], torch.ones(count))
    expected = []
    for b in range(2):
        for a in range(60):
            ious = [float(box_iou(boxes[b, a][None], r[None])) * (i == b) for r, i in zip(regions.boxes, image)]
            best = max(range(count), key=ious.__getitem__, default=-1)
            own = [row for row in range(count) if (image[row], anchor[row]) == (b, a)]
            if own or (count and ious[best] > 0 and ious[best] >= min_iou):
                expected.append((own[0] if own else best, a))
    owner, found = overlapping(regions, boxes, min_iou)
    assert list(zip(owner.tolist(), found.tolist(), strict=True)) == expected
    assert len(expected) > count or not count


def test_neighbours_share_the_label_or_are_spared() -> None:
    batch, predictions, anchors = scene(2)
    alone = treatment(nms=0.3, neighbours="background").predict_pseudo_labels(batch, anchors, predictions, 0)
    shared = treatment(nms=0.3, neighbours="label").predict_pseudo_labels(batch, anchors, predictions, 0)
    spared = treatment(nms=0.3, neighbours="spare").predict_pseudo_labels(batch, anchors, predictions, 0)
    assert alone is not None
    assert shared is not None
    assert spared is not None
    assert len(alone.ignored) == 0
    own = set(zip(alone.image.tolist(), alone.anchor.tolist()))
    expected = {}
    for image in range(3):
        mine = (alone.image == image).nonzero()[:, 0]
        if not len(mine):
            continue
        width, height = batch.sizes[image].flip(0).tolist()
        limit = torch.tensor([width, height, width, height])
        iou = box_iou(torch.minimum(predictions.boxes[image].clamp(min=0), limit), alone.boxes[mine])
        for anchor in range(80):
            if float(iou[anchor].max()) >= 0.3 or (image, anchor) in own:
                expected[image, anchor] = int(mine[int(iou[anchor].argmax())])
    assert {(image, anchor) for image, anchor, _ in spared.ignored.tolist()} == expected.keys()
    for image, anchor, owner in spared.ignored.tolist():
        if (image, anchor) not in own:
            assert owner == int(alone.anchor[expected[image, anchor]])
    assert len(expected) > len(own)
    for image, anchor, probs in zip(shared.image.tolist(), shared.anchor.tolist(), shared.probs):
        if (image, anchor) not in own:
            assert torch.equal(probs, alone.probs[expected[image, anchor]])
        width, height = batch.sizes[image].flip(0).tolist()
        box = torch.minimum(predictions.boxes[image, anchor].clamp(min=0), torch.tensor([width, height] * 2))
        overlap = box_iou(box[None], batch.targets[image].boxes)
        assert (image, anchor) in own or overlap.numel() == 0 or float(overlap.max()) <= 0.5
    assert own <= set(zip(shared.image.tolist(), shared.anchor.tolist()))


def test_neighbours_of_a_dense_detector_are_assigned_those_of_yolo_spared() -> None:
    for objectness, as_boxes in ((True, False), (False, True)):
        batch, predictions, anchors = scene(2, objectness=objectness)
        own = treatment(nms=0.3, neighbours="auto")
        found = own.predict_pseudo_labels(batch, anchors, predictions, 0)
        assert found is not None
        assert found.size > 0
        assert own.as_boxes == as_boxes
        assert (len(found.ignored) == 0) == as_boxes


@pytest.mark.parametrize("neighbours", ["spare", "background", "assigned"])
def test_regions_that_show_a_class_but_not_surely_are_spared(neighbours: str) -> None:
    """Box by box: what is sure at a lower threshold, and not at this one, is doubtful."""
    batch, predictions, anchors = scene(3)
    own = treatment(nms=0.3, cap=10, confidence=0.7, neighbours=neighbours)
    regions = own.regions(batch, predictions)
    sure, doubtful = set(), set()
    for image, anchor, box in zip(regions.image.tolist(), regions.anchor.tolist(), regions.boxes):
        said = own.classifier.classify(batch.images, torch.tensor([image]), box[None])[0].tolist()
        if max(said[:-1]) >= said[-1]:
            (sure if max(said[:-1]) >= 0.7 else doubtful).add((image, anchor))
    assert sure
    assert doubtful
    paper = own.predict_pseudo_labels(batch, anchors, predictions, 0)
    assert paper is not None
    assert set(zip(paper.image.tolist(), paper.anchor.tolist())) == sure

    spare = treatment(nms=0.3, cap=10, confidence=0.7, neighbours=neighbours, unsure="spare")
    found = spare.predict_pseudo_labels(batch, anchors, predictions, 0)
    assert found is not None
    assert spare.label_batch(batch, predictions).size == len(sure)  # no labels of what it doubts
    rows = list(zip(found.image.tolist(), found.anchor.tolist(), found.objectness.tolist()))
    assert {row[:2] for row in rows if row[2] > 0} == sure
    if neighbours == "assigned":
        assert {row[:2] for row in rows if row[2] == 0} == doubtful
        boxes = spare.append_pseudo_boxes(spare.transform_targets(batch.targets), found)
        assert sum(int((t.weights == 0).sum()) for t in boxes) == len(doubtful)
        return
    assert all(row[2] > 0 for row in rows)
    before = {tuple(row) for row in paper.ignored.tolist()}
    own_anchors = {(image, anchor) for image, anchor, owner in found.ignored.tolist() if anchor == owner}
    assert doubtful <= own_anchors
    owners = {(image, owner) for image, _, owner in found.ignored.tolist() if (image, _, owner) not in before}
    assert owners == doubtful


def test_nothing_before_its_start_nor_where_nothing_is_missing() -> None:
    batch, predictions, anchors = scene()
    own = treatment(start=10)
    assert own.predict_pseudo_labels(batch, anchors, predictions, 9) is None
    assert own.classifier.asked == 0  # type: ignore[attr-defined]
    assert float(own.log_metrics["pseudo_labels_per_image"]) == 0
    for targets in batch.targets:
        targets.annotated[:] = True
    labels = treatment().predict_pseudo_labels(batch, anchors, predictions, 0)
    assert labels is not None
    assert labels.size == 0


def test_without_images_or_boxes() -> None:
    batch, predictions, anchors = scene(anchors=80)
    nowhere = predictions._replace(boxes=torch.full_like(predictions.boxes, -50.0))
    labels = treatment(nms=0.5, cap=3).predict_pseudo_labels(batch, anchors, nowhere, 0)
    assert labels is not None
    assert labels.size == 0
    broken = predictions._replace(boxes=torch.full_like(predictions.boxes, torch.nan))
    labels = treatment(nms=0.5, cap=3).predict_pseudo_labels(batch, anchors, broken, 0)
    assert labels is not None
    assert labels.size == 0


def test_classes_go_by_name() -> None:
    batch, predictions, anchors = scene()
    own = ProxyPseudoLabels(Toy(("dog", "sofa", "cat")), start=0, nms=None, cap=None, min_score=0.0, confidence=0.5)
    own.bind(NAMES)
    labels = own.predict_pseudo_labels(batch, anchors, predictions, 0)
    assert labels is not None
    said = own.classifier.classify(batch.images, labels.image, labels.boxes)
    assert torch.equal(labels.probs[:, 0], said[:, 2])
    assert torch.equal(labels.probs[:, 2], said[:, 0])
    assert (labels.probs[:, 1] == 0).all()
    assert not (said.argmax(-1) == 1).any()  # a sofa is nothing that the detector looks for
    with pytest.raises(UserError, match=r"knows none of the detector's classes"):
        ProxyPseudoLabels(Toy(("sofa",)), start=0).bind(NAMES)


@pytest.mark.slow
def test_all_views_give_equation_1_where_enough_of_them_do_not() -> None:
    torch.manual_seed(0)
    classifier = ProxyClassifier(list(NAMES), torch.tensor([[16, 16], [24, 24]]), width=0.25).eval()
    with torch.no_grad():
        classifier.net.output.weight *= 100  # answers that differ from view to view, and are sure
    batch, predictions, _ = scene(2)
    settings: dict[str, Any] = {"nms": None, "cap": None, "min_score": 0.0, "confidence": 0.3, "flip": True}
    enough, every = (ProxyPseudoLabels(classifier, views=views, **settings) for views in ("enough", "all"))
    for own in (enough, every):
        own.bind(NAMES)
    regions = every.regions(batch, predictions)
    few, said = (own.look(batch, regions, torch.Generator().manual_seed(5)) for own in (enough, every))
    drawn = draw_patches(len(regions.image), 3, 2, torch.Generator().manual_seed(5))
    sums = torch.zeros(len(regions.image), len(NAMES) + 1)
    for _, group, size in classifier.sizes.group(regions.boxes, SIZE, SIZE):
        for at in group.tolist():
            crop, content = classifier._crops(batch.images, regions.image[[at]], regions.boxes[[at]], size)
            views = [
                crop,
                *(drop_patch(crop, content, drawn[copy, [at]], 3) for copy in range(2)),
                flipped(crop, content),
            ]
            sums[at] = sum(classifier.predict(view)[0] for view in views)
    assert len(regions.image) > 50
    torch.testing.assert_close(said, sums / 4, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(few, said, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_iou": 1.1}, {"confidence": -0.1}, {"beta": 2.0}, {"nms": 1.5}, {"min_score": -1.0}, {"start": -1},
        {"copies": -1}, {"patches": 0}, {"views": "two"}, {"cap": 0}, {"cap": "all"},
        {"objectness": "both"}, {"unsure": "drop"}, {"neighbours": "share"}, {"classes": "all"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_values(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        ProxyPseudoLabels(Toy(), **bad)
