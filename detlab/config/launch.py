"""Hydra around a plain function: finds `conf/`, and turns every config mistake into one clear sentence."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detlab.config.experiments import config_folders, rows_in
from detlab.config.groups import CONFIG_DIR, groups, launchers
from detlab.config.help import help_text
from detlab.config.overrides import tidy
from detlab.config.presets import register
from detlab.config.sweeps import check_sweep, is_sweep
from detlab.errors import UserError, nearest

__all__ = ["CONFIG_DIR", "groups", "launch", "launchers"]

register(CONFIG_DIR)  # configs are composed by this module, in every process that a launcher starts
# Hydra checks conf/hydra/launcher/ against the plugins' schemas of the same names, which is welcome, and warns of it.
# Here, not in a function: it must hold in the processes that launchers start, too.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")


def set_defaults() -> None:
    """Environment that keeps every command off the network unless the user has set something up."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # comes with Optuna and tells what it loads
    if "WANDB_MODE" not in os.environ and "WANDB_API_KEY" not in os.environ and not _logged_in():
        os.environ["WANDB_MODE"] = "offline"


def _logged_in() -> bool:
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return "wandb" in netrc.read_text()
    except OSError:
        return False


def launch(
    verb: str,
    run: Callable[[DictConfig], object],
    check: Callable[[DictConfig, str | None], None] | None = None,
) -> None:
    """Run `run(cfg)` under Hydra with `conf/<verb>.yaml` and the command line's overrides.

    UserError and Hydra's own complaints become one line on stderr and exit status 1; anything else is our bug
    and keeps its traceback. A `run` that returns an int gives the exit status. In a sweep a job that fails says so
    at once and leaves the others alone; the exit status is then 1.

    Args:
        verb: The command.
        run: What it does with the composed config.
        check: Raises UserError for a config (given it and the name of its experiment) that cannot run; a sweep asks it
            about every job before the first one starts.
    """
    set_defaults()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(verb))
        return
    folders = config_folders(sys.argv[1:], CONFIG_DIR)
    try:
        sys.argv[1:] = tidy(sys.argv[1:], groups() | {"hydra/launcher": launchers()}, rows_in(folders))
        refuse_idle_launcher(sys.argv[1:])
    except UserError as error:
        _fail(str(error))
    jobs = _Jobs(run)
    overrides = [a for a in sys.argv[1:] if ("=" in a and not a.startswith("-")) or a.startswith("~")]
    sweeping = False
    try:
        if is_sweep(sys.argv[1:]):
            check_sweep(verb, overrides, folders, check)
            sweeping = True
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=verb)(jobs.run_one)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        jobs.refused.append(error)
    except KeyboardInterrupt:
        _fail_interrupted()
    except Exception as error:
        if not sweeping and "Config group override" not in str(error):
            raise
        jobs.refused.append(error)  # in a sweep, its traceback was printed when it happened
    if jobs.refused:
        _fail_refused(jobs.refused[0], verb, overrides, sweeping)
    raise SystemExit(max(jobs.status, default=0))


class _Jobs:
    """The jobs of one command: one, or those of a sweep. `status` holds their exit statuses, `refused` the error of a
    job of its own, which would otherwise be told by Hydra, too."""

    def __init__(self, run: Callable[[DictConfig], object]) -> None:
        self.run = run
        self.status: list[int] = []
        self.refused: list[Exception] = []

    def run_one(self, cfg: DictConfig) -> object:
        try:
            value = self.run(cfg)
        except Exception as error:
            expected = isinstance(error, UserError | OmegaConfBaseException)
            if HydraConfig.get().mode != RunMode.RUN:
                error.run_dir = str(cfg.get("run_dir"))  # type: ignore[attr-defined]  # crosses processes with it
                _say_failed(error, expected)
                raise  # the launcher must see which job of a sweep failed
            if not expected:
                raise
            self.refused.append(error)  # alone, Hydra would print a second message above ours
            return None
        except SystemExit as end:
            # A process beside the first one of a run: that one tells how the run ended, and submitit wants to hear from
            # all. With other codes submitit itself ends a job that it has put back into the queue.
            if HydraConfig.get().mode != RunMode.RUN and end.code in (0, 1):
                return None
            raise
        self.status.append(value if isinstance(value, int) else 0)
        return value


def _say_failed(error: Exception, expected: bool) -> None:
    if not expected:
        traceback.print_exception(error)
    where = getattr(error, "run_dir", "this run")
    print(f"detlab: {where} failed: {error if expected else repr(error)}", file=sys.stderr, flush=True)


def _fail(message: str, status: int = 1) -> NoReturn:
    print(f"detlab: {message}", file=sys.stderr)
    raise SystemExit(status)


def _fail_interrupted() -> NoReturn:
    if any("submitit_slurm" in argument for argument in sys.argv):
        _fail("Interrupted; the jobs stay in the queue: squeue shows them, scancel ends them.", status=130)
    _fail("Interrupted; start the same command again to go on from the last checkpoint.", status=130)


def _fail_refused(error: Exception, verb: str, overrides: list[str], sweeping: bool) -> NoReturn:
    sentence = explain(error, verb, overrides)
    run_dir = getattr(error, "run_dir", None)
    first = f"the first to fail, {run_dir}" if run_dir else "the first to fail"
    _fail(f"Not every run of the sweep ended well; {first}: {sentence}" if sweeping else sentence)


def explain(error: Exception, verb: str, overrides: list[str]) -> str:
    """One sentence for a mistake in the config, with the nearest valid names."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*?)'", text):
        return f"{match[1]}={match[2]} gives several values; add -m for a sweep, or write {match[1]}=[{match[2]}]."
    if "Config group override must be" in text:
        empty = [o for o in overrides if o.partition("=")[2] in ("null", "")]
        return f"{', '.join(empty)}: this choice cannot be left out; name one of its options."
    if match := re.search(
        r"Could not override '([^']+)'|Key '([^']+)' is not in struct|Could not find '([^'/]+)'", text
    ):
        if f"~{match[2]}" in overrides:
            return f"~{match[2]} takes away what detlab {verb} needs."
        bad = next(
            (o.split("=")[0].lstrip("+~") for o in overrides if match[1] and o.lstrip("+~").startswith(match[1])),
            match[1] or match[2] or match[3],
        )
        if bad in groups():
            return f"{verb} takes no '{bad}'."
        good = [o for o in overrides if not o.lstrip("+~").startswith(bad)]
        return f"There is no key '{bad}' in the config{nearest_key(bad, keys_of(verb, good))}."
    if "'hydra/sweeper/optuna'" in text:
        return "hydra/sweeper=search needs Optuna, which is not installed by default: run `uv sync --extra search`."
    if match := re.search(r"Job (\S+) \(task: .*\) with path (\S+)/\S+\nhas not produced any .* \(state: (.*)\)", text):
        return (
            f"job {match[1]} ended without a result ({match[3]}), see {match[2]}; once its jobs have left the queue, "
            "start the same command again to go on."
        )
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{match[1]} has no value: give it on the command line ({match[1]}=...)."
    first = next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), type(error).__name__)
    where = re.search(r"full_key: (\S+)", text)
    return f"{where[1]}: {first[0].lower()}{first[1:]}." if where else f"{first}."


def refuse_idle_launcher(arguments: Sequence[str]) -> None:
    """Raise UserError for a launcher without a sweep: Hydra would pass over it and run here and now."""
    for argument in arguments:
        if argument.startswith("hydra/launcher=") and not is_sweep(arguments):
            raise UserError(f"{argument} carries out sweeps: add -m, with one run or several.")


def keys_of(verb: str, overrides: list[str]) -> list[str]:
    """Every dotted key of the config that the (valid) overrides lead to, and every config group."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            cfg = compose(verb, overrides)
        except (HydraException, OmegaConfBaseException):  # another override is wrong too
            cfg = compose(verb)
    return [*groups(), *_flatten(OmegaConf.to_container(cfg, resolve=False))]


def _flatten(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _flatten(value, f"{prefix}{key}.")


def nearest_key(bad: str, keys: list[str]) -> str:
    """The nearest dotted keys: by the whole key, else by its last part (`lr` → `schedule.lr`)."""
    last = bad.rsplit(".", 1)[-1]
    exact = [key for key in keys if key.rsplit(".", 1)[-1] == last]
    if exact:
        return " (did you mean " + " or ".join(f"'{key}'" for key in exact[:3]) + "?)"
    parent = bad.rpartition(".")[0]
    siblings = {key.rpartition(".")[2]: key for key in keys if key.rpartition(".")[0] == parent}
    close = difflib.get_close_matches(last, siblings, n=2, cutoff=0.6)
    if close:
        return " (did you mean " + " or ".join(f"'{siblings[name]}'" for name in close) + "?)"
    return nearest(bad, siblings.values()) or nearest(bad, keys)
