"""A training in two stages: the teacher on what is labelled, then what learns from its labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detlab.errors import UserError

log = logging.getLogger(__name__)

FOLDER = "teacher"  # in the run's own


def with_teacher(cfg: Any, train: Callable[[Any], Any]) -> Any:
    """`cfg` with a teacher that is there: one that it names, or else the one that `train` makes, now, of `stage_one`,
    in ``<run_dir>/teacher``. A teacher that was finished before is not trained again, an unfinished one goes on."""
    from detlab.distributed.place import find_place

    first = stage_one(cfg)
    if first is None:
        return cfg
    if find_place().size > 1:
        raise UserError(
            "The two stages of a training cannot both run in processes that torchrun or srun has started: train the "
            "teacher by itself, give its folder as pseudo.teacher=, and start this again."
        )
    log.info("Stage one: the teacher, in %s.", first.run_dir)
    train(first)
    log.info("Stage two: its student.")
    second = cfg.copy()
    second.pseudo.teacher = str(first.run_dir)
    return second


def stage_one(cfg: Any) -> Any:
    """The config of the teacher: that of the run with the groups and keys that `stage_one` has in their place; None
    where the run has no such stage, or a teacher already."""
    from omegaconf import OmegaConf

    if not cfg.get("stage_one") or not cfg.get("pseudo") or cfg.pseudo.get("teacher"):
        return None
    whole: Any = OmegaConf.to_container(cfg, resolve=True)
    for key, value in whole.pop("stage_one").items():
        if key not in whole:
            raise UserError(f"There is no key 'stage_one.{key}': what stands there takes the place of a group.")
        mixed = isinstance(value, dict) and isinstance(whole[key], dict) and "_target_" not in value
        whole[key] = whole[key] | value if mixed else value
    whole |= {"pseudo": None, "stage_one": None, "view": None, "run_dir": str(Path(cfg.run_dir) / FOLDER)}
    return OmegaConf.create(whole)
