"""A detector that begins with the weights of another run: of other data, or of a longer training."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from detlab.config.instantiate import build_detector, load_run
from detlab.engine.module import LitDetector
from detlab.engine.provenance import refuse_unfinished
from detlab.errors import UserError

log = logging.getLogger(__name__)

_PREFIX = "detector."  # in the state of the LightningModule


def initial_weights(cfg: DictConfig) -> str | None:
    """The run or checkpoint whose weights a detector has before its first step, the teacher's where it has one; None:
    it begins with its own."""
    return (cfg.get("pseudo") or {}).get("teacher") or cfg.get("start_from")


def validate_init_from(cfg: DictConfig) -> None:
    """Raise UserError where `cfg.start_from` is neither null nor another run, finished, or a checkpoint."""
    start = cfg.get("start_from")
    if start and cfg.get("task"):
        raise UserError(f"start_from={start} is for detectors; leave it out.")
    if start and Path(start).resolve() == Path(cfg.run_dir).resolve():
        raise UserError(f"start_from={start} is this run itself; give this one a name of its own (name=...).")
    if start and not Path(start).is_file():
        refuse_unfinished("start_from", start)


def load_initial_weights(cfg: DictConfig, module: LitDetector) -> None:
    """Give the detector of `module`, the LightningModule of `cfg`, the weights of the run or checkpoint
    `cfg.start_from`, where that is not null: all layers that both have in the same shape, but for those that tell
    classes where the two know other classes or another order of them. A student has its teacher's weights instead.

    Raises UserError for what is no checkpoint, and where the backbones differ.
    """
    start = cfg.get("start_from")
    if not start or initial_weights(cfg) != start:
        return
    _, classes, state, _ = load_run(start)
    given = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    own: dict[str, Tensor] = module.detector.state_dict()
    fresh = {name for name, value in own.items() if name not in given or given[name].shape != value.shape}
    if strange := sorted(name for name in fresh if name.startswith("backbone.")):
        raise UserError(
            f"start_from={start} has another backbone ({_misfit(strange[0], own, given)}): take the one of "
            "that run (its config.yaml says which), or leave start_from out."
        )
    if classes != module.classes:
        fresh |= _class_layers(cfg, len(module.classes))
    module.detector.load_state_dict({name: value for name, value in given.items() if name in own.keys() - fresh}, False)
    layers = sorted({name.removesuffix(".weight").removesuffix(".bias") for name in fresh})
    log.info("Begins with the weights of %s%s.", start, f", but for {_listed(layers)}" if layers else "")


def _class_layers(cfg: DictConfig, count: int) -> set[str]:
    """Names of the weights whose shape follows the number of classes."""
    offline = cfg.copy()
    if "weights" in offline.backbone:
        offline.backbone.weights = None
    with torch.device("meta"):
        one, other = (build_detector(offline, number).state_dict() for number in (count, count + 1))
    return {name for name, value in one.items() if value.shape != other[name].shape}


def _misfit(name: str, own: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    if name not in given:
        return f"without {name}"
    return f"{name} is {tuple(given[name].shape)} there and {tuple(own[name].shape)} here"


def _listed(layers: list[str], most: int = 4) -> str:
    rest = f" and {len(layers) - most} more" if len(layers) > most else ""
    return ", ".join(layers[:most]) + rest
