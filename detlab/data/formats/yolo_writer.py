"""Labels as YOLO txt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detlab.data.formats.image_writer import link_pictures, picture_names
from detlab.data.formats.yolo_txt import write_yolo as write_layout
from detlab.data.index import AnnotationIndex


def write_yolo(
    index: AnnotationIndex, folder: Path, split: str, found: NDArray[np.floating], *, scores: bool = False
) -> list[str]:
    """``labels/<split>/*.txt``, ``<split>.txt``, ``data.yaml`` and links to the pictures in ``images/<split>/``;
    returns the words by which `CustomSource` reads them.

    Ignored boxes are left out, as the format has no mark for them. found ``[M]``: the score of each box that a detector
    found, NaN for those of annotators. scores: a sixth column, 1 for those of annotators; readers of training data,
    detlab's among them, refuse it, while tools that show predictions want it.
    """
    names = picture_names(index)
    yaml = write_layout(replace(index, paths=np.array(names, np.str_)), folder, split)
    link_pictures(index, names, folder / "images" / split)  # in place of links to the new names
    if scores:
        given = np.where(np.isnan(found), 1.0, found)
        for row, name in enumerate(names):
            at = index.boxes_of(row)
            file = folder / "labels" / split / f"{Path(name).stem}.txt"
            lines = file.read_text(encoding="utf-8").splitlines()
            columns = given[at][~index.ignore[at]].tolist()
            file.write_text("".join(f"{a} {b:.6g}\n" for a, b in zip(lines, columns, strict=True)), encoding="utf-8")
    return ["data.format=yolo", f"data.yaml={yaml}", *([] if split == "train" else [f"split={split}"])]
