"""A detector that `detlab train` has left, ready to look at pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from detlab.config.instantiate import build_datamodule, build_module, evaluation_loader, load_run, load_weights
from detlab.config.plain import resolved
from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex
from detlab.engine.inference import detect_all
from detlab.engine.module import LitDetector
from detlab.engine.provenance import refuse_unfinished
from detlab.engine.run_folder import Config
from detlab.postprocess.tta import Ensemble
from detlab.structures import Batch, Detections


@dataclass
class Finished:
    """config: the run's, with what was chosen in its place. classes: those of the detector. data: the source of
    `config` and the transforms for evaluation; nothing of it is read yet. home: the folder of the run."""

    config: DictConfig
    classes: list[str]
    module: LitDetector
    data: DetectionDataModule
    home: Path
    device: torch.device

    def look(
        self, index: AnnotationIndex, see: Callable[[Batch], list[Detections]] | None = None
    ) -> dict[int, Detections]:
        """What it finds in the pictures of `index`: image id → detections in pixels of the file, on the CPU.

        see: what is made of a batch in place of final boxes. A picture that cannot be read raises UserError, or is left
        out where ``data.source.on_error`` says so.
        """
        return detect_all(self.module, evaluation_loader(self.data, index), self.device, see)


def load_finished(
    ckpt_path: str,
    device: torch.device,
    chosen: Mapping[str, DictConfig | Config | None] | None = None,
    batch_size: int | None = None,
) -> Finished:
    """The detector of a run folder or checkpoint with its own evaluation transforms and post-processing.

    chosen: config groups (data, postprocess, testing) → what takes the place of the run's own; None: nothing does.
    Raises UserError for what is no checkpoint, or does not fit the code.
    """
    run, classes, state, home = load_run(ckpt_path)
    config = resolved(run)
    for group, value in (chosen or {}).items():
        if value is not None:
            config[group] = value
    if "weights" in config.backbone:
        config.backbone.weights = config.detector.backbone.weights = None
    config.loader.eval_batch_size = batch_size or config.loader.eval_batch_size
    module = build_module(config, classes, training=False)
    load_weights(module, state, ckpt_path)
    return Finished(config, classes, module, build_datamodule(config), home, device)


def ensemble(runs: list[str]) -> Ensemble:
    """How pictures are tested by a detector and those of finished `runs`, folders or checkpoints, together.

    Raises UserError for what is neither, ValueError for none.
    """
    for run in runs:
        if not Path(run).is_file():
            refuse_unfinished("testing.runs", run, before="it is asked together with others")
    return Ensemble([partial(_member, run) for run in runs])


def _member(run: str) -> LitDetector:
    alone = {"testing": {"_target_": "detlab.postprocess.tta.Single"}}  # an ensemble's run stands for its own detector
    return load_finished(run, torch.device("cpu"), alone).module.eval().requires_grad_(False)
