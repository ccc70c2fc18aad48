"""A measured step: sizes and boxes of the recipe, the FLOPs of its batch, and what is not sound is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from detlab.config.instantiate import build_module
from detlab.config.launch import CONFIG_DIR
from detlab.data.dataset import collate
from detlab.data.transforms import Fixed, Pipeline, Shortest, flip, multiscale, ssd
from detlab.engine.module import LitDetector
from detlab.errors import UserError
from detlab.models.backbones.resnet import ResNet, SmallBackbone
from detlab.profiling.flops import count_flops
from detlab.profiling.measure import BOXES, check_gradients, damp, images_that_fit, measure, synthetic_samples

TRAINER: dict[str, Any] = {"accelerator": "cpu", "gradient_clip_val": 1.0}


@pytest.fixture
def module(toy) -> LitDetector:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", toy)
    torch.manual_seed(0)
    return build_module(cfg, ["a", "b", "c"], training=True, total_batch=2)


def batch_of(count: int, size: int = 64):
    return collate(synthetic_samples(Pipeline(), (size, size), 3, count)[0])


def test_pictures_come_in_the_recipes_size():
    samples, mean_area = synthetic_samples(Pipeline(flip(), Shortest(800, 1333)), (480, 800), 80, 2)
    assert mean_area == 1
    batch = collate(samples)
    assert batch.images.shape == (2, 3, 800, 1344)  # padded
    assert batch.sizes.tolist() == [[800, 1333]] * 2
    assert abs(float(batch.images[..., :1333].mean())) < 0.01
    assert float(batch.images[..., :1333].std()) == pytest.approx(1, abs=0.01)


def test_boxes_are_of_all_sizes_and_inside():
    (sample,), _ = synthetic_samples(Pipeline([], Shortest(800, 1333)), (480, 800), 80, 1)
    boxes, labels = sample.targets.boxes, sample.targets.labels
    assert len(boxes) == BOXES == len(labels)
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 1333).all()
    assert (boxes[:, 3] <= 800).all()
    sides = (boxes[:, 2] - boxes[:, 0]).sort().values
    assert sides[0] < 32
    assert sides[-1] > 512  # the finest and the coarsest anchors have something to find
    assert len(set(labels.tolist())) > 1


def test_of_drawn_sizes_the_largest_is_taken_and_the_mean_told():
    sizes = [40, 60, 80]
    transform = Pipeline(multiscale(sizes, 200))
    samples, mean_area = synthetic_samples(transform, (50, 50), 3, 1)
    assert samples[0].image.shape == (3, 80, 80)
    assert (40 / 80) ** 2 < mean_area < 1


def test_crops_that_lose_boxes_are_no_trouble():
    samples, mean_area = synthetic_samples(Pipeline(ssd(), Fixed((64, 64))), (100, 120), 3, 3)
    assert mean_area == 1
    for sample in samples:
        assert len(sample.targets) == len(sample.targets.labels) <= BOXES


@pytest.mark.slow
def test_a_step_is_counted_timed_and_taken(module):
    before = [p.detach().clone() for p in module.detector.parameters()]
    one = measure(module, batch_of(1), TRAINER, seconds=0.01)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in module.detector.parameters())
    assert any((p != old).any() for p, old in zip(module.detector.parameters(), before))
    two = measure(module, batch_of(2), TRAINER, seconds=0.01)
    assert two.flops == 2 * one.flops
    assert (one.images, two.images) == (1, 2)
    assert 0 < one.seconds < 60
    assert 0 < one.share <= 1
    assert 0.1 < one.memory_gib < 16
    assert set(one.losses) == {"classification", "localization"}
    assert all(0 < value < 100 for value in one.losses.values())


@pytest.mark.slow
def test_flops_are_those_of_the_detector_forward_and_backward(module):
    batch = batch_of(1)
    with count_flops() as counter:
        predictions, _ = module(batch.images)
        (predictions.logits.sum() + predictions.boxes.sum()).backward()
    assert measure(module, batch, TRAINER, seconds=0.01).flops == counter.get_total_flops()


@pytest.mark.slow
def test_a_long_first_step_is_not_repeated(module):
    steps: list[int] = []
    module.detector.register_forward_hook(lambda *_: steps.append(1))
    measure(module, batch_of(1), TRAINER, seconds=0)
    assert len(steps) == 1
    measure(module, batch_of(1), TRAINER, seconds=1.0)
    assert len(steps) > 3


@pytest.mark.slow
def test_a_parameter_that_nothing_depends_on_is_named(module):
    module.detector.forgotten = nn.Parameter(torch.ones(2))
    with pytest.raises(UserError, match=r"No gradient reaches detector\.forgotten"):
        measure(module, batch_of(1), TRAINER, seconds=0.01)
    module.detector.forgotten.requires_grad_(False)
    measure(module, batch_of(1), TRAINER, seconds=0.01)


def test_gradients_that_are_not_finite_are_named():
    layer = nn.Linear(2, 2)
    layer(torch.full((1, 2), torch.inf)).sum().backward()
    with pytest.raises(UserError, match=r"gradient of detector\.weight is not finite"):
        check_gradients(layer)
    check_gradients(layer, finite=False)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_refused(module):
    batch = batch_of(1)
    batch.images[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="loss is not finite"):
        measure(module, batch, TRAINER, seconds=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "bound"), [("resnet18", 50), ("resnet101", 50)])
def test_random_features_keep_their_size(name, bound):
    torch.manual_seed(0)
    backbone = ResNet(name)
    with torch.no_grad():
        wild = max(float(x.abs().max()) for x in backbone(torch.randn(1, 3, 128, 128)))
        damp(backbone)
        tame = max(float(x.abs().max()) for x in backbone(torch.randn(1, 3, 128, 128)))
    assert 0.1 < tame < bound
    if name == "resnet101":
        assert wild > 65_504  # more than fp16 holds


def test_backbones_that_normalise_are_left_alone():
    for backbone in (ResNet("resnet18", frozen_stages=0, norm="bn"), SmallBackbone((8, 8, 16, 16, 24))):
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        damp(backbone)
        assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_cpu_measures_as_many_images_as_its_memory_takes():
    assert images_that_fit(16, 100 * 100, cuda=False) == 16
    assert images_that_fit(16, 500_000, cuda=False) == 4
    assert images_that_fit(16, 3_000_000, cuda=False) == 1
    assert images_that_fit(16, 3_000_000, cuda=True) == 16
