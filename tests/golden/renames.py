"""What has been renamed since the recordings were made: they are read under today's names.

Empty as long as nothing has. Once the package has an alias table for old checkpoints and configs, these two are to be
taken from there.
"""

from __future__ import annotations

from typing import Any

TARGETS: dict[str, str] = {}
"""Old beginning of a `_target_` → the new one: a module, or a class with its module, in whole dotted parts."""
KEYS: dict[str, str] = {}
"""Old dotted key of the config, or old name of a loss → the new one, and so for all keys below it."""


def rename_target(target: str) -> str:
    return _rename(target, TARGETS)


def rename_key(key: str) -> str:
    return _rename(key, KEYS)


def rename(flat: dict[str, Any]) -> dict[str, Any]:
    """A flattened config under today's names of keys and targets."""
    return {rename_key(key): _rename_values(key, value) for key, value in flat.items()}


def _rename_values(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_rename_values("", item) for item in value]
    if isinstance(value, dict):
        return {name: _rename_values(name, item) for name, item in value.items()}
    return rename_target(value) if key.endswith("_target_") and isinstance(value, str) else value


def _rename(name: str, table: dict[str, str]) -> str:
    """By the longest entry that is the whole name or ends where a part of it ends."""
    fitting = [old for old in table if name == old or name.startswith(f"{old}.")]
    if not fitting:
        return name
    old = max(fitting, key=len)
    return table[old] + name.removeprefix(old)
