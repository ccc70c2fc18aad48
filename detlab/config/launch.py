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
from typing import Any

from detlab.config.experiments import GROUP, config_folders, rows_in
from detlab.config.help import help_text
from detlab.config.overrides import tidy
from detlab.config.presets import read_presets, register
from detlab.config.sweeps import check_sweep, is_sweep
from detlab.errors import UserError, nearest

PACKAGE = Path(__file__).resolve().parents[1]
CONFIG_DIR = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if (path / "train.yaml").is_file())
NESTED = (
    "loss/classification",
    "loss/localization",
    "loss/quality",
)  # groups that an option of another group chooses from
register(CONFIG_DIR)  # wherever configs are composed, this module gives the folder they lie in
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


def launch(verb: str, run: Callable[[Any], Any], check: Callable[[Any, str | None], None] | None = None) -> None:
    """Run `run(cfg)` under Hydra with `conf/<verb>.yaml` and the command line's overrides.

    UserError and Hydra's own complaints become one line on stderr and exit status 1; anything else is our bug
    and keeps its traceback. A `run` that returns an int gives the exit status. In a sweep a job that fails says so
    at once and leaves the others alone; the exit status is then 1.

    check: raises UserError for a config (given it and the name of its experiment) that cannot run; a sweep asks it
    about every job before the first one starts.
    """
    set_defaults()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(verb, CONFIG_DIR / f"{verb}.yaml", groups()))
        return
    folders = config_folders(sys.argv[1:], CONFIG_DIR)
    try:
        sys.argv[1:] = tidy(sys.argv[1:], groups() | {"hydra/launcher": launchers()}, rows_in(folders))
        refuse_idle_launcher(sys.argv[1:])
    except UserError as error:
        _fail(str(error))
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    status: list[int] = []
    refused: list[Exception] = []

    def task(cfg: Any) -> Any:
        try:
            value = run(cfg)
        except Exception as error:
            expected = isinstance(error, UserError | OmegaConfBaseException)
            if HydraConfig.get().mode != RunMode.RUN:
                error.run_dir = str(cfg.get("run_dir"))  # type: ignore[attr-defined]  # crosses processes with it
                _say_failed(error, expected)
                raise  # the launcher must see which job of a sweep failed
            if not expected:
                raise
            refused.append(error)  # alone, Hydra would print a second message above ours
            return None
        except SystemExit as end:
            # A process beside the first one of a run: that one tells how the run ended, and submitit wants to hear from
            # all. With other codes submitit itself ends a job that it has put back into the queue.
            if HydraConfig.get().mode != RunMode.RUN and end.code in (0, 1):
                return None
            raise
        status.append(value if isinstance(value, int) else 0)
        return value

    overrides = [a for a in sys.argv[1:] if ("=" in a and not a.startswith("-")) or a.startswith("~")]
    sweeping = False
    try:
        if is_sweep(sys.argv[1:]):
            check_sweep(verb, overrides, folders, check)
            sweeping = True
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=verb)(task)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        refused.append(error)
    except KeyboardInterrupt:
        if any("submitit_slurm" in argument for argument in sys.argv):
            _fail("Interrupted; the jobs stay in the queue: squeue shows them, scancel ends them.", status=130)
        _fail("Interrupted; start the same command again to go on from the last checkpoint.", status=130)
    except Exception as error:
        if not sweeping and "Config group override" not in str(error):
            raise
        refused.append(error)  # in a sweep, its traceback was printed when it happened
    if refused:
        sentence = explain(refused[0], verb, overrides)
        run_dir = getattr(refused[0], "run_dir", None)
        first = f"the first to fail, {run_dir}" if run_dir else "the first to fail"
        _fail(f"Not every run of the sweep ended well; {first}: {sentence}" if sweeping else sentence)
    raise SystemExit(max(status, default=0))


def _say_failed(error: Exception, expected: bool) -> None:
    if not expected:
        traceback.print_exception(error)
    where = getattr(error, "run_dir", "this run")
    print(f"detlab: {where} failed: {error if expected else repr(error)}", file=sys.stderr, flush=True)


def _fail(message: str, status: int = 1) -> None:
    print(f"detlab: {message}", file=sys.stderr)
    raise SystemExit(status)


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


def groups() -> dict[str, list[str]]:
    """The options of each config group: its files, and its presets."""
    folders = [path.name for path in CONFIG_DIR.iterdir() if path.is_dir()]
    # conf/sweeps holds files for `wandb sweep`.
    return {name: options_of(name) for name in sorted([*folders, *NESTED]) if name not in (GROUP, "sweeps")}


def options_of(group: str) -> list[str]:
    """The options of one config group, which may be nested (``loss/localization``)."""
    presets = [preset.name for preset in read_presets(CONFIG_DIR) if preset.group == group]
    return sorted([*presets, *(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))])


def launchers() -> list[str]:
    """What can carry out a sweep: Hydra's own, one run after another, and those of conf/hydra/launcher/."""
    return ["basic", *sorted(path.stem for path in (CONFIG_DIR / "hydra/launcher").glob("*.yaml"))]


def refuse_idle_launcher(arguments: Sequence[str]) -> None:
    """Raise UserError for a launcher without a sweep: Hydra would pass over it and run here and now."""
    for argument in arguments:
        if argument.startswith("hydra/launcher=") and not is_sweep(arguments):
            raise UserError(f"{argument} carries out sweeps: add -m, with one run or several.")


def keys_of(verb: str, overrides: list[str]) -> list[str]:
    """Every dotted key of the config that the (valid) overrides lead to, and every config group."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        try:
            cfg = compose(verb, overrides)
        except (HydraException, OmegaConfBaseException):  # another override is wrong too
            cfg = compose(verb)
    return [*groups(), *_flatten(OmegaConf.to_container(cfg, resolve=False))]


def _flatten(node: Any, prefix: str = "") -> Iterator[str]:
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
