"""What a finished evaluation leaves on disk: metrics, predictions and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from detlab.data.files import write_atomic
from detlab.data.image import read_image
from detlab.data.index import AnnotationIndex
from detlab.data.relabel import fingerprint
from detlab.engine.run_folder import RunFolder, config_hash
from detlab.metrics.coco_json import predictions_to_coco
from detlab.structures import Detections
from detlab.visualization import ground_truth_beside_predictions, png_bytes

EXAMPLE_SCORE = 0.3


def save_results(
    folder: RunFolder,
    module: Any,
    data: Any,
    result: dict[str, Any],
    values: dict[str, float],
    *,
    pictures: int,
    tracker: Any = None,
) -> dict[str, Any]:
    """Write `predictions.json`, `figures/example_*.png` and, last (it marks the run as finished),
    `metrics.json`; returns its content. `values` are named ``val/AP``, ``test/AP``, …; to those of each stage comes
    ``AP_rare``, the mean AP over `rare_classes`."""
    index = data.test_index
    # In the order of the annotations, on however many processes they were found.
    found = {i: module.detections[i] for i in index.ids.tolist() if i in module.detections}
    save_predictions(folder, found, index.class_ids)
    images = save_examples(folder, index, found, data.classes, pictures)
    stages: dict[str, dict[str, float | None]] = {"val": {}, "test": {}}
    for name, value in values.items():
        stage, _, metric = name.partition("/")
        stages[stage][metric] = rounded(value)
    rare = rare_classes(data.train_index, data.known_labels())
    for measured in stages.values():
        known = [ap for name in rare if (ap := measured.get(f"AP/{name}")) is not None]
        if known:
            measured["AP_rare"] = rounded(float(np.mean(known)))
    saved = {
        **result,
        **stages,
        "status": "finished",
        "config_hash": config_hash(folder.read_config()),
        "dataset": {"train": fingerprint(data.train_index), "test": fingerprint(index)},
        "classes": list(data.classes),
        "annotated": annotated_classes(data.train_index),
        "pr_curves": pr_curves(module, "test"),
    }
    if tracker:
        tracker.summarise(saved, [*images, *sorted(folder.figures.glob("pseudo_*.png"))])
    write_atomic(folder.metrics, json.dumps(saved, indent=1))
    return saved


def annotated_classes(index: AnnotationIndex) -> list[str]:
    """The classes that the annotators of some image looked for."""
    known = index.annotated[np.unique(index.sources)].any(0)
    return [index.classes[label] for label in np.flatnonzero(known)]


def rare_classes(index: AnnotationIndex, known: AnnotationIndex | None = None) -> list[str]:
    """The rarest third of the classes that some image was searched for, ten at most; of equals the later ones.

    Args:
        index: the training images as their annotators left them.
        known: whose labels are counted: those of `index`, or more complete ones of the same classes, since with few
            labels of many images it is chance which class has the fewest.
    """
    known = index if known is None else known
    names = annotated_classes(index)
    counts = np.bincount(known.labels[~known.ignore], minlength=len(index.classes))
    rising = sorted(names, key=lambda name: (counts[index.classes.index(name)], -index.classes.index(name)))
    return rising[: min(10, len(names) // 3)]


def rounded(value: float) -> float | None:
    """A metric as it is written: six decimals, null where there is nothing to measure."""
    return None if np.isnan(value) else round(value, 6)


def save_predictions(folder: RunFolder, detections: dict[int, Detections], class_ids: Any) -> None:
    """`predictions.json` in COCO's results format, with the category ids of the annotation file."""
    rows = predictions_to_coco(list(detections.values()), list(detections), class_ids)
    write_atomic(folder.predictions, json.dumps(rows))


def save_examples(
    folder: RunFolder, index: AnnotationIndex, detections: dict[int, Detections], classes: list[str], count: int
) -> list[Path]:
    """Ground truth beside predictions for `count` pictures spread over the split, as `figures/example_*.png`."""
    paths: list[Path] = []
    for old in folder.figures.glob("example_*.png"):
        old.unlink()
    for row in np.unique(np.linspace(0, len(index) - 1, min(count, len(index))).astype(int)).tolist():
        found = detections.get(int(index.ids[row]))
        if found is None:
            continue
        file = str(index.paths[row])
        picture = ground_truth_beside_predictions(
            read_image(file), index.targets(row), found, classes, score_threshold=EXAMPLE_SCORE, title=Path(file).name
        )
        paths.append(folder.figures / f"example_{len(paths):02d}.png")
        write_atomic(paths[-1], png_bytes(picture))
    return paths


def pr_curves(module: Any, stage: str) -> dict[str, dict[str, list[float]]]:
    """Precision over recall at IoU 0.5 per class, from the last evaluation of `stage`."""
    curves = module.pr_curves.get(stage, {})
    return {
        name: {"recall": np.round(recall, 4).tolist(), "precision": np.round(precision, 4).tolist()}
        for name, (recall, precision) in curves.items()
    }
