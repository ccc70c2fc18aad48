"""From the config of a strategy for missing labels to its callback, which is handed what lies in run folders."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex
from detlab.engine.distributed.place import find_place
from detlab.engine.module import LitDetector
from detlab.engine.provenance import refuse_unfinished
from detlab.engine.run_folder import RunFolder
from detlab.proxy_classifier import load_classifier
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.structures import Detections


@dataclass(frozen=True)
class FinishedRun:
    """A `detlab.pseudo_labels.base.DetectorRun` in a run folder."""

    name: str

    @property
    def labeled_classes(self) -> tuple[str, ...]:
        metrics = RunFolder(self.name).read_metrics()
        return tuple(map(str, metrics.get("annotated", metrics.get("classes", []))))

    def load(self) -> LitDetector:
        return self._load(torch.device("cpu")).module.eval().requires_grad_(False)

    def detect(
        self, index: AnnotationIndex, data: DetectionDataModule, accelerator: str
    ) -> tuple[list[str], dict[int, Detections]]:
        loaded = self._load(_local_device(accelerator))
        loaded.data.source = data.source  # which says what becomes of images that cannot be read
        return loaded.classes, loaded.look(index) if len(index) else {}

    def _load(self, device: torch.device) -> Any:
        from detlab.config.load_run import load_finished  # which builds modules, as what imports this file does

        return load_finished(self.name, device)


def open_run(key: str, name: str) -> FinishedRun:
    """Return the finished run that the config names under `key`. Raises UserError where there is none."""
    refuse_unfinished(key, name)
    return FinishedRun(name)


HANDED = {"open_run": open_run, "load_classifier": load_classifier}


def build_callback(node: DictConfig) -> PseudoLabelCallback:
    """Build the callback that a config node names, with those of `HANDED` that it takes as arguments."""
    taken = inspect.signature(get_object(node["_target_"])).parameters
    return instantiate(node, **{name: value for name, value in HANDED.items() if name in taken}, _convert_="all")


def _local_device(accelerator: str) -> torch.device:
    """The device that `accelerator` names; of several processes on a node, each has a GPU of its own."""
    from detlab.config.instantiate import pick_device

    device = pick_device(accelerator)
    return torch.device("cuda", find_place().local_rank) if device.type == "cuda" else device
