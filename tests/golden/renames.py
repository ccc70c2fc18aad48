"""What has been renamed since the recordings were made: they are read under today's names.

Targets are renamed by the package's own table of moved modules, `detlab.engine.aliases`.
"""

from __future__ import annotations

from typing import Any

from detlab.engine.aliases import modernize_target as rename_target

KEYS: dict[str, str] = {}
"""Old dotted key of the config, or old name of a loss → the new one, and so for all keys below it."""


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
