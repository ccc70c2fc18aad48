"""Read the text files of a run, with one sentence for what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detlab.data.files import read_text
from detlab.errors import UserError

Content = Mapping[str, Any]  # of a JSON or YAML file: metrics, configs, records


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no such file."""
    text = read_text(path)
    try:
        content = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: this is no valid JSON ({error.msg}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object with the run's metrics, got a {type(content).__name__}.")
    return content
