"""detlab's commands in this process, on one thread, as a user would type them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
RUNS = HERE / "run"

SCENES = {"train": 12, "val": 2, "test": 2, "size": 64, "object_size": "[0.25,0.6]"}


def scenes(prefix: str = "data", **other: object) -> list[str]:
    """Overrides that make the scenes few and small; `prefix`: where their keys are."""
    return [f"{prefix}.{key}={value}" for key, value in {**SCENES, **other}.items()]


def detlab(folder: Path, *words: str) -> None:
    """Run `detlab <words>` in `folder`. Raises RuntimeError with what it printed where it fails."""
    from detlab.cli import main

    said = io.StringIO()
    with _one_thread(), contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        before, sys.argv = sys.argv, ["detlab", *words]
        try:
            main(list(words))
            status: object = 0
        except SystemExit as end:
            status = end.code
        finally:
            sys.argv = before
    if status:
        raise RuntimeError(f"detlab {' '.join(words)} ended with {status}:\n{said.getvalue()}")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order only, and nothing sent anywhere."""
    threads, mode = torch.get_num_threads(), os.environ.get("WANDB_MODE")
    torch.set_num_threads(1)
    os.environ["WANDB_MODE"] = "offline"
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if mode is None:
            del os.environ["WANDB_MODE"]
        else:
            os.environ["WANDB_MODE"] = mode
