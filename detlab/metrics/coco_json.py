"""Detections as COCO result records (`predictions.json`), and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detlab.errors import UserError
from detlab.structures import Detections


def predictions_to_coco(
    detections: Sequence[Detections], image_ids: Sequence[int] | Tensor, category_ids: Sequence[int] | NDArray[np.int64]
) -> list[dict[str, Any]]:
    """One record per box: ``{image_id, category_id, bbox: [x, y, w, h], score}``, pixels.

    category_ids: the data set's id of each label. Boxes are rounded to 0.01 pixel and scores to 6 decimals, a
    third of the size of full floats; AP moves in its fifth decimal.
    """
    if len(detections) != len(image_ids):
        raise ValueError(f"Expected an id for each of {len(detections)} images, got {len(image_ids)}.")
    records = []
    for image_id, found in zip(torch.as_tensor(image_ids).tolist(), detections):
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.double().tolist(), found.scores.double().tolist(), found.labels.tolist()
        ):
            box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
            records.append(
                {
                    "image_id": image_id,
                    "category_id": int(category_ids[label]),
                    "bbox": box,
                    "score": round(score, 6),
                }
            )
    return records


def predictions_from_coco(
    records: Iterable[Mapping[str, Any]], category_ids: Sequence[int], file: str = "predictions"
) -> dict[int, Detections]:
    """COCO result records → image id → Detections in falling order of score. `file` names it in messages.

    Raises UserError for a record without the four fields or with a category that is not in `category_ids`.
    """
    label_of = {int(category): label for label, category in enumerate(category_ids)}
    rows: dict[int, list[tuple[float, int, list[float]]]] = {}
    for number, record in enumerate(records):
        try:
            x, y, w, h = (float(value) for value in record["bbox"])
            image_id, label = int(record["image_id"]), label_of[int(record["category_id"])]
            score = float(record["score"])
            if not (all(map(math.isfinite, (x, y, w, h, score))) and w >= 0 and h >= 0):
                raise ValueError("not a box with a score")
            rows.setdefault(image_id, []).append((score, label, [x, y, x + w, y + h]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{file}: record {number} is no COCO result of this data set: expected image_id, category_id "
                f"(one of {len(label_of)} known ids), bbox [x, y, w, h] and score, got {str(record)[:160]}."
            ) from error
    result = {}
    for image_id, found in rows.items():
        found.sort(key=lambda row: -row[0])
        result[image_id] = Detections(
            torch.tensor([row[2] for row in found], dtype=torch.float32),
            torch.tensor([row[0] for row in found], dtype=torch.float32),
            torch.tensor([row[1] for row in found], dtype=torch.int64),
        )
    return result
