"""Weights & Biases: one run per training, offline unless configured, the same run after resuming."""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lightning.pytorch.loggers import Logger, WandbLogger

from detlab.data.files import write_atomic
from detlab.engine.run_folder import Config, Metrics, RunFolder, git_commit

log = logging.getLogger(__name__)

LONGEST_GROUP, LONGEST_TAG = 128, 64  # characters; W&B refuses longer ones


class Labels(NamedTuple):
    """What a run is found by among others."""

    group: str
    name: str
    tags: list[str]
    table: str
    row: str


class Tracker(Protocol):
    """An experiment tracker beside `metrics.csv`, such as W&B."""

    def logger(self, folder: RunFolder, config: Config) -> Logger: ...

    def summarise(self, result: Metrics, pictures: Sequence[Path]) -> None: ...

    def finish(self) -> None: ...


class WandbTracker:
    """Logs a run to W&B under `<run folder>/wandb`.

    Offline (the default without a key) the run can be read with ``wandb leet <folder>`` and sent later with
    ``wandb sync``. Each run keeps its id in the folder, so resuming continues the same W&B run, and `finish`
    closes it, so that the jobs of a multirun never merge. In a W&B sweep the id is the one that the sweep gave.

    group: null for that of `labels`; tags: added to those of `labels`.
    """

    def __init__(
        self, project: str = "detlab", entity: str | None = None, group: str | None = None, tags: Sequence[str] = ()
    ) -> None:
        self.project, self.entity, self.group, self.tags = project, entity, group, list(tags)
        self._logger: _Logger | None = None

    def logger(self, folder: RunFolder, config: Config) -> Logger:
        """A Lightning logger for the run of `folder` (one per process)."""
        _close(failed=True)  # Lightning would go on writing into a run that an earlier job left open
        found = labels(config)
        kept = folder.path / "wandb"
        self._logger = _Logger(
            first_step=last_step(kept) + 1,
            project=self.project,
            entity=self.entity,
            group=self.group or found.group,
            job_type="train",
            tags=_tags([*found.tags, *self.tags]),
            name=found.name,
            id=run_id(kept / "run_id"),
            resume="allow",
            save_dir=str(folder.path.resolve()),  # the service process may have another working folder
            config={**config, "table": found.table, "row": found.row, "commit": git_commit()},
        )
        self._logger._wandb_init.pop("anonymous", None)  # Lightning passes it, and W&B then warns on every run
        return self._logger

    def summarise(self, result: Metrics, pictures: Sequence[Path]) -> None:
        """Put the final metrics and the example pictures into the run."""
        import wandb

        assert self._logger is not None, "logger() comes first"
        run = self._logger.experiment
        summary = {k: v for k, v in result.items() if isinstance(v, str | int | float)}
        summary |= {f"test/{name}": value for name, value in result["test"].items()}
        run.config.update({"dataset": result["dataset"]}, allow_val_change=True)
        if pictures:  # one panel each: W&B wants the pictures of a panel to be of one size
            named = {f"{'pseudo' if path.stem.startswith('pseudo') else 'test'}/{path.stem}": path for path in pictures}
            run.log({name: wandb.Image(str(path)) for name, path in named.items()})
        run.summary.update(summary)

    def finish(self) -> None:
        """Close the process's W&B run, if one is open; while an exception is on its way, as a failed one."""
        _close(failed=sys.exception() is not None)


class _Logger(WandbLogger):
    """Counts W&B's steps from `first_step` on. Offline, W&B itself begins anew at 0 when a run is resumed, and rows of
    the same step are not kept apart when the parts are synced."""

    def __init__(self, first_step: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._first_step: int | None = first_step or None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._first_step is not None:
            self.experiment.log({}, step=self._first_step)
            self._first_step = None
        super().log_metrics(metrics, step)


def _close(failed: bool) -> None:
    import wandb

    if wandb.run is not None:
        try:
            wandb.finish(exit_code=int(failed))
        except Exception as error:
            # A scheduler's SIGTERM ends W&B's service, too. To say so must not hide what ended the run.
            if not failed:
                raise
            log.warning("W&B could not close its run (%s); what it has on disk is kept.", error)


def labels(config: Config) -> Labels:
    """What the run of a resolved config is grouped, named and tagged by.

    A row ``paper/table/row`` belongs to the group ``paper/table · setting`` with all rows and seeds of its table;
    a run with a plain name to the group ``name · setting``, with its other seeds.
    """
    *parents, row = config["name"].split("/")
    table = "/".join(parents) or row
    setting = config.get("setting") or config["scale_name"]
    places = list(accumulate(parents, lambda above, part: f"{above}/{part}"))  # the paper, the table
    tags = [*places, row, config["scale_name"], setting, config["data"]["name"]]
    return Labels(
        f"{table} · {setting}"[:LONGEST_GROUP], f"{row} seed={config['seed']}"[:LONGEST_GROUP], tags, table, row
    )


def _tags(words: Sequence[str]) -> list[str]:
    """Each word once, in lengths that W&B takes."""
    return list(dict.fromkeys(str(word)[:LONGEST_TAG] for word in words if word))


def run_id(path: Path) -> str:
    """The W&B id kept in `path`, a new one if there is none; in a W&B sweep the sweep's, which is kept from then on."""
    given = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    if given:
        write_atomic(path, given)
    elif not path.exists():
        _write_first(path, secrets.token_hex(4))
    return path.read_text().strip()


def last_step(folder: Path) -> int:
    """The last W&B step in the offline runs below `folder`, -1 where there is none."""
    steps = [-1]
    for run in folder.glob("offline-run-*"):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(run)]
        printed = subprocess.run(command, capture_output=True, text=True).stdout
        try:
            step = json.loads(printed)["step"]
        except (ValueError, KeyError):  # cut off before it held anything
            continue
        steps += [] if step is None else [int(step)]
    return max(steps)


def _write_first(path: Path, content: str) -> None:
    """Write a file that no other process has written in the meantime: all processes of a run need the same id."""
    draft = path.with_name(f".{path.name}.{content}")
    write_atomic(draft, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        write_atomic(path, content)
    finally:
        draft.unlink()
