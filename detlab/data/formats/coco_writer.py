"""Labels as a COCO instances file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detlab.data.formats.coco import to_coco
from detlab.data.formats.image_writer import link_pictures, picture_names
from detlab.data.index import AnnotationIndex


def write_coco(
    index: AnnotationIndex, folder: Path, split: str, found: NDArray[np.floating], *, scores: bool = True
) -> list[str]:
    """``annotations/instances_<split>.json`` and links to the pictures in ``images/<split>/``; returns the words by
    which `CustomSource` reads them.

    Image and category ids are those of `index`. found ``[M]``: the score of each box that a detector found, whose
    corners are rounded to 0.01 pixel; NaN for those of annotators, which are exact. scores: each annotation has a
    ``score``, those of annotators 1.
    """
    names = picture_names(index)
    pictures, file = folder / "images" / split, folder / "annotations" / f"instances_{split}.json"
    link_pictures(index, names, pictures)
    content = to_coco(replace(index, paths=np.array(names, np.str_)))
    for record, score in zip(content["annotations"], found.tolist(), strict=True):
        if not np.isnan(score):
            record["bbox"] = [round(value, 2) for value in record["bbox"]]
            record["area"] = round(record["area"], 2)
        if scores:
            record["score"] = 1.0 if np.isnan(score) else round(score, 6)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return ["data.format=coco", f"data.images={pictures}", f"data.annotations={file}"]
