"""The config tree on disk: where it is, which groups it has and which options each of them."""

from __future__ import annotations

from pathlib import Path

from detlab.config.presets import read_presets

GROUP = "experiment"  # the group whose options are the rows of tables
PACKAGE = Path(__file__).resolve().parents[1]
# Groups that an option of another group chooses from.
NESTED = ("loss/classification", "loss/localization", "loss/quality")
CONFIG_DIR = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if (path / "train.yaml").is_file())


def groups() -> dict[str, list[str]]:
    """The options of each config group: its files, and its presets."""
    folders = [path.name for path in CONFIG_DIR.iterdir() if path.is_dir()]
    # conf/sweeps holds files for `wandb sweep`.
    return {name: options_of(name) for name in sorted([*folders, *NESTED]) if name not in (GROUP, "sweeps")}


def options_of(group: str) -> list[str]:
    """The options of one config group, which may be nested (``loss/localization``)."""
    presets = [preset.name for preset in read_presets(CONFIG_DIR) if preset.group == group]
    return sorted([*presets, *(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))])


def launchers() -> list[str]:
    """What can carry out a sweep: Hydra's own, one run after another, and those of conf/hydra/launcher/."""
    return ["basic", *sorted(path.stem for path in (CONFIG_DIR / "hydra/launcher").glob("*.yaml"))]
