"""A training in two stages: the teacher on what is labelled, then what learns from its labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from hydra.utils import get_object
from omegaconf import DictConfig

from detlab.config.plain import plain
from detlab.engine.distributed.place import find_place
from detlab.errors import UserError

log = logging.getLogger(__name__)

FOLDERS = {"teacher": "teacher", "second": "second_teacher"}  # in the run's own, by the key of `pseudo`
APART = 1000  # the second teacher's seed is larger by that


def with_teacher(cfg: DictConfig, train: Callable[[DictConfig], object]) -> DictConfig:
    """`cfg` with teachers that are there: those that it names, or else those that `train` makes, now, of `stage_one`,
    in ``<run_dir>/teacher`` and, for an ensemble, ``<run_dir>/second_teacher``. A teacher that was finished before is
    not trained again, an unfinished one goes on."""
    first = stage_one(cfg)
    if not first:
        return cfg
    if find_place().size > 1:
        raise UserError(
            "The two stages of a training cannot both run in processes that torchrun or srun has started: train the "
            "teacher by itself, give its folder as pseudo.teacher=, and start this again."
        )
    second = cfg.copy()
    for key, teacher in first.items():
        log.info("Stage one: the teacher, in %s.", teacher.run_dir)
        train(teacher)
        second.pseudo[key] = str(teacher.run_dir)
    log.info("Stage two: the student.")
    return second


def check_data(cfg: DictConfig) -> None:
    """Raise UserError where a student is to be trained on data that never have unlabelled pictures."""
    if not cfg.get("stage_one") or hasattr(get_object(cfg.data._target_), "batch_parts"):
        return
    raise UserError(
        f"pseudo=teacher labels pictures without labels, and data={cfg.data.get('name', '')} has none: take "
        "data=scenes_semi, data=voc_semi or data=coco_partial, or your own by "
        "data=semi (detlab train data=semi --help)."
    )


def stage_one(cfg: DictConfig) -> dict[str, DictConfig]:
    """The configs of the teachers, by the key of `pseudo` that names each: that of the run with the groups and keys
    that `stage_one` has in their place; none where the run has no such stage, or a teacher already."""
    if not cfg.get("stage_one") or not cfg.get("pseudo") or cfg.pseudo.get("teacher"):
        return {}
    whole = plain(cfg)
    for key, value in whole.pop("stage_one").items():
        if key not in whole:
            raise UserError(f"There is no key 'stage_one.{key}': what stands there takes the place of a group.")
        mixed = isinstance(value, dict) and isinstance(whole[key], dict) and "_target_" not in value
        whole[key] = whole[key] | value if mixed else value
    keys = ["teacher", "second"] if cfg.pseudo.get("kind") == "ensemble" else ["teacher"]
    own = {"pseudo": None, "stage_one": None, "view": None}
    return {
        key: DictConfig(
            whole | own | {"run_dir": str(Path(cfg.run_dir) / FOLDERS[key]), "seed": cfg.seed + APART * number}
        )
        for number, key in enumerate(keys)
    }
