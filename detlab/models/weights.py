"""Pretrained weights from torchvision or from a file, checked against the network they are meant for."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models

from detlab.errors import UserError

_SCRATCH = "backbone.weights=null backbone.frozen_stages=0 backbone.norm=bn"
# Where papers took the weights that torchvision lacks.
_ELSEWHERE = {"resnext152_32x8d": " (the authors of PAA took Detectron's X-152-32x8d-IN5k, trained on ImageNet-5k)"}


def load_weights(net: nn.Module, name: str, weights: str) -> None:
    """Fill torchvision's network `net` of that `name` from "imagenet" or from a file; its classifier may be
    missing. Raises UserError if torchvision has no such weights, the download fails, or the file is missing,
    unreadable or of another network."""
    state = _download(name) if weights == "imagenet" else _read(weights)
    expected = {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    optional = {k for k in expected if k.endswith("num_batches_tracked")}
    missing = [k for k in expected if k not in state and k not in optional]
    if missing:
        raise UserError(
            f"{weights}: not the weights of {name}: {len(missing)} of its {len(expected)} tensors are missing "
            f"(the first is '{missing[0]}'); choose the backbone the file was made for, or another file."
        )
    for key, tensor in expected.items():
        if key in state and state[key].shape != tensor.shape:
            raise UserError(
                f"{weights}: not the weights of {name}: '{key}' has shape {tuple(state[key].shape)}, expected "
                f"{tuple(tensor.shape)}; choose the backbone the file was made for, or another file."
            )
    net.load_state_dict({k: state[k] for k in expected if k in state}, strict=False)


def _download(name: str) -> dict[str, Tensor]:
    if name not in models.list_models():
        raise UserError(
            f"backbone.weights=imagenet: torchvision has no ImageNet weights of {name}{_ELSEWHERE.get(name, '')}; name "
            f"a file of them that has torchvision's tensor names with backbone.weights=<file>, or train from scratch "
            f"with {_SCRATCH}."
        )
    entry = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the checksum differs
        raise UserError(
            f"{entry.url}: the ImageNet weights of {name} could not be downloaded ({error}); fetch that file "
            f"where there is a network and name it with backbone.weights=<file>, or train from scratch with "
            f"{_SCRATCH}."
        ) from error


def _read(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file of weights; backbone.weights takes a .pth file, 'imagenet' or null.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{path}: not a readable file of weights ({reason}); save it with torch.save(state_dict)."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: expected a dictionary of tensors; save it with torch.save(net.state_dict()).")
    return {str(key).removeprefix("module."): value for key, value in state.items()}
