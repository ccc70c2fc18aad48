"""The pictures of an index side by side in one folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from detlab.data.index import AnnotationIndex


def picture_names(index: AnnotationIndex) -> list[str]:
    """A file name for each picture that no other has, be it with another suffix or in other case: its own, else with
    its source in front, and its row where that does not tell them apart."""
    names = [Path(path).name for path in map(str, index.paths)]
    often = Counter(map(_key, names))
    taken = {key for key, count in often.items() if count == 1}
    result = []
    for row, name in enumerate(names):
        if often[_key(name)] > 1:
            source = index.source_names[index.sources[row]].replace("/", "_")
            more = ("", *(f"{row}_{'_' * n}" for n in range(len(index))))
            name = next(word for word in (f"{source}_{m}{name}" for m in more) if _key(word) not in taken)
            taken.add(_key(name))
        result.append(name)
    return result


def link_pictures(index: AnnotationIndex, names: list[str], folder: Path) -> None:
    """Links called `names` to the pictures, in place of what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, name in zip(map(str, index.paths), names, strict=True):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(os.path.abspath(path))


def _key(name: str) -> str:
    return Path(name).stem.casefold()
