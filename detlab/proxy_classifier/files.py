"""A proxy classifier as a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch.fx.experimental.optimization import fuse

from detlab.data.files import write_atomic
from detlab.errors import UserError
from detlab.proxy_classifier.classifier import ProxyClassifier

_KEY, _FORMAT = "proxy_classifier", 1
_MEND = "give the folder of a run of `detlab train task=proxy`, or its checkpoints/last.ckpt"


def save(classifier: ProxyClassifier, path: str | Path) -> None:
    """Write weights and everything needed to build the classifier again, as plain values and tensors."""
    content: dict[str, Any] = {
        _KEY: _FORMAT,
        "classes": classifier.classes,
        "centres": classifier.centres.tolist(),
        "largest": classifier.sizes.largest,
        "width": classifier.width,
        "levels": list(classifier.levels),
        "pooling": classifier.pooling,
        "mean": list(classifier.mean),
        "std": list(classifier.std),
        "state_dict": {name: value.cpu() for name, value in classifier.state_dict().items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(Path(path), buffer.getvalue())


def load_classifier(path: str | Path) -> ProxyClassifier:
    """The classifier of a run folder or of a file, on the CPU and for use alone: its batch norms have become part of
    the convolutions before them.

    Raises UserError where there is none, for a run that is not finished yet, and for any other kind of file.
    """
    path = Path(path)
    if path.is_dir():
        path = _of_run(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; {_MEND}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises a dozen kinds for a file that is not its own
        raise UserError(f"{path} is not a proxy classifier (no file that torch can read); {_MEND}.") from None
    if not isinstance(content, dict) or _KEY not in content:
        kind = " but a detector" if isinstance(content, dict) and "detlab" in content else ""
        raise UserError(f"{path} is not a proxy classifier{kind}; {_MEND}.")
    try:
        if content.pop(_KEY) != _FORMAT:
            raise KeyError(_KEY)
        weights = content.pop("state_dict")
        classifier = ProxyClassifier(centres=torch.tensor(content.pop("centres")), **content)
        classifier.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(f"{path} was made by another version of the code; train the classifier again.") from None
    net: Any = classifier.eval().net
    net.stem, net.blocks = fuse(net.stem), fuse(net.blocks)
    return classifier


def _of_run(path: Path) -> Path:
    """The checkpoint that `detlab train task=proxy` leaves in the run folder `path`."""
    checkpoint = path / "checkpoints" / "last.ckpt"
    if checkpoint.is_file():
        return checkpoint
    if (path / "config.yaml").is_file():
        raise UserError(f"{path}: this run has no classifier yet, it is unfinished; train it to its end.")
    raise UserError(f"{path}: this folder holds no run; {_MEND}.")
