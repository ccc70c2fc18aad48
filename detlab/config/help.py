"""What `detlab <verb> --help` says: the verb's own file of keys, with its remarks, and what each group may be."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import yaml

from detlab.config.groups import CONFIG_DIR, groups

WIDTH = 100


def help_text(verb: str) -> str:
    """``conf/<verb>.yaml`` as it is, and the options of each config group that it chooses from."""
    text = (CONFIG_DIR / f"{verb}.yaml").read_text()
    defaults = yaml.safe_load(text).get("defaults", [])
    options = groups()
    chosen = [name for name in _groups_of(defaults) if name in options and name != "hydra"]
    own = [name for group in chosen for name in (group, *(name for name in options if name.startswith(f"{group}/")))]
    choices = [
        textwrap.fill(", ".join(options[name]), WIDTH, initial_indent=f"  {name}: ", subsequent_indent="    ")
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


def _groups_of(defaults: Sequence[str | Mapping[str, object]]) -> list[str]:
    """The groups that a defaults list chooses from, in its order."""
    names = [str(next(iter(entry))) for entry in defaults if isinstance(entry, Mapping)]
    return list(dict.fromkeys(name.split()[-1].partition("@")[0].strip("/") for name in names))
