"""Folders of finished runs, as training leaves them, on four pictures of red and blue squares."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

MakeRun = Callable[..., Path]
CLASSES = ("blue", "red")  # category ids 1 and 2


@pytest.fixture
def make_run(tmp_path) -> MakeRun:
    """`make_run("paper/table/row", seed, history)`: a run below ``tmp_path / "runs"``; nan: nothing was logged.

    predictions: COCO results on the test pictures, those of `squares` (a fixture, which the data come with).
    """

    def make(
        row: str,
        seed: int = 0,
        history: Mapping[str, np.ndarray] | None = None,
        *,
        setting: str = "mini",
        status: str = "finished",
        predictions: Sequence[Mapping[str, Any]] | None = None,
    ) -> Path:
        folder = tmp_path / "runs" / row / setting / f"seed={seed}"
        folder.mkdir(parents=True)
        data = {
            "_target_": "detlab.data.sources.custom.CustomSource", "format": "voc", "root": str(tmp_path / "voc"),
            "split": "val", "val_split": "val", "test_split": "train",
        }  # fmt: skip
        (folder / "config.yaml").write_text(yaml.safe_dump({"name": row, "seed": seed, "data": data}))
        (folder / "metrics.json").write_text(json.dumps({"status": status, "val": {}, "test": {}}))
        columns = dict(history or {})
        lines = [",".join(columns)]
        for values in zip(*columns.values()):
            lines.append(",".join("" if np.isnan(v) else repr(float(v)) for v in values))
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        if predictions is not None:
            (folder / "predictions.json").write_text(json.dumps(list(predictions)))
        return folder

    return make


@pytest.fixture
def squares(voc) -> list[tuple[int, int, list[float]]]:
    """(image id, label, box xyxy) of every object of the test pictures, read from the XML."""
    found = []
    for image, path in enumerate(sorted((voc / "Annotations").glob("*.xml"))[:4]):
        for name, *corners in re.findall(r"<name>(\w+)<.*?" + r"<\w+>(\d+)</\w+>" * 4, path.read_text()):
            x1, y1, x2, y2 = map(float, corners)
            found.append((image, CLASSES.index(name), [x1 - 1, y1 - 1, x2, y2]))
    return found


@pytest.fixture
def predictions(squares) -> list[dict[str, Any]]:
    """Five records around each object, moved by up to half its size, the nearer the better scored; and strays."""
    rng, records = np.random.default_rng(0), []
    for image, label, (x1, y1, x2, y2) in squares:
        for shift in rng.uniform(0, 0.5, 5):
            box = [round(x1 + shift * (x2 - x1), 2), y1, x2 - x1, y2 - y1]
            score = round(float(np.clip(0.9 - shift + rng.normal() / 20, 0.01, 1)), 6)
            records.append({"image_id": image, "category_id": label + 1, "bbox": box, "score": score})
        records.append({"image_id": image, "category_id": label + 1, "bbox": [0, 0, 3, 3], "score": 0.05})
    return records
