"""Which trained models a run's first weights and pseudo-labels come from, and which it was tested with, told by what
their checkpoints hold, not by where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from detlab.engine.run_folder import Config, RunFolder
from detlab.errors import UserError


def learned_from(config: Config) -> dict[str, str]:
    """For each run or checkpoint that `config` names under `start_from` or in the group `pseudo`: its path and the
    first twelve digits of its checkpoint's SHA-256; those that cannot be read are left out."""
    return _digests(_named(config))


def tested_with(config: Config) -> dict[str, str]:
    """The same of the runs that `config` names under `testing`."""
    return _digests(map(str, (config.get("testing") or {}).get("runs") or []))


def _digests(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        file = RunFolder(name).last if Path(name).is_dir() else Path(name)
        if file.is_file():
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return found


def replaced(before: Mapping[str, str], config: Config) -> list[str]:
    """Of the models that a finished run learned from or was tested with, those that are others now; the config is the
    same, and so does not tell."""
    now = learned_from(config) | tested_with(config)
    return [name for name, digest in before.items() if name in now and now[name] != digest]


def refuse_replaced(before: Mapping[str, str], config: Config) -> None:
    """Raises UserError where a run that was cut off would go on with other models than those it began with."""
    for name in replaced(before, config):
        raise UserError(
            f"{name} holds another model than the one that this run began with: bring that back, or begin anew with "
            "overwrite=true."
        )


def refuse_unfinished(key: str, run: str, before: str = "others learn from its detector") -> RunFolder:
    """The run folder that the config names under `key`. Raises UserError where it holds no finished detector; before:
    what it has to be finished for."""
    folder = RunFolder(run)
    if (state := folder.state()) != "finished":
        what = "that run is not finished; start it again" if state == "unfinished" else "there is no such run; train it"
        raise UserError(f"{key}={run}: {what}, before {before}.")
    if not folder.last.is_file():
        raise UserError(f"{key}={run}: its checkpoint is gone; train it again with overwrite=true.")
    if folder.read_config().get("task"):
        raise UserError(f"{key}={run}: that is no detector; a classifier is for pseudo=proxy.")
    return folder


def _named(config: Config) -> list[str]:
    pseudo = config.get("pseudo") or {}
    classifier, detectors = pseudo.get("classifier"), pseudo.get("detectors") or []
    runs = [str(entry["run"]) for entry in detectors if isinstance(entry, Mapping) and entry.get("run")]
    single = [config.get("start_from"), classifier, pseudo.get("teacher"), pseudo.get("second")]
    return [*(name for name in single if isinstance(name, str)), *runs]
