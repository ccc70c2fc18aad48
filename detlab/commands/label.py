"""`detlab label`: the labels that a data set lacks, as a finished detector sees them, to be corrected by a person."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detlab.config.launch import launch

log = logging.getLogger(__name__)

MAX_IOU = 0.5  # with a known label of its class; what overlaps more shows the same object


def label(cfg: Any) -> Path:
    """Label a split as `cfg` (conf/label.yaml) says; returns the folder with the labels, in the format asked for, links
    to the pictures, and `labels.json`, which says how they were made."""
    from detlab.config.instantiate import pick_device
    from detlab.config.load_run import load_finished
    from detlab.config.schema import validate
    from detlab.data.formats.folder_writer import refuse_used
    from detlab.data.relabel import relabel
    from detlab.engine.logs import quiet

    validate(cfg, "label")
    device = pick_device(cfg.accelerator)
    quiet()
    chosen = {group: cfg.get(group) for group in ("data", "postprocess", "testing")}
    finished = load_finished(cfg.ckpt_path, device, chosen, cfg.batch_size)
    folder = Path(cfg.output or finished.home / "labels" / f"{finished.config.data.name}-{cfg.split}-{cfg.format}")
    refuse_used(folder, cfg.overwrite)
    wanted = _wanted(cfg.classes, finished)
    see = _proxy(finished, cfg.missing) if cfg.by == "proxy" else None
    known = finished.data.index(cfg.split)
    _refuse_data_folders(folder, known, finished.config.data)
    index = relabel(known, [*known.classes, *(name for name in finished.classes if name not in known.classes)])
    found = _look(finished, see, index, wanted, cfg)
    _write(cfg, folder, index, found)
    return folder


def _look(finished: Any, see: Any, index: Any, wanted: Sequence[str], cfg: Any) -> Any:
    """What may become labels of `index`, as `Found`; `image` is the row."""
    import numpy as np

    from detlab.data.relabel import relabel
    from detlab.errors import UserError
    from detlab.pseudo_labels.detected import unlabelled

    to = np.array([index.classes.index(name) if name in wanted else -1 for name in finished.classes], np.int64)
    rows = np.ones(len(index), np.bool_)
    if cfg.missing:
        rows = ~index.annotated[:, to[to >= 0]].all(1)[index.sources]
        if not rows.any():
            raise UserError(
                f"No label is missing in {cfg.split}: the annotators of its {len(index):,} images looked for "
                f"{', '.join(wanted)}; for labels of all classes take missing=false."
            )
    # The detector is shown the labels that there are in the order of its own classes.
    others = [name for name in index.classes if name not in finished.classes]
    detections = finished.look(relabel(index.select(rows), [*finished.classes, *others]), see)
    limits = {"max_iou": MAX_IOU if cfg.known else None, "missing": cfg.missing}
    found = unlabelled(index, detections, to, score=cfg.score, **limits)
    if not len(found.label):
        highest = unlabelled(index, detections, to, score=0.0, **limits).score
        if len(highest):
            log.info("Nothing has a score of %g; the highest is %.3f (score=).", cfg.score, highest.max())
        else:
            log.info("Nothing was found there, whatever its score.")
    return found


def _proxy(finished: Any, missing: bool) -> Callable[[Any], list[Any]]:
    """What the run's treatment of missing labels makes of a batch, in pixels of the files; without `missing` as if the
    annotators had looked for nothing."""
    from dataclasses import replace

    from torch import nn

    from detlab.config.instantiate import as_user_error
    from detlab.config.pseudo_labels import build_pseudo_labels
    from detlab.errors import UserError
    from detlab.structures import Detections

    config = finished.config.get("pseudo")
    try:
        treatment = build_pseudo_labels(config) if config else None
    except Exception as error:
        raise as_user_error(error, "pseudo") from error
    if treatment is None or not treatment.finds_labels:
        raise UserError(
            "by=proxy: this run was not trained with labels of its own (pseudo=proxy); take by=detector for what its "
            "detector finds."
        )
    treatment.bind(finished.classes)
    classifier = getattr(treatment, "classifier", None)
    if isinstance(classifier, nn.Module):
        classifier.to(finished.device)

    def see(batch: Any) -> list[Detections]:
        if not missing:
            targets = [replace(t, annotated=t.annotated & False) for t in batch.targets]
            batch = replace(batch, targets=targets)
        predictions, _ = finished.module.detector.predict_regions(batch.images, batch.sizes)
        labels = treatment.label_batch(batch, predictions)
        boxes = labels.boxes / batch.scales[labels.image].repeat(1, 2)
        at = [labels.image == image for image in range(len(batch))]
        return [Detections(boxes[mine], labels.objectness[mine], labels.labels[mine]) for mine in at]

    return see


def _wanted(names: Sequence[str] | None, finished: Any) -> list[str]:
    """The classes that are asked for: if none are named, those that the run had labels of."""
    from detlab.engine.run_folder import RunFolder
    from detlab.errors import UserError, nearest

    for name in names or ():
        if name not in finished.classes:
            raise UserError(f"classes: the detector does not know '{name}'{nearest(name, finished.classes)}.")
    learnt = RunFolder(finished.home).read_metrics().get("annotated", finished.classes) if names is None else names
    return [name for name in finished.classes if name in learnt]


def _refuse_data_folders(target: Path, index: Any, data: Any) -> None:
    """Raise UserError where `target` lies in a folder of the data set (its pictures', or one named as its `root`) that
    does not hold the working directory as well."""
    from omegaconf import OmegaConf

    from detlab.errors import UserError

    place = target.resolve()
    own = {Path(path).resolve().parent for path in map(str, index.paths)}
    roots = {Path(root).expanduser().resolve() for root in _roots(OmegaConf.to_container(data, resolve=True))}
    for folder in sorted(own | roots):
        if place.is_relative_to(folder) and not Path.cwd().is_relative_to(folder):
            raise UserError(f"output={target} lies in the data set's own folder {folder}; name one elsewhere.")


def _roots(node: Any) -> list[str]:
    """The values of all keys `root` and `cache_dir` below a config's node."""
    if isinstance(node, Mapping):
        here = [str(node[key]) for key in ("root", "cache_dir") if node.get(key)]
        return here + [root for value in node.values() for root in _roots(value)]
    return [root for value in node for root in _roots(value)] if isinstance(node, list) else []


def _write(cfg: Any, folder: Path, index: Any, found: Any) -> None:
    import numpy as np

    from detlab.config.instantiate import command_line
    from detlab.data.formats.coco_writer import write_coco
    from detlab.data.formats.folder_writer import RECORD, whole_folder
    from detlab.data.formats.voc_writer import write_voc
    from detlab.data.formats.yolo_writer import write_yolo
    from detlab.engine.run_folder import git_commit
    from detlab.pseudo_labels.detected import with_labels

    write = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}[cfg.format]
    scores = cfg.format != "yolo" if cfg.scores is None else cfg.scores
    shown = index if cfg.known else index.select_boxes(np.zeros(len(index.boxes), np.bool_))
    labelled = with_labels(shown, found)
    counts = {
        "known": np.bincount(shown.labels, minlength=len(index.classes)).tolist(),
        "found": np.bincount(found.label, minlength=len(index.classes)).tolist(),
    }
    record = {
        "checkpoint": str(cfg.ckpt_path), "by": cfg.by, "split": cfg.split, "format": cfg.format, "score": cfg.score,
        "missing": cfg.missing, "images": len(index),
        "labels": {name: dict(zip(counts, pair, strict=True)) for name, *pair in zip(index.classes, *counts.values())},
        "command": command_line(), "commit": git_commit(),
    }  # fmt: skip
    with whole_folder(folder, cfg.overwrite) as place:
        words = write(labelled.index, place, cfg.split, labelled.scores, scores=scores)
        (place / RECORD).write_text(json.dumps(record, indent=1))
    each = ", ".join(f"{name} {count:,}" for name, count in zip(index.classes, counts["found"]) if count)
    log.info(
        "%s labels found in %s of %s images%s, and %s of the annotators: %s",
        f"{len(found.label):,}", f"{len(np.unique(found.image)):,}", f"{len(index):,}", f" ({each})" if each else "",
        f"{len(shown.boxes):,}", folder,
    )  # fmt: skip
    if cfg.format == "yolo" and shown.ignore.any():
        log.info("Left out, since YOLO txt has no mark for them: %d ignored labels.", int(shown.ignore.sum()))
    if cfg.format == "yolo" and not scores:
        log.info("Without scores, since readers of YOLO txt refuse a sixth column; scores=true writes it all the same.")
    words = [word.replace(str(place), str(folder)) for word in words]
    log.info("To look at it: detlab check data=custom %s", shlex.join(words))


def main() -> None:
    launch("label", label)


if __name__ == "__main__":
    main()
