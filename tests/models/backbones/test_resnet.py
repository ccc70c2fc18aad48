from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from detlab.models.backbones.resnet import Backbone, ResNet, SmallBackbone, build_network


def test_maps_equal_torchvisions_with_frozen_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = models.resnet18()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    ours = ResNet("resnet18", str(tmp_path / "weights.pth"), out_levels=(2, 3, 4, 5))
    net.eval()
    x = torch.randn(2, 3, 64, 96)
    expected = [net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))]
    for layer in (net.layer2, net.layer3, net.layer4):
        expected.append(layer(expected[-1]))
    for got, wanted in zip(ours(x), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 70)])
@pytest.mark.parametrize("make", [lambda: SmallBackbone(out_levels=(2, 3, 4, 5)), lambda: ResNet("resnet18")])
def test_each_level_has_its_stride_and_channels(make: Any, size: tuple[int, int]) -> None:
    backbone: Backbone = make()
    maps = backbone(torch.randn(1, 3, *size))
    for x, level, channels in zip(maps, backbone.out_levels, backbone.out_channels, strict=True):
        assert x.shape == (1, channels, -(-size[0] // 2**level), -(-size[1] // 2**level))


def test_resnext152_is_resnet152_with_the_groups_of_resnext101() -> None:
    with torch.device("meta"):
        ours, depth, width = (build_network(n) for n in ("resnext152_32x8d", "resnet152", "resnext101_32x8d"))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes.keys() == depth.state_dict().keys()
    shared = {key: value.shape for key, value in width.state_dict().items()}
    assert all(shapes[key] == shape for key, shape in shared.items())  # its blocks are among ours
    assert len(shared) < len(shapes)
    assert {block.conv2.groups for stage in (ours.layer1, ours.layer4) for block in stage} == {32}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet101", "resnext101_64x4d", "resnext152_32x8d"])
def test_large_deformable_backbones_see_a_picture(name: Any) -> None:
    with torch.device("meta"):
        ResNet(name, deformable_stages=(4, 5))
    backbone = ResNet(name, deformable_stages=(4, 5)).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 32, 32))
    assert [tuple(x.shape) for x in maps] == [(1, 512, 4, 4), (1, 1024, 2, 2), (1, 2048, 1, 1)]
    assert all(bool(x.isfinite().all()) for x in maps)


def test_bottleneck_channels() -> None:
    assert ResNet("resnet50").out_channels == (512, 1024, 2048)
    assert ResNet("resnet18", out_levels=(2, 3)).out_channels == (64, 128)


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
@pytest.mark.parametrize("frozen", range(5))
def test_frozen_stages_get_no_gradient_and_the_rest_does(frozen: int, norm: Any) -> None:
    backbone = ResNet("resnet18", frozen_stages=frozen, norm=norm).train()
    parts = [backbone.stem, *backbone.stages]
    outputs = backbone(torch.randn(2, 3, 64, 64))
    if frozen < 4:
        torch.stack([x.square().mean() for x in outputs]).sum().backward()
    else:
        assert not any(x.requires_grad for x in outputs)
    for index, part in enumerate(parts):
        is_frozen = frozen > 0 and index <= frozen
        for parameter in part.parameters():
            assert parameter.requires_grad is not is_frozen
            assert (parameter.grad is None) is is_frozen


def test_frozen_batch_norms_gather_no_statistics() -> None:
    backbone = ResNet("resnet18", norm="bn", frozen_stages=1).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone(torch.randn(2, 3, 64, 64) + 1)
    after = backbone.state_dict()
    changed = {k.split(".")[0] + k.split(".")[1] for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"stages1", "stages2", "stages3"}


@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_stages_start_as_the_plain_network(tmp_path: Path, modulated: bool) -> None:
    file = tmp_path / "weights.pth"
    torch.save(models.resnet18().state_dict(), file)
    plain = ResNet("resnet18", str(file))
    deformable = ResNet("resnet18", str(file), deformable_stages=(3, 4, 5), modulated=modulated)
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(deformable(x), plain(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    torch.stack([y.square().mean() for y in deformable(x)]).sum().backward()
    offsets = {k: p.grad for k, p in deformable.named_parameters() if ".offset." in k}
    assert len(offsets) == 2 * 6  # weight and bias of two blocks in each of three stages
    assert all(grad is not None and grad.abs().sum() > 0 for grad in offsets.values())


def test_gradients_reach_everything_of_the_small_backbone() -> None:
    backbone = SmallBackbone(blocks=(1, 2, 1, 1))
    torch.stack([x.square().mean() for x in backbone(torch.randn(2, 3, 64, 64))]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


def test_stages_beyond_the_last_level_are_not_built() -> None:
    assert len(SmallBackbone(out_levels=(2, 3)).stages) == 2
    assert len(ResNet("resnet18", out_levels=(3, 4)).stages) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_levels": (3, 5)}, r"consecutive out_levels .* got \(3, 5\)"),
        ({"out_levels": ()}, "consecutive out_levels"),
        ({"out_levels": (1, 2)}, "consecutive out_levels"),
        ({"channels": (8, 16)}, "Expected 5 channels"),
        ({"blocks": (1, 1, 0, 1)}, "positive block counts"),
        ({"channels": (24, 32, 60, 128, 192)}, "divisible by 8 for group norm, got 60"),
    ],
)
def test_bad_arguments_of_the_small_backbone(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallBackbone(**arguments)


def test_bad_arguments_of_the_resnet() -> None:
    with pytest.raises(ValueError, match=r"frozen_stages in 0\.\.4, got 5"):
        ResNet("resnet18", frozen_stages=5)
    with pytest.raises(ValueError, match="deformable_stages from"):
        ResNet("resnet18", deformable_stages=(6,))


def test_the_small_backbone_begins_alike_in_every_run_unless_its_seed_is_null() -> None:
    def weights(run: int, seed: int | None) -> torch.Tensor:
        torch.manual_seed(run)
        return torch.cat([p.detach().flatten() for p in SmallBackbone(seed=seed).parameters()])

    assert torch.equal(weights(1, 0), weights(2, 0))
    assert not torch.equal(weights(1, 0), weights(1, 3))
    assert not torch.equal(weights(1, None), weights(2, None))
