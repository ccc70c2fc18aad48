"""Check a composed config against the signatures of what it builds, before any data is read."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from detlab.errors import UserError, nearest

_RESERVED = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}

_Positive = Annotated[int, pydantic.Field(ge=1)]
_Count = Annotated[int, pydantic.Field(ge=0)]
_Share = Annotated[float, pydantic.Field(ge=0, le=1)]
_Side = Annotated[int, pydantic.Field(ge=16)]
_Name = Annotated[str, pydantic.Field(min_length=1)]
_Device = Literal["auto", "cpu", "gpu", "cuda", "mps"]


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


# What the keys outside all groups may hold, by verb; a dotted key belongs to a group that builds no object.
KEYS: dict[str, dict[str, Any]] = {
    "train": {
        "name": _Name,
        "setting": _Name,
        "seed": Annotated[int, pydantic.Field(ge=0, lt=2**32)],
        "run_dir": _Name,
        "nms_iou": _Share,
        "start_from": _Name | None,
        "trained_as": _Name | None,
        "overwrite": bool,
        "save_every": _Count,
        "compile": bool,
        "report": bool,
        "trainer.accelerator": _Device,
        "logger.every": _Positive,
        "logger.pictures": _Count,
    },
    "eval": {
        "ckpt_path": _Name,
        "split": Literal["train", "val", "test"],
        "output": _Name | None,
        "batch_size": _Positive | None,
        "pictures": _Count,
        "accelerator": _Device,
    },
    "predict": {
        "ckpt_path": _Name,
        "source": _Name,
        "output": _Name | None,
        "score": _Share,
        "batch_size": _Positive,
        "accelerator": _Device,
    },
    "label": {
        "ckpt_path": _Name,
        "split": Literal["train", "val", "test"],
        "output": _Name | None,
        "format": Literal["coco", "voc", "yolo"],
        "score": _Share,
        "known": bool,
        "missing": bool,
        "classes": Annotated[list[_Name] | None, pydantic.BeforeValidator(_plain)],
        "by": Literal["detector", "proxy"],
        "scores": bool | None,
        "overwrite": bool,
        "batch_size": _Positive | None,
        "accelerator": _Device,
    },
    "check": {
        "split": Literal["train", "val", "test", "all"],
        "images": Literal["full", "header", "none"],
        "output": _Name | None,
        "show": _Count,
    },
    "report": {
        "source": _Name,
        "runs": _Name,
        "setting": _Name,
        "seeds": Annotated[_Count | list[_Count] | None, pydantic.BeforeValidator(_plain)],
        "output": _Name | None,
        "record": Literal[True, False, "add"],
    },
    "draw": {
        "source": _Name,
        "only": Annotated[_Name | list[_Name] | None, pydantic.BeforeValidator(_plain)],
        "runs": _Name,
        "setting": _Name,
        "output": _Name | None,
        "record": bool,
    },
    "bounds": {
        "run": _Name,
        "split": Literal["train", "val", "test"],
        "output": _Name | None,
    },
    "dashboard": {
        "entity": _Name | None,
        "project": _Name,
        "study": _Name | None,
        "setting": _Name | None,
        "output": _Name | None,
    },
}
KEYS["balance"] = KEYS["train"] | {
    "lambdas": Annotated[
        list[Annotated[float, pydantic.Field(ge=0)]], pydantic.Field(min_length=1), pydantic.BeforeValidator(_plain)
    ],
    "batches": _Positive,
}
KEYS["anchors"] = KEYS["train"] | {"per_level": _Positive, "repeats": _Positive}
KEYS["cost"] = KEYS["train"] | {
    "images": _Positive | None,
    "picture": tuple[_Side, _Side] | None,
    "classes": _Positive | None,
    "output": _Name | None,
}


def validate(cfg: DictConfig, verb: str = "train") -> None:
    """Raise UserError for the first key whose name or type its object does not take.

    Each node with a `_target_` is held against that callable's annotations (by pydantic), the keys outside all
    groups against `KEYS` of the verb; missing mandatory values (`???`) are named.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{missing[0]} has no value: give it on the command line ({missing[0]}=...).")
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    for name, kind in KEYS[verb].items():
        _check_value(OmegaConf.select(cfg, name), kind, name)
    for key, value in container.items():
        _walk(value, str(key))


def _walk(node: Any, path: str) -> None:
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_call(node, path)
        for key, value in node.items():
            if key not in _RESERVED:
                _walk(value, f"{path}.{key}")
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for position, value in enumerate(node):
            _walk(value, f"{path}[{position}]")


def _check_call(node: Mapping[str, Any], path: str) -> None:
    name = node["_target_"]
    try:
        target = get_object(name)
    except Exception:
        raise UserError(f"{path}._target_={name} cannot be imported; give a class or function in full.") from None
    parameters = inspect.signature(target).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key, value in node.items():
        if key in _RESERVED:
            continue
        if key not in parameters and not takes_any:
            raise UserError(f"There is no key '{path}.{key}' in the config{nearest(str(key), parameters)}.")
        if key in hints and not _builds(value):
            _check_value(value, hints[key], f"{path}.{key}")


def _builds(value: Any) -> bool:
    """Whether a value holds objects still to be built, which their own nodes check."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_builds, value.values()))
    return isinstance(value, list) and any(map(_builds, value))


def _check_value(value: Any, hint: Any, path: str) -> None:
    try:
        adapter = pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    except pydantic.PydanticUserError:  # the hint is itself a pydantic or dataclass type
        adapter = pydantic.TypeAdapter(hint)
    except pydantic.errors.PydanticSchemaGenerationError:  # a callable protocol, checked when it is called
        return
    try:
        adapter.validate_python(value)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        text = problem["msg"][0].lower() + problem["msg"][1:]
        options = [str(option) for option in typing.get_args(hint)] if typing.get_origin(hint) is Literal else []
        close = difflib.get_close_matches(str(value), options, n=1)
        meant = f" (did you mean '{close[0]}'?)" if close else ""
        raise UserError(f"{path}={value!r}: {text}{meant}.") from None
