"""Faster R-CNN beside torchvision's, with the same weights; empty pictures, regions and targets; mixed precision."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import MultiScaleRoIAlign

from detlab.assigners.max_iou import MaxIoU
from detlab.config.instantiate import build_detector
from detlab.config.launch import CONFIG_DIR
from detlab.losses.regression import SmoothL1
from detlab.losses.two_stage import TwoStageCriterion
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import ResNet, SmallBackbone
from detlab.models.detectors.faster_rcnn import FasterRCNN
from detlab.models.heads.box import BoxHead, Head
from detlab.models.heads.rpn import RPN
from detlab.models.necks.fpn import FPN
from detlab.models.roi_sampler import RoISampler
from detlab.ops.boxes import BoxCoder
from detlab.ops.matching import gather_objects, of_one_class
from detlab.postprocess import Postprocess
from detlab.structures import Targets

CLASSES, SIZE, ALL = 4, 128, 100_000
TEN, ONE = BoxCoder((10.0, 10.0, 5.0, 5.0)), BoxCoder()


def theirs() -> nn.Module:
    """torchvision's, of random weights whose scores differ, sampling everything; pictures come normalised."""
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=1 + CLASSES, min_size=SIZE, max_size=SIZE,
        image_mean=[0.0] * 3, image_std=[1.0] * 3, box_score_thresh=0.15,
        rpn_batch_size_per_image=ALL, box_batch_size_per_image=ALL,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train().backbone(pictures(4))  # for statistics with which activations stay of the size of trained ones
        model.rpn.head.bbox_pred.weight.mul_(3)
        model.roi_heads.box_predictor.cls_score.weight.mul_(5)
        model.roi_heads.box_predictor.bbox_pred.weight.mul_(3)
    return model


def ours() -> FasterRCNN:
    return FasterRCNN(
        CLASSES,
        ResNet("resnet50", frozen_stages=0, norm="bn", out_levels=(2, 3, 4, 5)),
        partial(FPN, levels=(2, 3, 4, 5, 6), extra="pool"),
        AnchorGenerator((2, 3, 4, 5, 6), scale=8, octaves=1, center=0, whole=True),
        RPN,
        partial(BoxHead, coder=TEN, aligned=False),
        ONE,
        RoISampler(MaxIoU(0.5, 0.5, low_quality=False), number=ALL),
        channels_last=False,  # other kernels round otherwise, and which of two like boxes stays depends on it
    )


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names → ours."""
    names = {
        "backbone.body.conv1": "backbone.stem.0", "backbone.body.bn1": "backbone.stem.1",
        **{f"backbone.body.layer{n}": f"backbone.stages.{n - 1}" for n in range(1, 5)},
        **{f"backbone.fpn.inner_blocks.{n}.0": f"fpn.lateral.{n}" for n in range(4)},
        **{f"backbone.fpn.layer_blocks.{n}.0": f"fpn.output.{n}" for n in range(4)},
        "rpn.head": "rpn.head", "roi_heads.box_head": "head.hidden", "roi_heads.box_predictor": "head.predictor",
    }  # fmt: skip
    found = {}
    for key, value in state.items():
        (old,) = [name for name in names if key.startswith(name + ".")]
        found[names[old] + key[len(old) :]] = value
    return found


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def some_targets(count: int = 2) -> list[Targets]:
    generator, result = torch.Generator().manual_seed(2), []
    for number in range(count):
        corner = torch.rand(3 + number, 2, generator=generator) * 64
        boxes = torch.cat([corner, corner + 12 + 48 * torch.rand(len(corner), 2, generator=generator)], 1)
        result.append(Targets.of(boxes, torch.randint(CLASSES, (len(boxes),), generator=generator), CLASSES))
    return result


@pytest.fixture(scope="module")
def twins() -> tuple[nn.Module, FasterRCNN]:
    other, own = theirs(), ours()
    own.load_state_dict(from_torchvision(other.state_dict()))  # strict: nothing is left over on either side
    return other, own


def losses_of(model: FasterRCNN, images: Tensor, targets: list[Targets], samples: int = ALL) -> dict[str, Tensor]:
    """As a training step of `LitDetector` has them."""
    size = (images.shape[-2], images.shape[-1])
    first = model.propose(model.features(images), [size] * len(images))
    objects = [of_one_class(t) for t in targets]
    assignment = MaxIoU(0.7, 0.3)(first.anchors, objects)
    matched = gather_objects(first.anchors, targets, assignment, first.predictions)
    return TwoStageCriterion(SmoothL1(ONE), samples=samples)(matched, model.second_stage(first, targets))


@pytest.mark.slow
def test_detections_are_torchvision_s(twins) -> None:
    other, own = twins
    other.eval(), own.eval()
    with torch.no_grad():
        expected = other(list(pictures()))
        predictions, anchors = own(pictures())
        postprocess = Postprocess(score_threshold=0.15, topk_per_level=ALL)
        found = postprocess(predictions, anchors, torch.full((2, 2), SIZE))
    for mine, yours in zip(found, expected, strict=True):
        assert len(mine.boxes) == len(yours["boxes"]) > 20
        assert len(mine.labels.unique()) > 1
        assert torch.equal(mine.labels, yours["labels"] - 1)
        torch.testing.assert_close(mine.scores, yours["scores"], rtol=0, atol=1e-5)
        torch.testing.assert_close(mine.boxes, yours["boxes"], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_losses_are_torchvision_s(twins) -> None:
    other, own = twins
    # Batch statistics of random features of two pictures would make of rounding what they like.
    other.train(), own.train()
    for model in (other, own):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    targets = some_targets()
    with torch.no_grad():
        expected = other(list(pictures()), [{"boxes": t.boxes, "labels": t.labels + 1} for t in targets])
        found = losses_of(own, pictures(), targets)
    for name, theirs_ in {
        "objectness": "loss_objectness", "proposals": "loss_rpn_box_reg",
        "classification": "loss_classifier", "localization": "loss_box_reg",
    }.items():  # fmt: skip
        torch.testing.assert_close(found[name], expected[theirs_], rtol=1e-4, atol=1e-5)
        assert found[name] > 0


def small(**head: object) -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(
        CLASSES,
        SmallBackbone((8, 8, 16, 16, 32), out_levels=(2, 3, 4, 5)),
        partial(FPN, out_channels=16, levels=(2, 3, 4)),
        AnchorGenerator((2, 3, 4), scale=4, octaves=1),
        partial(RPN, train_before_nms=50, train_proposals=40, test_before_nms=30, test_proposals=20),
        partial(BoxHead, coder=TEN, channels=16, resolution=3, **head),
        ONE,
        RoISampler(MaxIoU(0.5, 0.5, low_quality=False), number=16),
    )


def test_the_box_head_is_a_head() -> None:
    assert isinstance(small().head, Head)


def test_a_region_comes_from_the_level_of_its_size() -> None:
    """A map of each level that holds the level's number: what is cut says where it came from."""
    model = small(canonical=112.0)
    features = [torch.full((1, 16, SIZE >> level, SIZE >> level), float(level)) for level in (2, 3, 4)]
    sides = torch.tensor([20.0, 55, 57, 111, 113, 128])
    regions = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], 1)
    cut = model.head.pool(features, [regions])
    assert cut[:, 0, 1, 1].tolist() == [2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(("aligned", "shift"), [(True, 0.0), (False, 0.5)])
def test_regions_are_cut_where_anchors_lie(aligned, shift) -> None:
    """Maps that hold the coordinates of their own cells, which are the anchors' centers: the mean of what is cut is
    the region's center, or half a cell off."""
    model = small(canonical=112.0, aligned=aligned)
    levels, side = (2, 3, 4), 320
    sizes = [(side >> level, side >> level) for level in levels]
    anchors = AnchorGenerator(levels, octaves=1, ratios=(1.0,))(sizes, torch.device("cpu"))
    centers = (anchors.boxes[:, :2] + anchors.boxes[:, 2:]) / 2  # [A, 2]
    maps = [xy.T.reshape(1, 2, *size) for xy, size in zip(centers.split(anchors.level_sizes), sizes, strict=True)]
    regions = torch.tensor([[16.0, 16, 48, 48], [24, 32, 64, 60], [64, 64, 120, 176], [32, 64, 288, 208]])
    level = torch.tensor([2, 2, 3, 4])
    cut = model.head.pool([torch.cat([x, x]) for x in maps], [regions[:1], regions[1:]])
    expected = (regions[:, :2] + regions[:, 2:]) / 2 + shift * 2.0 ** level[:, None]
    torch.testing.assert_close(cut.mean((2, 3)), expected)


def test_by_default_regions_are_cut_where_anchors_lie() -> None:
    """Of maps that hold their cells' own x the middle of each region, of levels 2, 3 and 4 in turn."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        words = ["method=faster_rcnn", "detector.fpn.out_channels=16", "detector.head.canonical=112"]
        head = build_detector(compose("train", words), CLASSES).head
    cut: list[Tensor] = []
    head.pool.register_forward_hook(lambda *call: cut.append(call[-1]))
    levels, side = (2, 3, 4), 320
    rows = [(torch.arange(side >> level) + 0.5) * 2**level for level in levels]
    maps = [row.expand(1, 16, len(row), len(row)) for row in rows]
    head(maps, [torch.tensor([[16.0, 16, 48, 48], [64, 64, 120, 176], [32, 32, 288, 288]])])
    torch.testing.assert_close(cut[0].mean((1, 2, 3)), torch.tensor([32.0, 92, 160]))


def test_regions_are_cut_as_torchvision_does() -> None:
    model, generator = small(canonical=112.0), torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 16, SIZE >> level, SIZE >> level, generator=generator) for level in (2, 3, 4)]
    corners = torch.rand(2, 30, 2, generator=generator) * 60
    regions = list(torch.cat([corners, corners + 4 + 90 * torch.rand(2, 30, 2, generator=generator)], 2))
    pool = MultiScaleRoIAlign(list("234"), 3, 2, canonical_scale=112)
    expected = pool(dict(zip("234", maps, strict=True)), regions, [(SIZE, SIZE)] * 2)
    assert torch.equal(model.head.pool(maps, regions), expected)
    assert model.head.pool(maps, [regions[0][:0]] * 2).shape == (0, 16, 3, 3)


def test_a_config_without_aligned_is_of_a_run_from_before_there_was_a_choice() -> None:
    """Which was trained half a cell off, and is evaluated so."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["method=faster_rcnn"])
    assert build_detector(cfg, CLASSES).head.pool.aligned
    del cfg.detector.head.aligned
    assert not build_detector(cfg, CLASSES).head.pool.aligned


def test_stages_can_be_asked_one_by_one() -> None:
    model = small().eval()
    with torch.no_grad():
        features = model.features(pictures())
        first = model.propose(features, [(SIZE, SIZE), (SIZE, 96)])
        assert [len(x) for x in first.proposals.boxes] == [20, 20]
        assert first.proposals.boxes[1][:, 2].max() <= 96
        assert all((s[:-1] >= s[1:]).all() for s in first.proposals.scores)
        output = model.look(features, first.proposals.boxes)
        decoded = model.head.decode(output, torch.cat(first.proposals.boxes))
        again = model.look(features, [first.proposals.boxes[0][3:5], first.proposals.boxes[1][:1]])
    assert output.logits.shape == (40, 1 + CLASSES)
    assert decoded.boxes.shape == (40, CLASSES, 4)
    assert decoded.quality is None
    torch.testing.assert_close(again.logits, output.logits[[3, 4, 20]])


def test_proposals_as_predictions_are_padded_with_nothing() -> None:
    model = small().eval()
    with torch.no_grad():
        proposals = model.propose(model.features(pictures()), [(SIZE, SIZE)] * 2).proposals
    proposals.boxes[1], proposals.scores[1] = proposals.boxes[1][:3], proposals.scores[1][:3]
    predictions, anchors = proposals.as_predictions(CLASSES)
    assert predictions.logits.shape == (2, 20, CLASSES)
    torch.testing.assert_close(predictions.objectness.sigmoid()[0], proposals.scores[0])
    assert not predictions.objectness[1, 3:].sigmoid().any()
    assert not predictions.boxes[1, 3:].any()
    assert anchors.level_sizes == (20,)


def test_scores_are_a_softmax_over_background_and_classes() -> None:
    model = small().eval()
    with torch.no_grad():
        features = model.features(pictures())
        regions = model.propose(features, [(SIZE, SIZE)] * 2).proposals.boxes
        expected = model.look(features, regions).logits.double().softmax(1)[:, 1:].view(2, 20, CLASSES)
        predictions, _ = model(pictures())
    found = predictions.objectness.double().sigmoid()[..., None] * predictions.logits.double().softmax(-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("head", [{}, {"convs": 2, "norm": "gn"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_parameter_learns_in_every_precision(head, dtype) -> None:
    model = small(**head).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = losses_of(model, pictures(), some_targets())
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or "backbone.stages.3" in name, name


@pytest.mark.parametrize("kind", ["no objects", "ignored objects alone", "nobody looked"])
def test_pictures_without_objects_still_reach_every_parameter(kind) -> None:
    model = small().train()
    targets = some_targets()
    for t in targets:
        t.ignore[:] = True
        t.annotated[:] = kind != "nobody looked"
    if kind != "ignored objects alone":
        targets = [t[torch.zeros(len(t), dtype=torch.bool)] for t in targets]
    losses = losses_of(model, pictures(), targets)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["localization"] == losses["proposals"] == 0
    assert (losses["objectness"] == losses["classification"] == 0) == (kind == "nobody looked")
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert kind != "nobody looked" or not parameter.grad.any(), name


def test_no_proposal_at_all_is_no_detection() -> None:
    model = small().eval()
    model.rpn.min_size = 1e6
    with torch.no_grad():
        predictions, anchors = model(pictures())
        assert predictions.logits.shape == (2, 0, CLASSES)
        found = Postprocess()(predictions, anchors, torch.full((2, 2), SIZE))
    assert [len(each.boxes) for each in found] == [0, 0]
    model.train()
    losses = losses_of(model, pictures(), [t[torch.zeros(len(t), dtype=torch.bool)] for t in some_targets()])
    assert losses["classification"] == 0
    sum(losses.values()).backward()


def test_a_picture_s_side_need_not_be_a_multiple_of_the_stride() -> None:
    model = small().eval()
    with torch.no_grad():
        predictions, _ = model(torch.randn(1, 3, 70, 101))
    assert predictions.boxes.isfinite().all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: RPN(8, 3, convs=0), "convs"),
        (lambda: RPN(8, 3, test_proposals=0), "test_proposals"),
        (lambda: RPN(8, 3, nms=1.5), "NMS IoU"),
        (lambda: BoxHead(8, 3, (2, 3), TEN, channels=0), "channels"),
        (lambda: BoxHead(8, 3, (), TEN), "a level"),
        (lambda: BoxHead(8, 3, (2, 3), TEN, canonical=0), "canonical"),
        (lambda: RoISampler(MaxIoU(), number=0), "number"),
        (lambda: RoISampler(MaxIoU(), positive=0), "share"),
        (lambda: TwoStageCriterion(SmoothL1(ONE), samples=0), "samples"),
        (lambda: TwoStageCriterion(SmoothL1(ONE), objectness_weight=-1), "loss weights"),
        (lambda: FPN([8, 8], [2, 3], 8, (2, 3), extra="p6"), "extra"),
    ],
)
def test_values_out_of_range(build, words) -> None:
    with pytest.raises(ValueError, match=words):
        build()


def test_levels_of_anchors_and_pyramid_must_agree() -> None:
    with pytest.raises(ValueError, match="anchors for the pyramid levels"):
        FasterRCNN(
            2, SmallBackbone((8, 8, 8, 8, 8)), partial(FPN, out_channels=8, levels=(3, 4)),
            AnchorGenerator((2, 3)), RPN, partial(BoxHead, coder=TEN), ONE, RoISampler(MaxIoU()),
        )  # fmt: skip
