"""Weights & Biases: one run per training, offline unless configured, the same run after resuming."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detlab.runs import RunFolder, git_commit, write_atomic


class WandbTracker:
    """Logs a run to W&B under `<run folder>/wandb`.

    Offline (the default without a key) the run can be read with ``wandb leet <folder>`` and sent later with
    ``wandb sync``. Each run keeps its id in the folder, so resuming continues the same W&B run, and `finish`
    closes it, so that the jobs of a multirun never merge.
    """

    def __init__(
        self, project: str = "detlab", entity: str | None = None, group: str | None = None, tags: Sequence[str] = ()
    ) -> None:
        self.project, self.entity, self.group, self.tags = project, entity, group, list(tags)
        self._logger: Any = None

    def logger(self, folder: RunFolder, config: dict[str, Any]) -> Any:
        """A Lightning logger for the run of `folder` (one per process)."""
        from lightning.pytorch.loggers import WandbLogger

        self._logger = WandbLogger(
            project=self.project,
            entity=self.entity,
            group=self.group,
            tags=self.tags,
            name=f"{config['name']}-seed{config['seed']}",
            id=_run_id(folder.path / "wandb" / "run_id"),
            resume="allow",
            save_dir=str(folder.path.resolve()),  # the service process may have another working folder
            config={**config, "commit": git_commit()},
        )
        self._logger._wandb_init.pop("anonymous", None)  # Lightning passes it, and W&B then warns on every run
        return self._logger

    def summarise(self, result: dict[str, Any], pictures: Sequence[Path]) -> None:
        """Put the final metrics and the example pictures into the run."""
        import wandb

        run = self._logger.experiment
        summary = {k: v for k, v in result.items() if isinstance(v, str | int | float)}
        summary |= {f"test/{name}": value for name, value in result["test"].items()}
        run.config.update({"dataset": result["dataset"]}, allow_val_change=True)
        if pictures:  # one panel each: W&B wants the pictures of a panel to be of one size
            run.log({f"test/{path.stem}": wandb.Image(str(path)) for path in pictures})
        run.summary.update(summary)

    def finish(self) -> None:
        import wandb

        if wandb.run is not None:
            wandb.finish()


def _run_id(path: Path) -> str:
    if not path.exists():
        write_atomic(path, secrets.token_hex(4))
    return path.read_text().strip()
