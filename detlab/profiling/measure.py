"""One training step on synthetic pictures: is it sound, how long it takes, how much memory and how many FLOPs."""

from __future__ import annotations

import contextlib
import gc
import math
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from detlab.data.dataset import Sample, Transform
from detlab.engine.logs import quiet
from detlab.engine.module import LitDetector
from detlab.errors import UserError
from detlab.models.norms import FrozenNormConv2d
from detlab.profiling.flops import count_flops
from detlab.structures import Batch, Targets

BOXES = 7  # per picture, COCO's mean
_DRAWS = 16  # of the augmentation, to find the largest picture and the mean one
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Step:
    """What one training step of `images` pictures costs: seconds (the median of the timed steps), peak memory in
    GiB (of the process on a CPU, of the device on a GPU), FLOPs of forward and backward; and the loss terms.

    share: how much of its threads' time the process was given meanwhile (1: the processors were its own)."""

    images: int
    seconds: float
    memory_gib: float
    flops: int
    losses: dict[str, float]
    share: float


def synthetic_samples(
    transform: Transform, picture: tuple[int, int], classes: int, count: int, seed: int = 0
) -> tuple[list[Sample], float]:
    """`count` pictures of noise with boxes, of the largest size that `transform` makes of files of `picture` = (height,
    width), and the mean area of what it makes over that largest area (1 where it draws no sizes).

    The boxes' sides grow evenly in their logarithm from a 40th of the shorter side to most of it, so that every pyramid
    level has some.
    """
    height, width = picture
    rng = np.random.default_rng(seed)
    side = np.geomspace(min(picture) / 40, 0.8 * min(picture), BOXES)
    drawn = []
    for draw in range(_DRAWS):
        corner = rng.uniform(0, 1, (BOXES, 2)) * (np.array([[width, height]]) - side[:, None])
        boxes = np.concatenate([corner, corner + side[:, None]], 1).astype(np.float32)
        image, boxes, _ = transform(np.full((height, width, 3), 128, np.uint8), boxes, seed + draw)
        drawn.append((image.shape[:2], boxes))
    areas = [math.prod(size) for size, _ in drawn]
    largest, boxes = drawn[int(np.argmax(areas))]
    samples = []
    for position in range(count):
        labels = torch.from_numpy(rng.integers(0, classes, len(boxes)))
        noise = torch.from_numpy(rng.standard_normal((3, *largest), dtype=np.float32))
        targets = Targets.of(torch.from_numpy(boxes), labels, classes)
        scale = (largest[1] / width, largest[0] / height)
        samples.append(Sample(noise, targets, scale, (height, width), image_id=position))
    return samples, sum(areas) / len(areas) / max(areas)


_CPU_PIXELS = 2_000_000  # in one step: a few GiB for a ResNet-50


def images_that_fit(batch_size: int, pixels: int, cuda: bool) -> int:
    """Images of so many pixels in one step: the batch on a GPU, as many as a CPU's memory takes elsewhere."""
    return batch_size if cuda else min(batch_size, max(_CPU_PIXELS // pixels, 1))


def damp(backbone: torch.nn.Module) -> None:
    """Weaken the residual branches of a backbone whose frozen norms wait for pretrained weights, in place.

    With random weights nothing normalises its features: they grow from block to block, past fp16's range in a
    ResNet-101.
    """
    for block in backbone.modules():
        last = getattr(block, "conv3", getattr(block, "conv2", None))
        if hasattr(block, "downsample") and isinstance(last, FrozenNormConv2d):
            last.scale.mul_(0.2)


def measure(module: LitDetector, batch: Batch, trainer: Mapping[str, Any], seconds: float = 3.0) -> Step:
    """Train `module` on `batch` for one step under the FLOP counter and, where that takes less than `seconds`, go on
    for as long without it. `trainer`: arguments of a Lightning Trainer.

    Raises UserError for a loss that is not finite, a trainable parameter that no gradient reaches or one that is not
    finite (fp16 aside, whose scaler starts by overflowing), and where memory runs out on a GPU.
    """
    quiet()
    meter = _Meter(seconds)
    steps: DataLoader[Batch] = DataLoader(_Repeat(batch), batch_size=None)
    fixed: dict[str, Any] = {
        "devices": 1, "max_steps": _Repeat.TIMES, "max_epochs": -1, "limit_val_batches": 0, "logger": False,
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "num_sanity_val_steps": 0, "callbacks": [meter],
    }  # fmt: skip
    gc.collect()
    _reset_peak()
    try:
        Trainer(**trainer, **fixed).fit(module, steps)
    except torch.OutOfMemoryError:
        raise UserError(
            f"A step of {len(batch)} images does not fit the GPU's memory; take fewer (images={len(batch) // 2 or 1}; "
            "in training loader.batch_size with trainer.accumulate_grad_batches)."
        ) from None
    share = min(meter.processor / sum(meter.times) / torch.get_num_threads(), 1.0)
    return Step(len(batch), statistics.median(meter.times), _peak_gib(), meter.flops, meter.losses, share)


class _Repeat(Dataset[Batch]):
    """The same batch over and over."""

    TIMES = 100

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return self.TIMES

    def __getitem__(self, index: int) -> Batch:
        return self.batch


class _Meter(Callback):
    """Counts the first step's FLOPs and looks at its gradients; times the others, and stops after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.times: list[float] = []
        self.processor = 0.0  # seconds of it that the times took
        self.flops = 0
        self.losses: dict[str, float] = {}
        self._counter = count_flops()
        self._begun = self._processor_begun = 0.0

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        if batch_idx == 0:
            self._counter.__enter__()
        self._begun, self._processor_begun = _now(module.device), time.process_time()

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:  # noqa: ARG002
        if not self.losses:
            assert isinstance(module, LitDetector)
            check_gradients(module.detector, finite=trainer.precision != "16-mixed")
            self.losses = {
                name.removeprefix("train/loss_"): float(value)
                for name, value in trainer.callback_metrics.items()
                if name.startswith("train/loss_")
            }

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: object,  # noqa: ARG002
        batch: Batch,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        taken, processor = _now(module.device) - self._begun, time.process_time() - self._processor_begun
        if batch_idx == 0:
            self._counter.__exit__(None, None, None)
            self.flops = self._counter.get_total_flops()
            if taken < self.seconds:  # else what counting and a first step cost is nothing beside it
                return
        self.times.append(taken)
        self.processor += processor
        if sum(self.times) >= self.seconds:
            trainer.should_stop = True


def check_gradients(detector: torch.nn.Module, finite: bool = True) -> None:
    """Raise UserError for a trainable parameter without a gradient or (`finite`) with one that is not finite."""
    for name, parameter in detector.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            raise UserError(f"No gradient reaches detector.{name}: nothing in the loss depends on it.")
        if finite and not bool(torch.isfinite(parameter.grad).all()):
            raise UserError(f"The gradient of detector.{name} is not finite: lower schedule.lr or train in 32-bit.")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew


def _peak_gib() -> float:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    if _STATUS.is_file():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
