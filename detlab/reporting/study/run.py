"""One run's folder as data, however much of it is there and readable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.reporting.files import Content, read_json
from detlab.reporting.history import read_history
from detlab.reporting.study.table import Run, State

T = TypeVar("T")

_MEND = "start the run's command again, or delete its folder to begin anew"


def read_run(folder: str | Path) -> Run:
    """Read a run from its folder.

    finished: `metrics.json` says so; failed: there is a `failure.json`, or the run is not finished and one of its
    files cannot be read; unfinished: training has left something there; missing: nothing. Nothing is raised: what
    cannot be read is left out and named in `error`, since one broken file should not hide a whole table.

    The seed is the config's own, so that a copy of a folder under another name does not pass for another seed.
    """
    files = RunFolder(folder)
    problems: list[str] = []

    def attempt(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except UserError as error:
            problems.append(str(error))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{files.path}: cannot be read ({error}); {_MEND}.")
        return otherwise

    config: Content = attempt(lambda: files.read_config() if files.config.exists() else {}, {})
    result: Content = attempt(lambda: _result(files.metrics), {})
    history: dict[str, NDArray[np.float64]] = attempt(lambda: read_history(files.history), {})
    failure: Content = attempt(lambda: _whole(files.failure), {})
    finished = result.get("status") == "finished"
    begun = attempt(lambda: any(path.exists() for path in _left_by_training(files)), True)
    state: State = "unfinished" if begun else "missing"
    if finished:
        state = "finished"
    elif problems or failure:
        state = "failed"
        problems = [*([str(failure["error"])] if "error" in failure else []), *problems]
    seed = _seed(files.path, config, result)
    return Run(files.path, seed, state, result if finished else {}, history, config, " ".join(problems))


def _left_by_training(files: RunFolder) -> tuple[Path, ...]:
    return files.config, files.history, files.metrics, files.checkpoints, files.failure


def _whole(path: Path) -> Content:
    """A JSON file that may not be there, but is not empty if it is."""
    content = read_json(path)
    if not content and path.exists():
        raise UserError(f"{path}: there is nothing in this file; {_MEND}.")
    return content


def _result(path: Path) -> Content:
    """`metrics.json`, its values checked to be numbers or null."""
    result = dict(_whole(path))
    for split in ("val", "test"):
        values = result.setdefault(split, {}) if result else {}
        if not isinstance(values, Mapping):
            raise UserError(f"{path}: {split} holds no metrics but {values!r:.40}; {_MEND}.")
        for name, value in values.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise UserError(f"{path}: {split} {name} is {value!r:.40}, which is no number; {_MEND}.")
    return result


def _seed(folder: Path, config: Content, result: Content) -> int:
    for written in (config.get("seed"), result.get("seed")):
        if isinstance(written, int) and not isinstance(written, bool):
            return written
    named = re.fullmatch(r"seed=(\d+)", folder.absolute().name)
    return int(named[1]) if named else 0


def seed_folders(folder: Path) -> list[Path]:
    """The folders ``seed=<n>`` in a folder, by number."""
    found = [
        (int(match[1]), path) for path in folder.glob("seed=*") if (match := re.fullmatch(r"seed=(\d+)", path.name))
    ]
    return [path for _, path in sorted(found) if path.is_dir()]


def find_runs(folder: Path) -> Iterator[Path]:
    """The run folders at any depth, sorted: those with a config and something that training left. What lies inside a
    run (its evaluations, what W&B keeps) is part of it."""
    config, *others = _left_by_training(RunFolder(folder))
    try:
        if config.is_file() and any(path.exists() for path in others):
            yield folder
            return
        inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError as error:
        raise UserError(
            f"{folder}: cannot look into this folder ({error.strerror or error}); make it readable."
        ) from None
    for path in inner:
        if not path.name.startswith("."):
            yield from find_runs(path)
