from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from detlab.errors import UserError
from detlab.metrics.coco_json import predictions_from_coco, predictions_to_coco
from detlab.structures import Detections

FOUND = Detections(
    torch.tensor([[1.0, 2.0, 11.5, 22.25], [0.0, 0.0, 5.126, 5.0]]),
    torch.tensor([0.87654321, 0.5]),
    torch.tensor([1, 0]),
)
NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def test_records() -> None:
    records = predictions_to_coco([FOUND, NOTHING], torch.tensor([7, 8]), [3, 90])
    assert records == [
        {"image_id": 7, "category_id": 90, "bbox": [1.0, 2.0, 10.5, 20.25], "score": 0.876543},
        {"image_id": 7, "category_id": 3, "bbox": [0.0, 0.0, 5.13, 5.0], "score": 0.5},
    ]
    assert json.loads(json.dumps(records)) == records


def test_there_and_back() -> None:
    records = predictions_to_coco([FOUND], [7], [3, 90])
    back = predictions_from_coco(reversed(records), [3, 90])
    assert list(back) == [7]
    assert torch.allclose(back[7].boxes, FOUND.boxes, atol=0.011)
    assert torch.allclose(back[7].scores, FOUND.scores, atol=1e-6)
    assert back[7].labels.tolist() == [1, 0]


def test_half_precision_and_none() -> None:
    half = Detections(FOUND.boxes.half(), FOUND.scores.half(), FOUND.labels)
    assert predictions_to_coco([half], [1], [0, 1])[1]["score"] == 0.5
    assert predictions_to_coco([], [], [0]) == []
    assert predictions_from_coco([], [0]) == {}


@pytest.mark.parametrize(
    "broken",
    [
        {"image_id": 1, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 1},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1], "score": 1},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]},
        {"image_id": None, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "score": float("nan")},
        {"image_id": 1, "category_id": 3, "bbox": [0, float("inf"), 1, 1], "score": 1},
        {"image_id": 1, "category_id": 3, "bbox": [0, 0, -1, 1], "score": 1},
        [1, 2],
    ],
)
def test_broken_record_is_named(broken: Any) -> None:
    good = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1], "score": 1}
    with pytest.raises(UserError, match=r"^results\.json: record 1 is no COCO result"):
        predictions_from_coco([good, broken], [3], "results.json")


def test_ids_for_every_image() -> None:
    with pytest.raises(ValueError, match="each of 1 images, got 2"):
        predictions_to_coco([FOUND], [1, 2], [0, 1])
