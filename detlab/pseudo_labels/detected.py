"""What detectors find in pictures, as labels that the annotators did not give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detlab.data.index import AnnotationIndex
from detlab.metrics.columns import Found, Truth
from detlab.ops.boxes import aligned_iou
from detlab.structures import Detections

SMALLEST = 1.0  # pixels: side of a box below which it shows nothing


@dataclass(frozen=True)
class Labelled:
    """An index, and the scores of its boxes, float32 ``[M]``: NaN for those that annotators drew."""

    index: AnnotationIndex
    scores: NDArray[np.float32]


def unlabelled(
    index: AnnotationIndex,
    detections: Mapping[int, Detections],
    to: NDArray[np.int64],
    *,
    score: float,
    max_iou: float | None = 0.5,
    missing: bool = True,
) -> Found:
    """Detections (by image id, in pixels of the files) that may become labels of `index`; `image` is its row.

    to ``[C']``: the detector's classes → labels of `index`, −1 for those not wanted. They have at least `score`, are
    clipped to their picture and no smaller than `SMALLEST` there; missing: of classes alone that the image's annotators
    did not look for. One that overlaps a box of its class in `index`, flagged `ignore` or not, by more than `max_iou`
    is labelled already; None: that does not matter.
    """
    parts = []
    for row, image_id in enumerate(index.ids.tolist()):
        if image_id not in detections:
            continue
        found, at = detections[image_id], index.boxes_of(row)
        labels = to[found.labels.numpy()]
        size = torch.tensor([index.widths[row], index.heights[row]] * 2, dtype=torch.float64)
        boxes = torch.minimum(found.boxes.double().clamp(min=0), size)
        keep = (found.scores.numpy() >= score) & (labels >= 0)
        keep &= (boxes[:, 2:] - boxes[:, :2] >= SMALLEST).all(1).numpy()
        if missing:
            keep &= ~index.annotated[index.sources[row], labels]
        if max_iou is not None and at.stop > at.start:
            own = torch.from_numpy(index.boxes[at]).double()
            same = torch.from_numpy(labels[:, None] == index.labels[at])
            overlap = aligned_iou(boxes[:, None], own[None]).masked_fill(~same, 0.0)
            keep &= (overlap.amax(1) <= max_iou).numpy()
        kept = np.flatnonzero(keep)
        rows = np.full(len(kept), row, np.int64)
        parts.append((rows, labels[kept], boxes.numpy()[kept], found.scores.double().numpy()[kept]))
    if not parts:
        return Found(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
    return Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def with_labels(index: AnnotationIndex, found: Found) -> Labelled:
    """`index` with the boxes of `found` (`image`: rows of `index`) behind those that an image has.

    Images, their order and ids, sources and what their annotators looked for stay as they are.
    """
    owners = np.concatenate([index.box_images, found.image])
    corners = found.box.astype(np.float32)
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    scores = np.concatenate([np.full(len(index.boxes), np.nan), found.score]).astype(np.float32)
    labelled = AnnotationIndex.build(
        index.classes,
        paths=index.paths,
        widths=index.widths,
        heights=index.heights,
        box_images=owners,
        boxes=np.concatenate([index.boxes, corners]),
        labels=np.concatenate([index.labels, found.label]),
        ignore=np.concatenate([index.ignore, np.zeros(len(corners), np.bool_)]),
        areas=np.concatenate([index.areas, areas]),
        ids=index.ids,
        sources=index.sources,
        source_names=index.source_names,
        annotated=index.annotated,
        class_ids=index.class_ids,
    )
    return Labelled(labelled, scores[np.argsort(owners, kind="stable")])


def withheld(index: AnnotationIndex, complete: AnnotationIndex) -> Truth:
    """The boxes of `complete` (the same images, row by row) of classes that the image's annotators did not look for;
    `image` is the row."""
    owners = complete.box_images
    missing = ~index.annotated[index.sources[owners], complete.labels]
    return Truth(
        owners[missing],
        complete.labels[missing].astype(np.int64),
        complete.boxes[missing].astype(np.float64),
        complete.ignore[missing],
        complete.areas[missing].astype(np.float64),
    )
