from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any, NoReturn, get_args

import pytest
import torch
from torchvision import models

from detlab.errors import UserError
from detlab.models.backbones.resnet import ResNetName, build_network
from detlab.models.weights import load_weights


def a_network() -> torch.nn.Module:
    net = models.resnet18()
    torch.nn.init.normal_(net.bn1.running_mean)
    return net


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
def test_a_file_of_weights_comes_back(tmp_path: Path, wrap: Any) -> None:
    source, target = a_network(), models.resnet18()
    torch.save(wrap(source.state_dict()), tmp_path / "w.pth")
    load_weights(target, "resnet18", str(tmp_path / "w.pth"))
    for key, value in target.state_dict().items():
        if not key.startswith("fc."):
            torch.testing.assert_close(value, source.state_dict()[key], rtol=0, atol=0)


def test_classifier_counters_and_prefix_of_data_parallel_do_not_matter(tmp_path: Path) -> None:
    source, target = a_network(), models.resnet18()
    state = {f"module.{k}": v for k, v in source.state_dict().items() if "fc." not in k and "num_batches" not in k}
    torch.save(state, tmp_path / "w.pth")
    load_weights(target, "resnet18", str(tmp_path / "w.pth"))
    assert torch.equal(target.state_dict()["bn1.running_mean"], source.state_dict()["bn1.running_mean"])


def fails(file: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        load_weights(models.resnet18(), "resnet18", str(file))
    return str(caught.value)


@pytest.mark.slow
def test_wrong_files_are_named(tmp_path: Path) -> None:
    assert "no such file of weights; backbone.weights takes" in fails(tmp_path / "missing.pth")
    file = tmp_path / "w.pth"
    file.write_bytes(b"not a checkpoint")
    assert "not a readable file of weights" in fails(file)
    file.write_bytes(b"")
    assert str(file) in fails(file)
    torch.save([1, 2], file)
    assert "expected a dictionary of tensors" in fails(file)
    torch.save(Path("an object"), file)
    assert "not a readable file of weights" in fails(file)
    torch.save({"encoder.weight": torch.zeros(3)}, file)
    assert "tensors are missing (the first is 'conv1.weight')" in fails(file)
    torch.save(models.resnet50().state_dict(), file)
    assert "'layer1.0.conv1.weight' has shape (64, 64, 1, 1), expected (64, 64, 3, 3)" in fails(file)


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), RuntimeError("invalid hash value")])
def test_a_failed_download_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    message = fails("imagenet")
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert "backbone.weights=<file>" in message


def test_every_named_backbone_but_one_has_imagenet_weights() -> None:
    without = {name for name in get_args(ResNetName) if name not in models.list_models()}
    assert without == {"resnext152_32x8d"}
    for name in set(get_args(ResNetName)) - without:
        assert "IMAGENET1K_V1" in models.get_model_weights(name).__members__


def test_weights_that_torchvision_lacks_are_asked_for() -> None:
    with torch.device("meta"):
        net = build_network("resnext152_32x8d")
    with pytest.raises(UserError) as caught:
        load_weights(net, "resnext152_32x8d", "imagenet")
    assert str(caught.value) == (
        "backbone.weights=imagenet: torchvision has no ImageNet weights of resnext152_32x8d (the authors of PAA took "
        "Detectron's X-152-32x8d-IN5k, trained on ImageNet-5k); name a file of them that has torchvision's tensor "
        "names with backbone.weights=<file>, or train from scratch with backbone.weights=null backbone.frozen_stages=0 "
        "backbone.norm=bn."
    )
