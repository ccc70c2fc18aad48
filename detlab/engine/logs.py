"""A quiet log: what detlab says, and warnings that a user can act on."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path


def quiet() -> None:
    """Silence the frameworks' chatter (device banners, tips, loader advice); their errors still come through."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # damaged pictures get a sentence of ours
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")


def log_to_file(path: Path) -> None:
    """Append the log to `path` as well; a handler of an earlier run in this process is closed."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and handler.get_name() == "detlab":
            root.removeHandler(handler)
            handler.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.set_name("detlab")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root.addHandler(handler)
