"""YAML that refuses what plain YAML passes over in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from detlab.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys, of which plain YAML keeps the last and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # which YAML itself refuses
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"'{key.value}' stands there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> object:
    """The content of a YAML file. Raises UserError, with the line, where it is malformed or repeats a key."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read this file ({error}).") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        raise UserError(
            f"{path}{f', line {mark.line + 1}' if mark else ''}: malformed YAML ({problem or error})."
        ) from None
