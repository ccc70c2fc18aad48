"""`conf/presets.yaml`: options of config groups that are another option with a few values of their own.

Each of them is registered in Hydra's ConfigStore, so that it can stand wherever a file of its group can.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = "presets.yaml"


class Preset(NamedTuple):
    """`group` and `name` of the option, the package it is merged into (None: its group's), and its content, which is
    what ``conf/<group>/<name>.yaml`` would hold."""

    group: str
    name: str
    package: str | None
    content: dict[str, Any]


@cache
def read_presets(folder: Path) -> tuple[Preset, ...]:
    """The presets of a config folder, in the order of its file.

    Groups are keys, ``recipe@_global_`` with the package. An option is a mapping as in a file of its own; a word alone
    is another name of that option.

    Raises:
        ValueError: A preset has the name of a file.
    """
    content = yaml.safe_load((folder / FILE).read_text())
    found = [
        Preset(key.partition("@")[0], str(name), key.partition("@")[2] or None, _content(option))
        for key, options in content.items()
        for name, option in options.items()
    ]
    for preset in found:
        if (folder / preset.group / f"{preset.name}.yaml").is_file():
            raise ValueError(f"{folder / FILE}: {preset.group}: {preset.name} is a file, too; keep one of the two.")
    return tuple(found)


def register(folder: Path) -> None:
    """Let Hydra find the presets of a config folder."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for preset in read_presets(folder):
        store.store(group=preset.group, name=preset.name, package=preset.package, node=_ordered(preset.content))


def _content(option: Any) -> dict[str, Any]:
    return dict(option) if isinstance(option, Mapping) else {"defaults": [str(option)]}


def _ordered(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with Hydra's ``_self_`` in its defaults list: its own values come after the options that it takes."""
    taken: list[Any] = []
    overrides: list[Any] = []
    for entry in content.get("defaults", []):
        chosen = entry if isinstance(entry, str) else next(iter(entry))
        (overrides if chosen.startswith("override ") else taken).append(entry)
    return content | {"defaults": [*taken, "_self_", *overrides]}
