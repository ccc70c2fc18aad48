"""A look at every job of a sweep before the first one starts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from detlab.errors import UserError


def is_sweep(arguments: Sequence[str]) -> bool:
    return any(argument in ("-m", "--multirun") for argument in arguments)


def check_sweep(
    verb: str, overrides: Sequence[str], folders: Sequence[Path], check: Callable[[DictConfig, str | None], None] | None
) -> None:
    """Compose every job of a grid once (seeds aside) and say now what would go wrong later.

    folders: the config folders. check: raises UserError for a config that cannot run, given it and its experiment;
    such a job is named and left to fail at its turn, without stopping the others. A job that does not even compose
    would stop the sweep halfway, so Hydra's complaint is raised at once. Sweeps over ranges are left to their sweeper.
    """
    search = [f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders[1:])}]"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folders[0]), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        parsed = parser.parse_overrides(list(overrides))
        if any(override.is_sweep_override() and not override.is_discrete_sweep() for override in parsed):
            return
        jobs = {_but_seed(job): job for job in reversed(BasicSweeper.split_arguments(parsed, None)[0])}
        bad = []
        for job in reversed(jobs.values()):
            cfg = compose(verb, [*job, *(search if folders[1:] else [])], return_hydra_config=True)
            choice = cfg.hydra.runtime.choices.get("experiment")
            with open_dict(cfg):
                del cfg["hydra"]
            try:
                if check:
                    check(cfg, choice)
            except (UserError, HydraException) as error:
                bad.append(f"{_swept(job, parsed)}{error}")
    GlobalHydra.instance().clear()
    for sentence in bad:
        print(f"detlab: a row of this sweep cannot run: {sentence}", file=sys.stderr, flush=True)
    if bad and len(bad) == len(jobs):
        raise UserError(f"No row of this sweep can run: {bad[0]}")


def _but_seed(job: Sequence[str]) -> tuple[str, ...]:
    return tuple(override for override in job if not override.startswith("seed="))


def _swept(job: Sequence[str], parsed: Sequence[Override]) -> str:
    """What sets a job apart from the others of its sweep, seeds aside, as the beginning of a sentence."""
    keys = {override.get_key_element() for override in parsed if override.is_sweep_override()} - {"seed"}
    words = [override for override in job if override.partition("=")[0] in keys]
    return f"{' '.join(words)}: " if words else ""
