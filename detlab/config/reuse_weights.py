"""A run that needs no training of its own, since another run has trained the same with other post-processing."""

from __future__ import annotations

import logging
from pathlib import Path

from detlab.engine.run_folder import Config, RunFolder, differences, identity
from detlab.errors import UserError

log = logging.getLogger(__name__)

AFTER_TRAINING = ("postprocess", "testing")


def find_reusable_run(config: Config) -> RunFolder | None:
    """The finished run that `config` names under `trained_as` (``<paper>/<table>/<row>``), of the same setting and
    seed; None where it names none, or where that run is not finished: then training is done here.

    Raises UserError where it names itself, and where that run differs in more than what happens after training.
    """
    other = config.get("trained_as")
    if not other:
        return None
    folder = RunFolder(_beside(config, str(other)))
    if folder.path.resolve() == Path(str(config["run_dir"])).resolve():
        raise UserError(f"trained_as={other} is this run itself; name another one, or take trained_as=null.")
    state = folder.state()
    if state != "finished" or not folder.last.is_file():
        lack = {"new": "there is no such run", "unfinished": "that run is not finished"}.get(
            state, "its checkpoint is gone"
        )
        log.warning("trained_as=%s: %s (%s), so this one trains by itself.", other, lack, folder.path)
        return None
    changes = differences(_training(folder.read_config()), _training(config))
    if changes:
        raise UserError(
            f"trained_as={other}: {folder.path} was trained otherwise ({'; '.join(changes[:6])}): train this run by "
            "itself with trained_as=null, or train that one again with overwrite=true."
        )
    return folder


def _training(config: Config) -> Config:
    return {key: value for key, value in identity(config).items() if key not in AFTER_TRAINING}


def _beside(config: Config, other: str) -> Path:
    """Where the run called `other` lies, if `config`'s own lies where its name says; else below ``runs``."""
    tail = Path(str(config["name"])) / str(config["setting"]) / f"seed={config['seed']}"
    own, parts = Path(str(config["run_dir"])), len(tail.parts)
    root = Path(*own.parts[:-parts]) if own.parts[-parts:] == tail.parts else Path("runs")
    return root / other / str(config["setting"]) / f"seed={config['seed']}"
