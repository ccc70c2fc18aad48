"""What training costs: images per second (evaluation left out) and memory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback

SAMPLE_EVERY = 10  # iterations between looks at the memory


class Speed(Callback):
    """Counts images and seconds of training steps; the wall-clock of earlier parts of a resumed run is kept
    in the checkpoint (`seconds_before`).

    `memory_gib`: the most memory seen at the end of an iteration; on a GPU the peak that torch allocated there, else
    what the process holds (its loader's workers not counted).
    """

    def __init__(self) -> None:
        self.images, self.seconds = 0, 0.0
        self.seconds_before = 0.0
        self.memory_gib = 0.0
        self._begun = self._since = time.monotonic()

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: Any, *args: Any) -> None:  # noqa: ARG002
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)
        self._begun = self._since = time.monotonic()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        now = time.monotonic()
        self.images += len(batch) * trainer.world_size
        self.seconds += now - self._since
        self._since = now
        if trainer.global_step % SAMPLE_EVERY == 1:
            self.memory_gib = max(self.memory_gib, memory_in_use(trainer.strategy.root_device) / 2**30)

    def on_validation_end(self, *args: Any) -> None:  # noqa: ARG002
        self._since = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "seconds": self.seconds, "memory_gib": self.memory_gib,
                "seconds_before": self.seconds_before + time.monotonic() - self._begun}  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images, self.seconds = state_dict["images"], state_dict["seconds"]
        self.seconds_before = state_dict["seconds_before"]
        self.memory_gib = state_dict.get("memory_gib", 0.0)


def memory_in_use(device: torch.device) -> int:
    """Bytes: the peak allocated on a CUDA device, else the resident memory of this process (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
