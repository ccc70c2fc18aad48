"""What a finished evaluation leaves on disk: metrics, predictions and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detlab.data.datamodule import DetectionDataModule
from detlab.data.files import write_atomic
from detlab.data.image import read_image
from detlab.data.index import AnnotationIndex
from detlab.data.relabel import fingerprint
from detlab.engine.loggers import Tracker
from detlab.engine.module import LitDetector
from detlab.engine.provenance import tested_with
from detlab.engine.run_folder import Config, Metrics, RunFolder, config_hash
from detlab.metrics.coco_json import predictions_to_coco
from detlab.structures import Detections
from detlab.visualization import draw_boxes, ground_truth_beside_predictions, png_bytes, with_legend

EXAMPLE_SCORE = 0.3


def save_results(
    folder: RunFolder,
    module: LitDetector,
    data: DetectionDataModule,
    result: Metrics,
    values: dict[str, float],
    *,
    pictures: int,
    tracker: Tracker | None = None,
) -> Metrics:
    """Write `predictions.json`, `figures/example_*.png` and, last (it marks the run as finished),
    `metrics.json`; returns its content. `values` are named ``val/AP``, ``test/AP``, …; to those of each stage comes
    ``AP_rare``, the mean AP over `rare_classes`."""
    index = data.test_index
    # In the order of the annotations, on however many processes they were found.
    found = {i: module.evaluation.detections[i] for i in index.ids.tolist() if i in module.evaluation.detections}
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


def save_evaluation(
    folder: RunFolder,
    module: LitDetector,
    index: AnnotationIndex,
    classes: list[str],
    metrics: dict[str, float],
    pictures: int,
    about: Metrics,
    after: Config,
) -> None:
    """Write `predictions.json`, `figures/example_*.png` and `metrics.json` of an evaluation.

    Args:
        folder: Where.
        module: After the evaluation, with its detections.
        index: The annotations that it was evaluated on.
        classes: Of the detector.
        metrics: By name.
        pictures: How many examples to draw.
        about: What was evaluated on what, first in `metrics.json`.
        after: The groups of the config that say what happens after training.
    """
    save_predictions(folder, module.evaluation.detections, index.class_ids)
    save_examples(folder, index, module.evaluation.detections, classes, pictures)
    content = {
        **about,
        "device": torch.cuda.get_device_name() if module.device.type == "cuda" else module.device.type,
        "test": {name: rounded(value) for name, value in metrics.items()},
        "pr_curves": pr_curves(module, "test"),
        **after,
        **({"tested_with": others} if (others := tested_with(after)) else {}),
    }
    write_atomic(folder.metrics, json.dumps(content, indent=1))


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


def save_predictions(folder: RunFolder, detections: dict[int, Detections], class_ids: NDArray[np.int64]) -> None:
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


def pr_curves(module: LitDetector, stage: str) -> dict[str, dict[str, list[float]]]:
    """Precision over recall at IoU 0.5 per class, from the last evaluation of `stage`."""
    curves = module.evaluation.pr_curves.get(stage, {})
    return {
        name: {"recall": np.round(recall, 4).tolist(), "precision": np.round(precision, 4).tolist()}
        for name, (recall, precision) in curves.items()
    }


def save_coco_detections(path: Path, index: AnnotationIndex, found: Mapping[int, Detections]) -> None:
    """A data set in COCO format whose annotations are the detections, with their scores.

    Args:
        path: The JSON file.
        index: The images; their ids and those of the categories count from 1.
        found: Detections by image id.
    """
    rows = predictions_to_coco(list(found.values()), list(found), index.class_ids.tolist())
    content = {
        "images": [
            {"id": int(i), "file_name": str(path), "width": int(w), "height": int(h)}
            for i, path, w, h in zip(index.ids, index.paths, index.widths, index.heights)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(index.classes, 1)],
        "annotations": [
            {"id": i, "iscrowd": 0, "area": round(row["bbox"][2] * row["bbox"][3], 2), **row}
            for i, row in enumerate(rows, 1)
        ],
    }
    write_atomic(path, json.dumps(content))


def draw_detections(path: Path, found: Detections, classes: list[str], score: float, target: Path) -> None:
    """Write the image at `path` with its detections of at least `score` as the PNG file `target`."""
    keep = found.scores >= score
    labels = found.labels[keep].numpy()
    image = draw_boxes(read_image(path), found.boxes[keep].numpy(), labels, found.scores[keep].numpy(), classes)
    write_atomic(target, png_bytes(with_legend(image, labels, classes)))
