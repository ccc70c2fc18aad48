"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from detlab.errors import UserError

PART = ".part"  # how the name of a file ends while it is being written


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write-then-rename: a reader sees the old file or the new one, never half of it. UserError where it cannot."""
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)  # gone already where Ctrl-C came after the renaming
            raise
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); choose a folder where it can."
        ) from error


def read_text(path: Path) -> str:
    """The file's text, empty where there is no such file."""
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}).") from error
