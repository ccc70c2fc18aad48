"""The labels that a data set lacks, as a finished detector sees them, written to be corrected by a person."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detlab.data.formats.coco_writer import write_coco
from detlab.data.formats.folder_writer import RECORD, whole_folder
from detlab.data.formats.voc_writer import write_voc
from detlab.data.formats.yolo_writer import write_yolo
from detlab.data.index import AnnotationIndex
from detlab.data.relabel import relabel
from detlab.engine.module import LitDetector
from detlab.engine.run_folder import Config, git_commit
from detlab.errors import UserError, nearest
from detlab.metrics.columns import Found
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.detected import unlabelled, with_labels
from detlab.structures import Batch, Detections

log = logging.getLogger(__name__)

MAX_IOU = 0.5  # with a known label of its class; what overlaps more shows the same object

Format = Literal["coco", "voc", "yolo"]
WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


@dataclass(frozen=True)
class Options:
    """Which labels are written, and how.

    Attributes:
        split: Of the data set.
        score: The lowest that a label has.
        missing: Label only classes that the annotators of an image did not look for.
        known: Keep the annotators' labels.
        format: Of the files.
        scores: Write scores, too; None: where the format has a place for them.
        overwrite: Replace labels written before.
    """

    split: str
    score: float
    missing: bool
    known: bool
    format: Format
    scores: bool | None
    overwrite: bool

    @property
    def with_scores(self) -> bool:
        return self.format != "yolo" if self.scores is None else self.scores


def autolabel(
    index: AnnotationIndex,
    detect: Callable[[AnnotationIndex], dict[int, Detections]],
    classes: Sequence[str],
    wanted: Sequence[str],
    options: Options,
) -> Found:
    """What may become labels of `index`; `image` is the row.

    Args:
        index: The data set, with all `classes` among its own.
        detect: The detector: annotations in the order of its classes → image id → detections.
        classes: Of the detector.
        wanted: Those to label.
        options: Which labels count.
    """
    to = np.array([index.classes.index(name) if name in wanted else -1 for name in classes], np.int64)
    rows: NDArray[np.bool_] = np.ones(len(index), np.bool_)
    if options.missing:
        rows = ~np.all(index.annotated[index.sources][:, to[to >= 0]], axis=1)
        if not rows.any():
            raise UserError(
                f"No label is missing in {options.split}: the annotators of its {len(index):,} images looked for "
                f"{', '.join(wanted)}; for labels of all classes take missing=false."
            )
    # The detector is shown the labels that there are in the order of its own classes.
    others = [name for name in index.classes if name not in classes]
    detections = detect(relabel(index.select(rows), [*classes, *others]))
    max_iou = MAX_IOU if options.known else None
    found = unlabelled(index, detections, to, score=options.score, max_iou=max_iou, missing=options.missing)
    if not len(found.label):
        highest = unlabelled(index, detections, to, score=0.0, max_iou=max_iou, missing=options.missing).score
        if len(highest):
            log.info("Nothing has a score of %g; the highest is %.3f (score=).", options.score, highest.max())
        else:
            log.info("Nothing was found there, whatever its score.")
    return found


def pseudo_label_predictor(
    module: LitDetector, callback: PseudoLabelCallback, device: torch.device, missing: bool
) -> Callable[[Batch], list[Detections]]:
    """What the strategy for missing labels makes of a batch, in pixels of the files.

    Args:
        module: The detector that is asked first.
        callback: Of the detector's run, with labels of its own.
        device: Where to compute.
        missing: False: as if the annotators had looked for nothing.
    """
    callback.bind(module.classes)
    if isinstance(classifier := getattr(callback, "classifier", None), nn.Module):
        classifier.to(device)

    def predict(batch: Batch) -> list[Detections]:
        if not missing:
            targets = [replace(t, annotated=t.annotated & False) for t in batch.targets]
            batch = replace(batch, targets=targets)
        predictions, _ = module.detector.predict_regions(batch.images, batch.sizes)
        labels = callback.label_batch(batch, predictions)
        boxes = labels.boxes / batch.scales[labels.image].repeat(1, 2)
        at = [labels.image == image for image in range(len(batch))]
        return [Detections(boxes[mine], labels.objectness[mine], labels.labels[mine]) for mine in at]

    return predict


def wanted_classes(names: Sequence[str] | None, classes: Sequence[str], labeled: Sequence[str]) -> list[str]:
    """The classes that are asked for: if none are named, those that the run had labels of. Raises UserError for a name
    that the detector does not know."""
    for name in names or ():
        if name not in classes:
            raise UserError(f"classes: the detector does not know '{name}'{nearest(name, classes)}.")
    learned = labeled if names is None else names
    return [name for name in classes if name in learned]


def refuse_data_folders(target: Path, index: AnnotationIndex, data: Config) -> None:
    """Raise UserError where `target` lies in a folder of the data set (its pictures', or one named as its `root`) that
    does not hold the working directory as well."""
    place = target.resolve()
    own = {Path(path).resolve().parent for path in map(str, index.paths)}
    roots = {Path(root).expanduser().resolve() for root in _roots(data)}
    for folder in sorted(own | roots):
        if place.is_relative_to(folder) and not Path.cwd().is_relative_to(folder):
            raise UserError(f"output={target} lies in the data set's own folder {folder}; name one elsewhere.")


def _roots(node: object) -> list[str]:
    """The values of all keys `root` and `cache_dir` below a config's node."""
    if isinstance(node, Mapping):
        here = [str(node[key]) for key in ("root", "cache_dir") if node.get(key)]
        return here + [root for value in node.values() for root in _roots(value)]
    return [root for value in node for root in _roots(value)] if isinstance(node, list) else []


def write_labels(
    folder: Path, index: AnnotationIndex, found: Found, options: Options, record: Mapping[str, object]
) -> None:
    """Write the labels, links to the images, and `labels.json`, which says how they were made.

    Args:
        folder: Appears whole or not at all.
        index: The data set.
        found: Its new labels.
        options: What is written, and how.
        record: What `labels.json` says besides the counts.
    """
    shown = index if options.known else index.select_boxes(np.zeros(len(index.boxes), np.bool_))
    labelled = with_labels(shown, found)
    counts = {
        "known": np.bincount(shown.labels, minlength=len(index.classes)).tolist(),
        "found": np.bincount(found.label, minlength=len(index.classes)).tolist(),
    }
    names = zip(index.classes, *counts.values())
    content = {
        **record,
        "split": options.split, "format": options.format, "score": options.score, "missing": options.missing,
        "images": len(index), "labels": {name: dict(zip(counts, pair, strict=True)) for name, *pair in names},
        "commit": git_commit(),
    }  # fmt: skip
    with whole_folder(folder, options.overwrite) as place:
        words = WRITERS[options.format](
            labelled.index, place, options.split, labelled.scores, scores=options.with_scores
        )
        (place / RECORD).write_text(json.dumps(content, indent=1))
    _log_written(folder, index, shown, found, options)
    words = [word.replace(str(place), str(folder)) for word in words]
    log.info("To look at it: detlab check data=custom %s", shlex.join(words))


def _log_written(folder: Path, index: AnnotationIndex, shown: AnnotationIndex, found: Found, options: Options) -> None:
    counts = np.bincount(found.label, minlength=len(index.classes)).tolist()
    each = ", ".join(f"{name} {count:,}" for name, count in zip(index.classes, counts) if count)
    log.info(
        "%s labels found in %s of %s images%s, and %s of the annotators: %s",
        f"{len(found.label):,}", f"{len(np.unique(found.image)):,}", f"{len(index):,}", f" ({each})" if each else "",
        f"{len(shown.boxes):,}", folder,
    )  # fmt: skip
    if options.format == "yolo" and shown.ignore.any():
        log.info("Left out, since YOLO txt has no mark for them: %d ignored labels.", int(shown.ignore.sum()))
    if options.format == "yolo" and not options.with_scores:
        log.info("Without scores, since readers of YOLO txt refuse a sixth column; scores=true writes it all the same.")
