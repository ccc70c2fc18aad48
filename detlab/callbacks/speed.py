"""Images per second of training, evaluation left out."""

from __future__ import annotations

import time
from typing import Any

from lightning import Callback


class Speed(Callback):
    """Counts images and seconds of training steps; the wall-clock of earlier parts of a resumed run is kept
    in the checkpoint (`seconds_before`)."""

    def __init__(self) -> None:
        self.images, self.seconds = 0, 0.0
        self.seconds_before = 0.0
        self._begun = self._since = time.monotonic()

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_start(self, *args: Any) -> None:  # noqa: ARG002
        self._begun = self._since = time.monotonic()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        now = time.monotonic()
        self.images += len(batch) * trainer.world_size
        self.seconds += now - self._since
        self._since = now

    def on_validation_end(self, *args: Any) -> None:  # noqa: ARG002
        self._since = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "seconds": self.seconds,
                "seconds_before": self.seconds_before + time.monotonic() - self._begun}  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]
        self.seconds_before = state_dict["seconds_before"]
