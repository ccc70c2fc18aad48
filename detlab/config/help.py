"""What `detlab <verb> --help` says: the verb's own file of keys, with its remarks, and what each group may be."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

WIDTH = 100


def help_text(verb: str, file: Path, groups: Mapping[str, Sequence[str]]) -> str:
    """file: ``conf/<verb>.yaml``, shown as it is; groups: the options of each config group."""
    text = file.read_text()
    defaults = yaml.safe_load(text).get("defaults", [])
    chosen = [name for name in _groups_of(defaults) if name in groups and name != "hydra"]
    own = [
        name for group in chosen for name in (group, *(nested for nested in groups if nested.startswith(f"{group}/")))
    ]
    choices = [
        textwrap.fill(", ".join(groups[name]), WIDTH, initial_indent=f"  {name}: ", subsequent_indent="    ")
        for name in own
    ]
    lines = [
        f"usage: detlab {verb} [key=value ...]",
        "",
        "The keys, as they are unless you say otherwise:",
        "",
        textwrap.indent(text.rstrip(), "  "),
    ]
    if choices:
        lines += ["", "What a group may be (group=option, group.key=value):", "", *choices]
    others = [entry for entry in defaults if isinstance(entry, str) and entry != "_self_"]
    lines += [f"\nBesides, all that `detlab {other} --help` lists." for other in others]
    lines += ["", f"`detlab {verb} --cfg job` prints the whole config, `detlab {verb} --hydra-help` Hydra's own flags."]
    return "\n".join(lines)


def _groups_of(defaults: Sequence[Any]) -> list[str]:
    """The groups that a defaults list chooses from, in its order."""
    names = [str(next(iter(entry))) for entry in defaults if isinstance(entry, Mapping)]
    return list(dict.fromkeys(name.split()[-1].partition("@")[0].strip("/") for name in names))
