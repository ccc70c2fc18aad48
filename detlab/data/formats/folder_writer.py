"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detlab.data.files import PART
from detlab.errors import UserError

RECORD = "labels.json"  # by which a folder is known as written here


def refuse_used(target: Path, overwrite: bool = False) -> None:
    """Raise UserError for a folder that holds something, unless it may be overwritten: one that has a `RECORD`."""
    if target.exists() and not target.is_dir():
        raise UserError(f"output={target}: that is a file; name a folder.")
    if target.is_dir() and any(target.iterdir()):
        if not (target / RECORD).is_file():
            raise UserError(f"output={target}: this folder holds other things; name an empty or a new one.")
        if not overwrite:
            raise UserError(f"output={target}: there are labels already; name another folder, or add overwrite=true.")


@contextmanager
def whole_folder(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into, which takes the place of `target` when the block ends well, and else goes.

    Raises UserError as `refuse_used`, and where it cannot be written.
    """
    refuse_used(target, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART))
        try:
            temporary.chmod(0o755)
            yield temporary
            if target.is_dir() and any(target.iterdir()):
                old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=PART))
                os.replace(target, old)  # onto an empty folder
                os.replace(temporary, target)
                shutil.rmtree(old)
            else:
                os.replace(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror or error}); choose a folder where it can."
        ) from error
