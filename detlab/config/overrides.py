"""`key=value` as people type it, made into what Hydra takes; what Hydra would pass over in silence is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from detlab.config import experiments
from detlab.errors import UserError, nearest

SOURCES = "data.sources."
# Keys of earlier versions, which keep working for a while -> their names today.
RENAMED_KEYS = {
    "interval_count": "localization.num_intervals",
    "interval_weight": "localization.weight",
    "interval_probability": "localization.probability",
    "interval_threshold": "localization.score_threshold",
    "pseudo_threshold": "pseudo.tau",
}


def tidy(arguments: Sequence[str], groups: Mapping[str, Sequence[str]], rows: Sequence[str] = ()) -> list[str]:
    """The command line with every value in quotes that Hydra's grammar would refuse bare, such as the path in
    ``ckpt_path=runs/x/seed=0`` or those in ``testing.runs=[runs/x/seed=0,runs/y/seed=0]``, and with
    ``experiment=glob(...)`` written out; flags go first, as Hydra wants them.

    groups: the options of each config group; rows: those of `experiment`. Raises UserError for an argument that is
    neither a flag (``-m``) nor ``key=value``, for two sources of one name, and for a group's option that does not
    exist: where a group may be left out, Hydra would leave it out for a misspelt name too, and evaluate on other data
    than asked for.
    """
    if any(argument.startswith(("--config-", "-cd", "-cp", "hydra.searchpath=")) for argument in arguments):
        groups = {}  # a folder of the user's own may have more options
    flags: list[str] = []
    settings: list[str] = []
    for before, argument in zip(["", *arguments], arguments):
        # A word after a flag is the flag's: `--cfg job`.
        if argument.startswith("-") or (before.startswith("-") and "=" not in argument):
            flags.append(argument)
        else:
            settings.append(_tidy(rename_key(argument), groups, rows))
    _refuse_second_sources(settings)
    return [*flags, *settings]


def rename_key(argument: str) -> str:
    """``interval_count=8`` under the key's name today, which a line on stderr tells; any other argument as it is."""
    key, equals, value = argument.partition("=")
    name = key.lstrip("+~")
    if name not in RENAMED_KEYS:
        return argument
    print(f"detlab: {name} is {RENAMED_KEYS[name]} now.", file=sys.stderr)
    return f"{key.removesuffix(name)}{RENAMED_KEYS[name]}{equals}{value}"


def _refuse_second_sources(settings: Sequence[str]) -> None:
    """Of two entries of one name Hydra would make one, with what each says of it."""
    keys = [setting.partition("=")[0].lstrip("+") for setting in settings]
    for key in keys:
        if key.startswith(SOURCES) and "." not in key.removeprefix(SOURCES) and keys.count(key) > 1:
            raise UserError(f"{key} is given twice; name one of the two sources otherwise.")


def _tidy(argument: str, groups: Mapping[str, Sequence[str]], rows: Sequence[str]) -> str:
    if argument.startswith("~"):
        return argument
    key, equals, value = argument.partition("=")
    if not equals or not key.strip("+@"):
        raise UserError(f"'{argument}' is no setting; write key=value, such as seed=1.")
    parser = OverridesParser.create()
    for candidate in (argument, *(f"{key}={quoted}" for quoted in _quoted(value))):
        try:
            parsed = parser.parse_override(candidate).value()
        except HydraException:
            continue
        group = key.lstrip("+")
        if group == experiments.GROUP:
            chosen = experiments.expand(parsed, rows)
            return f"{key}={chosen}" if chosen else candidate
        folder = group.partition("@")[0]  # of an option at another place, as augment@view=weak
        if folder in groups:
            _check_option(group, folder, parsed, groups[folder])
        return candidate
    return argument


def _quoted(value: str) -> list[str]:
    """`value` in quotes, and before that, where it is a list, with each of its entries in quotes."""
    quote = next((q for q in "\"'" if q not in value), "")
    whole, inner = f"{quote}{value}{quote}", value[1:-1]
    if value != f"[{inner}]" or not inner or set(inner) & set("[]{}\"'"):
        return [whole]
    return ["[" + ",".join(f'"{entry.strip()}"' for entry in inner.split(",")) + "]", whole]


def _check_option(group: str, folder: str, value: object, options: Sequence[str]) -> None:
    if isinstance(value, list):
        raise UserError(f"{group}=[{','.join(map(str, value))}]: give one option (valid: {', '.join(options)}).")
    for option in getattr(value, "list", [value]):  # a sweep lists its choices
        if option is not None and isinstance(option, str | int | float) and str(option) not in options:
            raise UserError(f"There is no {group}={option}{nearest(str(option), options)}; see conf/{folder}/.")


def name_source(arguments: Sequence[str]) -> list[str]:
    """The command line with its bare word named: ``runs/x/seed=0`` becomes ``source=runs/x/seed=0``."""
    result = list(arguments)
    for position, (before, argument) in enumerate(zip(["", *arguments], arguments)):
        setting = re.match(r"[+~]|[\w.@]+=", argument) and not Path(argument).exists()
        if not argument.startswith("-") and not before.startswith("-") and not setting:
            result[position] = f"source={argument}"
            break
    return result
