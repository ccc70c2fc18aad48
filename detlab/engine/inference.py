"""A detector in use: evaluated on images with labels, or asked what it sees in images without."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from detlab.engine.module import LitDetector
from detlab.structures import Batch, Detections


def evaluate_detector(module: LitDetector, loader: DataLoader[Batch], accelerator: str) -> dict[str, float]:
    """Metrics by name (AP, AP50, …) on the images of `loader`; `module.detections` holds what was found."""
    trainer = Trainer(
        accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False,
    )  # fmt: skip
    values = trainer.test(module, loader, verbose=False)[0]
    return {name.removeprefix("test/"): float(value) for name, value in values.items()}


def detect_all(
    module: LitDetector,
    batches: Iterable[Batch],
    device: torch.device,
    predict: Callable[[Batch], list[Detections]] | None = None,
) -> dict[int, Detections]:
    """Image id → detections in pixels of the file, on the CPU.

    Args:
        module: Is moved to `device`, in evaluation mode.
        batches: Images that cannot be read are missing in them, and in the result.
        device: Where to compute.
        predict: What is made of a batch; None: final boxes.
    """
    predict = module.detect if predict is None else predict
    module.to(device).eval()
    found: dict[int, Detections] = {}
    with torch.inference_mode():
        for batch in batches:
            if len(batch):
                detections = predict(batch.to(device))
                ids = batch.image_ids.tolist()
                found |= {i: Detections(*(t.cpu() for t in one)) for i, one in zip(ids, detections, strict=True)}
    return found
