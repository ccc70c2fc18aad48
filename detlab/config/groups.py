"""The config tree on disk: where it is, which groups it has and which options each of them."""

from __future__ import annotations

from pathlib import Path

GROUP = "experiment"  # the group whose options are the rows of tables
PACKAGE = Path(__file__).resolve().parents[1]
CONFIG_DIR = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if (path / "train.yaml").is_file())


def groups() -> dict[str, list[str]]:
    """The options of each config group."""
    folders = sorted(path for path in CONFIG_DIR.iterdir() if path.is_dir())
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in folders
        if folder.name not in (GROUP, "sweeps")  # conf/sweeps holds files for `wandb sweep`
    }


def launchers() -> list[str]:
    """What can carry out a sweep: Hydra's own, one run after another, and those of conf/hydra/launcher/."""
    return ["basic", *sorted(path.stem for path in (CONFIG_DIR / "hydra/launcher").glob("*.yaml"))]
