"""The run folder: what a run is called, whether it is finished, and files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from detlab.data.files import PART, write_atomic
from detlab.engine.aliases import modernize
from detlab.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Keys that say where or how conveniently a run is made, not what is computed, or what shows elsewhere in its config.
NOT_IDENTITY = (
    "run_dir", "name", "setting", "trained_as", "overwrite", "logger", "report", "save_every", "localization",
    "interval_count", "interval_weight", "interval_probability", "interval_threshold", "pseudo_threshold", "nms_iou",
)  # fmt: skip
NOT_IDENTITY_NESTED = {
    "loader": ("num_workers", "cache_images"),
    "callbacks": ("progress", "learning_rate", "gradients", "barren", "assignments", "pseudo_labels"),
}
# Keys that runs made before they existed lack, and the value with which nothing is otherwise than it was there.
LATER = {"pseudo": {"unsure": "background", "views": "enough"}}

Config = dict[str, Any]  # a resolved config, or a part of it, as plain values: mappings, lists, text, numbers
Metrics = dict[str, Any]  # the content of `metrics.json`
State = Literal["new", "unfinished", "finished"]


class RunFolder:
    """One run's files, by name (see README, "What a run leaves")."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.json"
        self.history = self.path / "metrics.csv"
        self.predictions = self.path / "predictions.json"
        self.checkpoints = self.path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.figures = self.path / "figures"
        self.failure = self.path / "failure.json"
        self.claimed = False
        self._lock: int | None = None

    def read_config(self) -> Config:
        try:
            loaded = yaml.safe_load(self.config.read_text())
        except FileNotFoundError:
            raise UserError(
                f"{self.path} is not a run folder: it has no config.yaml; give a folder made by detlab train."
            ) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise UserError(
                f"{self.config}{line}: not valid YAML; restore it or start over with overwrite=true."
            ) from None
        if not isinstance(loaded, dict):
            raise UserError(f"{self.config} holds no config; restore it or start over with overwrite=true.")
        return modernize(loaded)

    def read_metrics(self) -> dict[str, Any]:
        try:
            return json.loads(self.metrics.read_text())
        except (OSError, json.JSONDecodeError):
            return {}

    def state(self) -> State:
        if self.read_metrics().get("status") == "finished":
            return "finished"
        return "unfinished" if self.config.exists() else "new"

    def holds_finished(self, config: Config) -> bool:
        """Whether the folder holds a finished run of this very config."""
        return self.state() == "finished" and not differences(identity(self.read_config()), identity(config))

    def open(self, config: Config, overwrite: bool = False) -> State:
        """Claim the folder for a run of `config` and say what is there already.

        Raises UserError, with the difference, when the folder holds a run of another config and not
        `overwrite`; with `overwrite` what the earlier run left is forgotten. Raises UserError when another process
        holds the folder, until that process calls `release` or ends, however it ends.
        """
        self._take_lock()
        if overwrite and self.config.exists():
            self._forget()
        state = self.state()
        if state != "new":
            changes = differences(identity(self.read_config()), identity(config))
            if changes:
                raise UserError(
                    f"{self.path} holds a run of another config ({'; '.join(changes[:6])}): "
                    "give this one a name (name=...), or start it over with overwrite=true."
                )
        else:
            write_atomic(self.config, yaml.safe_dump(dict(config), sort_keys=False))
        self.claimed = True
        for leftover in list(self.path.rglob(f".*{PART}")):  # of a process killed while it wrote
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        self.failure.unlink(missing_ok=True)
        return state

    def record_failure(self, error: BaseException, **more: object) -> None:
        """Write `failure.json`: the sentence, the kind and the traceback of what ended the run, and `more`."""
        content = {
            "error": str(error) or type(error).__name__,
            "kind": type(error).__name__,
            **more,
            "traceback": "".join(traceback.format_exception(error)),
        }
        write_atomic(self.failure, json.dumps(content, indent=1))

    def release(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        """A POSIX lock, which ends with this process and is not inherited by its workers."""
        if fcntl is None or self._lock is not None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror or error}); choose a folder where it can."
            ) from error
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(handle)
            raise UserError(
                f"{self.path}: another process is training in this folder; wait for it, or give this run a name "
                "of its own (name=...)."
            ) from None
        except OSError:  # a file system without locks
            os.close(handle)
            return
        self._lock = handle

    def _forget(self) -> None:
        files = (self.config, self.metrics, self.history, self.predictions, self.failure, self.path / "report.html")
        for path in files:
            path.unlink(missing_ok=True)
        for folder in (self.checkpoints, self.figures, self.path / "wandb"):
            shutil.rmtree(folder, ignore_errors=True)


def identity(config: Mapping[str, Any]) -> Config:
    """The part of a resolved config that decides what is computed; what is null is as if it were not there."""
    kept = {key: value for key, value in config.items() if key not in NOT_IDENTITY and value is not None}
    for group, names in NOT_IDENTITY_NESTED.items():
        if isinstance(kept.get(group), Mapping):
            kept[group] = {key: value for key, value in kept[group].items() if key not in names}
    for group, values in LATER.items():
        if isinstance(kept.get(group), Mapping):
            kept[group] = {k: v for k, v in kept[group].items() if k not in values or v != values[k]}
    return kept


def config_hash(config: Config) -> str:
    """Eight hexadecimal digits that name a run's config."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True, default=str).encode()).hexdigest()[:8]


def differences(old: Mapping[str, object], new: Mapping[str, object], prefix: str = "") -> list[str]:
    """``key: old → new`` for every leaf that differs."""
    changes: list[str] = []
    for key in sorted({*old, *new}, key=str):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changes += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            changes.append(f"{prefix}{key}: {a!r} → {b!r}")
    return changes


def git_commit() -> str:
    """The commit of the code, with ``+changes`` where the tree differs from it; empty outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
