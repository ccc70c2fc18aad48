"""Labels of finished detectors before training begins: one detector per source labels what the others left out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from detlab.data.index import AnnotationIndex
from detlab.engine.provenance import refuse_unfinished
from detlab.errors import UserError, nearest
from detlab.metrics.columns import Found
from detlab.metrics.pseudo_quality import pseudo_quality
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.detected import unlabelled, with_labels, withheld
from detlab.pseudo_labels.none import AllBackground
from detlab.structures import Targets

if TYPE_CHECKING:
    from detlab.data.datamodule import DetectionDataModule

_EXAMPLE = "[{run: 'runs/a/mini/seed=0', classes: [car, van]}, ...]"


@dataclass(frozen=True)
class _Detector:
    """A run folder, the classes that it had labels of and those that it is to be asked for (None: all that the
    training data has, too); key: where it stands in the config."""

    key: str
    run: str
    known: tuple[str, ...]
    wanted: tuple[str, ...] | None

    def asked_for(self, classes: Sequence[str]) -> list[str]:
        """Of `classes`, those of the training data. Raises UserError for a wanted class that is not among them."""
        for name in self.wanted or ():
            if name not in classes:
                raise UserError(f"{self.key}.classes: the training data has no class '{name}'{nearest(name, classes)}.")
        found = [name for name in classes if name in (self.known if self.wanted is None else self.wanted)]
        if not found:
            raise UserError(
                f"{self.key}.run={self.run}: the training data has none of the classes that its detector knows "
                f"({', '.join(self.known)}); leave it out."
            )
        return found


class OfflineLabels(PseudoLabelCallback):
    """What finished detectors find in the training images becomes labels like any other (ref. [5] of the proxy paper,
    the expensive rival).

    detectors: ``{run: <folder of a finished run>, classes: [...]}`` each, asked for these classes (left out: all that
    its run had labels of and that the training data has) in the images whose annotators did not look for them. A
    detection of at least `score` becomes a label, unless it overlaps a label of its class, be it an annotator's or of
    an earlier detector of the list, by an IoU of more than `max_iou`. Each looks through the evaluation transform and
    post-processing of its own run. From then on every image counts as annotated for every class: what is still
    unlabelled is background.

    accelerator: where the detectors run (auto, cpu, gpu, cuda, mps).

    Raises ValueError for values out of range; UserError for runs that are missing or unfinished and classes that they,
    or the training data, do not have.
    """

    def __init__(
        self,
        detectors: Sequence[Mapping[str, Any]] | str,
        score: float = 0.5,
        max_iou: float = 0.5,
        accelerator: str = "auto",
    ) -> None:
        super().__init__()
        for name, share in {"score": score, "max_iou": max_iou}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"Expected {name} in [0, 1], got {share}.")
        if isinstance(detectors, str):  # what a command line cannot take apart
            raise UserError(
                f"pseudo.detectors: expected a list, got {detectors!r}; put quotes around what holds a = or a comma, "
                f"as in {_EXAMPLE}."
            )
        if not detectors:
            raise UserError(f"pseudo.detectors: there is none to label with; give them as {_EXAMPLE}.")
        self.detectors = [_read(f"pseudo.detectors[{at}]", entry) for at, entry in enumerate(detectors)]
        self.score, self.max_iou, self.accelerator = score, max_iou, accelerator

    def bind(self, classes: Sequence[str], iterations: int | None = None) -> None:  # noqa: ARG002
        for detector in self.detectors:
            detector.asked_for(classes)

    def prepare(self, data: DetectionDataModule) -> None:
        begun = time.monotonic()
        index = data.train_index
        complete = data.complete("train")
        added: list[Found] = []
        with torch.random.fork_rng(devices=[]):  # what is trained next must not depend on how many were built here
            labelled = index
            for detector in self.detectors:
                labelled, found = self._label(labelled, detector, data)
                added.append(found)
        data.indexes["train"] = labelled
        found = Found(*(np.concatenate(column) for column in zip(*added, strict=True)))
        self.summary = summarise(index, found, complete, time.monotonic() - begun)
        asked = {name for detector in self.detectors for name in detector.asked_for(index.classes)}
        forgotten = [name for n, name in enumerate(index.classes) if name not in asked and _lacking(index, [n]).any()]
        if forgotten:
            self.summary.append(
                f"No detector was asked for {', '.join(forgotten)}: where nobody labelled them, they are background."
            )

    def transform_targets(self, targets: list[Targets]) -> list[Targets]:
        return AllBackground().transform_targets(targets)

    def _label(
        self, index: AnnotationIndex, detector: _Detector, data: DetectionDataModule
    ) -> tuple[AnnotationIndex, Found]:
        """`index` with the labels of one detector, and these."""
        from detlab.config.load_run import load_finished

        names = detector.asked_for(index.classes)
        labels = [index.classes.index(name) for name in names]
        wanting = _lacking(index, labels)
        finished = load_finished(detector.run, _device(self.accelerator))
        finished.data.source = data.source  # which says what becomes of pictures that cannot be read
        detections = finished.look(index.select(wanting)) if wanting.any() else {}
        to = np.array([index.classes.index(name) if name in names else -1 for name in finished.classes], np.int64)
        found = unlabelled(index, detections, to, score=self.score, max_iou=self.max_iou)
        return with_labels(index, found).index, found


def _device(accelerator: str) -> torch.device:
    """Of several processes on a node, each has a GPU of its own."""
    from detlab.config.instantiate import pick_device
    from detlab.engine.distributed.place import find_place

    device = pick_device(accelerator)
    return torch.device("cuda", find_place().local_rank) if device.type == "cuda" else device


def summarise(index: AnnotationIndex, found: Found, complete: AnnotationIndex | None, seconds: float) -> list[str]:
    """What was added to `index`, in a sentence, and how right it is where all labels are known, in another."""
    images = int(_lacking(index, range(len(index.classes))).sum())
    if not images:
        return ["No label is missing in the training images: finished detectors had nothing to add."]
    counts = np.bincount(found.label, minlength=len(index.classes)).tolist()
    each = ", ".join(f"{name} {count:,}" for name, count in zip(index.classes, counts, strict=True) if count)
    lines = [
        f"Finished detectors added {sum(counts):,} labels to the {images:,} training images that lack some, in "
        f"{seconds:.0f} s{f' ({each})' if each else ''}."
    ]
    if complete is not None and each:
        quality = pseudo_quality(found, withheld(index, complete), index.classes)
        lines.append(
            f"Of these labels {100 * quality['precision']:.1f} % are right, and they are {100 * quality['recall']:.1f} "
            "% of those that were missing (IoU >= 0.5)."
        )
    return lines


def _lacking(index: AnnotationIndex, labels: Sequence[int]) -> NDArray[np.bool_]:
    """The images ``[N]`` whose annotators did not look for each of these classes."""
    return np.asarray(~index.annotated[:, list(labels)].all(1))[index.sources]


def _read(key: str, entry: Any) -> _Detector:
    """One entry of `detectors`, whose run must be finished and know the classes."""
    if not isinstance(entry, Mapping) or not entry.get("run"):
        raise UserError(f"{key}: expected a run and its classes, got {entry!r}; write {_EXAMPLE}.")
    for word in entry:
        if word not in ("run", "classes"):
            raise UserError(f"There is no key '{key}.{word}' in the config{nearest(str(word), ('run', 'classes'))}.")
    run, wanted = str(entry["run"]), entry.get("classes")
    metrics = refuse_unfinished(f"{key}.run", run).read_metrics()
    known = tuple(map(str, metrics.get("annotated", metrics.get("classes", []))))  # not those that it had no labels of
    if wanted is None:
        return _Detector(key, run, known, None)
    if isinstance(wanted, str) or not isinstance(wanted, Sequence) or not wanted:
        raise UserError(f"{key}.classes: expected a list of class names, as [car, van], got {wanted!r}.")
    for name in map(str, wanted):
        if name not in known:
            raise UserError(f"{key}.classes: the detector of {run} does not know '{name}'{nearest(name, known)}.")
    return _Detector(key, run, known, tuple(map(str, wanted)))
