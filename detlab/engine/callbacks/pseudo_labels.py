"""What pseudo-labels look like during training, and how good they are where the truth is known."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback
from lightning.pytorch.utilities.seed import isolate_rng

from detlab.data.dataset import DetectionDataset, collate
from detlab.data.files import write_atomic
from detlab.data.image import read_image
from detlab.data.index import AnnotationIndex
from detlab.metrics.columns import Found, Truth
from detlab.metrics.pseudo_quality import pseudo_quality
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.detected import withheld
from detlab.pseudo_labels.expected import expected_missing
from detlab.structures import PseudoLabels
from detlab.visualization import png_bytes
from detlab.visualization.pseudo import pseudo_beside_labels

log = logging.getLogger(__name__)

MANY = 3.0  # times as many pseudo-labels as objects without a label are far too many


class _Watched(NamedTuple):
    """Some training pictures, read anew whenever they are looked at (they may be large), their labels, what was
    withheld (None: nobody knows), and how many objects of a picture are expected to have no label."""

    pictures: DetectionDataset
    labelled: AnnotationIndex
    withheld: Truth | None
    expected: float


class WatchPseudoLabels(Callback):
    """At every validation, asks the run's treatment for its labels on some training pictures, not augmented.

    Logs ``pseudo/labels_per_image`` and, where the data's source knows all labels (its `complete`),
    ``pseudo/precision``, ``pseudo/recall`` and ``pseudo/iou`` against those that were withheld, over all and per class
    (``pseudo/precision/<class>``); besides, what the treatment goes by for each class (``pseudo/threshold/<class>``).
    `figures/pseudo_*.png` show `shown` of these pictures, from all sources: labels green, pseudo-labels violet, as in
    Fig. 3 of the proxy paper. Warns, in words, when there are none or far more than objects are expected to have no
    label.

    pictures: how many, spread over those in which labels may be missing. iou: from which a pseudo-label hits. Does
    nothing where the treatment makes no labels. Raises ValueError for fewer than one picture or a bad iou.
    """

    def __init__(self, pictures: int = 200, shown: int = 6, iou: float = 0.5) -> None:
        if pictures < 1 or shown < 0 or not 0 < iou <= 1:
            raise ValueError(
                f"Expected pictures >= 1, shown >= 0 and iou in (0, 1], got {pictures}, {shown} and {iou}."
            )
        self.pictures, self.shown, self.iou = pictures, shown, iou
        self._watched: _Watched | None = None
        self._said: set[str] = set()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if pl_module.pseudo_labels.finds_labels:
            with isolate_rng():
                self._watched = self._read(trainer.datamodule)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        watched = self._watched
        if watched is None or not len(watched.pictures):
            return
        with isolate_rng(), torch.no_grad(), trainer.precision_plugin.forward_context():
            found = self._find(pl_module, watched.pictures, trainer.datamodule.eval_batch_size)
        values = {"labels_per_image": len(found.label) / len(watched.pictures)}
        if watched.withheld is not None:
            values |= pseudo_quality(found, watched.withheld, pl_module.classes, self.iou)
        for name, of_class in pl_module.pseudo_labels.by_class().items():
            values |= {f"{name}/{label}": float(v) for label, v in zip(pl_module.classes, of_class, strict=True)}
        pl_module.log_dict({f"pseudo/{name}": value for name, value in values.items()})
        if trainer.is_global_zero and trainer.global_step > pl_module.pseudo_labels.start:
            self._warn(values["labels_per_image"], trainer.global_step, pl_module.pseudo_labels)
            self._show(found, Path(trainer.default_root_dir) / "figures", pl_module.classes)

    def _read(self, data: Any) -> _Watched:
        whole = data.train_index
        missing = np.flatnonzero(~whole.annotated.all(1)[whole.sources])
        rows = missing[np.unique(np.linspace(0, len(missing) - 1, min(self.pictures, len(missing))).astype(int))]

        def pictures(index: AnnotationIndex) -> DetectionDataset:
            return DetectionDataset(
                index, data.eval_transform, data.mean, data.std, on_error=data.source.on_error, evaluation=True
            )

        every = pictures(whole.select(rows))
        rows = rows[[every[row] is not None for row in range(len(every))]]  # those that can be read
        index = whole.select(rows)
        complete = data.complete("train")
        truth = None if complete is None else withheld(index, complete.select(rows))
        if truth is not None:
            truth = truth._replace(image=index.ids[truth.image])
        return _Watched(pictures(index), index, truth, expected_missing(whole))

    def _find(self, module: Any, pictures: DetectionDataset, batch_size: int) -> Found:
        """The treatment's labels in pixels of the files, by image id."""
        parts = []
        for start in range(0, len(pictures), batch_size):
            rows = range(start, min(start + batch_size, len(pictures)))
            batch = collate([pictures[row] for row in rows]).to(module.device)
            predictions, _ = module.detector.predict_regions(batch.images, batch.sizes)
            labels: PseudoLabels = module.pseudo_labels.label_batch(batch, predictions.detach())
            boxes = labels.boxes / batch.scales[labels.image].repeat(1, 2)
            columns = (batch.image_ids[labels.image], labels.labels, boxes, labels.objectness)
            parts.append([column.cpu().double().numpy() for column in columns])
        image, label, box, score = (np.concatenate(columns) for columns in zip(*parts))
        return Found(image.astype(np.int64), label.astype(np.int64), box, score)

    def _warn(self, count: float, iteration: int, treatment: PseudoLabelCallback) -> None:
        assert self._watched is not None
        index = self._watched.labelled
        if count == 0:
            self._say(
                f"There are no pseudo-labels in {len(index)} training pictures at iteration {iteration}: "
                f"{treatment.when_none}.",
                "none",
            )
        elif count > MANY * max(self._watched.expected, 1.0):
            self._say(
                f"{count:.1f} pseudo-labels per picture at iteration {iteration}, but as far as labels "
                f"tell only {self._watched.expected:.1f} objects have none: most must be wrong; {treatment.when_many}.",
                "many",
            )

    def _say(self, words: str, kind: str) -> None:
        """Once of each kind."""
        if kind not in self._said:
            log.warning("%s", words)
            self._said.add(kind)

    def _show(self, found: Found, folder: Path, classes: list[str]) -> None:
        assert self._watched is not None
        index = self._watched.labelled
        spread = np.unique(np.linspace(0, len(index) - 1, min(self.shown, len(index))).astype(int))
        for number, row in enumerate(spread.tolist()):
            here = found.rows(found.image == index.ids[row])
            at = index.boxes_of(row)
            picture = pseudo_beside_labels(
                read_image(str(index.paths[row])), index.boxes[at], index.labels[at], here.box, here.label, classes
            )
            write_atomic(folder / f"pseudo_{number:02d}.png", png_bytes(picture))
