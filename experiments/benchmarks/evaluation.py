"""Seconds for COCO average precision: `DetectionMetrics` beside pycocotools, alternating, on the same boxes.

    python experiments/benchmarks/evaluation.py [--images 5000] [--rounds 3]

Ours counts `update` and `compute` (which also gives VOC's mAP and every value per class); pycocotools' counts
`loadRes`, `evaluate`, `accumulate` and `summarize`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from typing import Any

import numpy as np
import torch

from detlab.metrics.mean_ap import DetectionMetrics
from detlab.structures import Detections, Targets


def random_scene(rng: np.random.Generator, num_found: int = 100, num_classes: int = 80) -> tuple[Detections, Targets]:
    """One picture of 640 pixels: about seven objects, half of the detections near one of them."""

    def boxes(count: int) -> np.ndarray:
        corner = rng.uniform(0, 500, (count, 2))
        return np.concatenate([corner, corner + rng.lognormal(4, 0.8, (count, 2))], 1)

    num_truth = int(rng.poisson(7))
    truth, labels = boxes(num_truth), rng.integers(0, num_classes, num_truth)
    found, found_labels = boxes(num_found), rng.integers(0, num_classes, num_found)
    if num_truth:
        near = np.flatnonzero(rng.random(num_found) < 0.5)
        source = rng.integers(0, num_truth, len(near))
        found[near] = truth[source] + rng.normal(0, 8, (len(near), 4))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found_labels[near] = labels[source]
    scores = torch.from_numpy(rng.random(num_found)).float().sort(descending=True).values
    targets = Targets.of(torch.from_numpy(truth).float(), torch.from_numpy(labels), num_classes)
    return Detections(torch.from_numpy(found).float(), scores, torch.from_numpy(found_labels)), targets


def coco_dataset(targets: list[Targets], num_classes: int) -> dict[str, Any]:
    """The targets as the contents of a COCO annotation file; image ids count from 0."""
    annotations: list[dict[str, Any]] = []
    for image_id, target in enumerate(targets):
        for (x1, y1, x2, y2), label, ignore in zip(
            target.boxes.double().tolist(), target.labels.tolist(), target.ignore.tolist()
        ):
            width, height = x2 - x1, y2 - y1
            record = {"id": len(annotations) + 1, "image_id": image_id, "category_id": label, "iscrowd": int(ignore)}
            annotations.append({**record, "bbox": [x1, y1, width, height], "area": width * height})
    return {
        "info": {},
        "images": [{"id": image_id} for image_id in range(len(targets))],
        "categories": [{"id": label, "name": str(label)} for label in range(num_classes)],
        "annotations": annotations,
    }


def coco_results(detections: list[Detections]) -> list[dict[str, Any]]:
    """Unrounded, so that both sides see the same boxes (`predictions_to_coco` rounds)."""
    return [
        {"image_id": image_id, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for image_id, found in enumerate(detections)
        for (x1, y1, x2, y2), label, score in zip(
            found.boxes.double().tolist(), found.labels.tolist(), found.scores.double().tolist()
        )
    ]


def ours(detections: list[Detections], targets: list[Targets], num_classes: int) -> tuple[float, float]:
    """(seconds, AP)."""
    start = time.perf_counter()
    metric = DetectionMetrics([str(label) for label in range(num_classes)])
    for first in range(0, len(targets), 16):
        metric.update(detections[first : first + 16], targets[first : first + 16])
    ap = metric.compute()["AP"]
    return time.perf_counter() - start, ap


def theirs(records: list[dict[str, Any]], dataset: dict[str, Any]) -> tuple[float, float]:
    """(seconds, AP)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        start = time.perf_counter()
        evaluation = COCOeval(truth, truth.loadRes(records), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return time.perf_counter() - start, float(evaluation.stats[0])


def measure(num_images: int, rounds: int, num_classes: int = 80) -> dict[str, Any]:
    """Both, alternating; medians, and the ratio of medians."""
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, num_classes=num_classes) for _ in range(num_images)]
    detections, targets = [found for found, _ in scenes], [truth for _, truth in scenes]
    dataset = coco_dataset(targets, num_classes)
    ours(detections[:10], targets[:10], num_classes)  # the first use of a library pays for its import
    seconds: dict[str, list[float]] = {"ours": [], "pycocotools": []}
    aps = []
    for _ in range(rounds):
        elapsed, our_ap = ours(detections, targets, num_classes)
        seconds["ours"].append(elapsed)
        elapsed, their_ap = theirs(coco_results(detections), dataset)
        seconds["pycocotools"].append(elapsed)
        aps.append((our_ap, their_ap))
        print(f"ours {seconds['ours'][-1]:.2f} s, pycocotools {elapsed:.2f} s", flush=True)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "images": num_images,
        "seconds": medians,
        "times_faster": medians["pycocotools"] / medians["ours"],
        "AP": {"ours": aps[0][0], "pycocotools": aps[0][1]},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.images, arguments.rounds)))
