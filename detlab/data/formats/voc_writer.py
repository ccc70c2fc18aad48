"""Labels as a folder in VOC layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detlab.data.formats.image_writer import link_pictures, picture_names
from detlab.data.formats.voc_write import write_voc as write_layout
from detlab.data.index import AnnotationIndex


def write_voc(
    index: AnnotationIndex, folder: Path, split: str, found: NDArray[np.floating], *, scores: bool = True
) -> list[str]:
    """``Annotations/*.xml``, ``ImageSets/Main/<split>.txt`` and links to the pictures in ``JPEGImages/``; returns the
    words by which `CustomSource` reads them.

    found ``[M]``: the score of each box that a detector found, whose corners become whole pixels, since many a tool
    reads no others; NaN for those of annotators, which are exact. Ignored boxes are `difficult`. scores: each object
    has a ``score``, those of annotators 1.
    """
    names = picture_names(index)
    link_pictures(index, names, folder / "JPEGImages")
    linked = np.array([str(folder / "JPEGImages" / name) for name in names], np.str_)
    whole = whole_pixels(index.boxes, index.widths[index.box_images], index.heights[index.box_images])
    boxes = np.where(np.isnan(found)[:, None], index.boxes, whole).astype(np.float32)
    given = np.where(np.isnan(found), 1.0, found).tolist() if scores else None
    write_layout(replace(index, paths=linked, boxes=boxes), folder, split, given)
    classes = ",".join(index.classes)  # the format has no list of them
    return ["data.format=voc", f"data.root={folder}", f"data.split={split}", f"data.classes=[{classes}]"]


def whole_pixels(
    boxes: NDArray[np.float32], widths: NDArray[np.int32], heights: NDArray[np.int32]
) -> NDArray[np.float64]:
    """``boxes [M, 4]`` with corners at whole pixels of their images, two pixels wide and high at least where these are
    so large: what is one pixel counts as a stray click to readers of VOC."""
    size = np.stack([widths, heights], 1).astype(np.float64)
    low = np.floor(boxes[:, :2].astype(np.float64) + 0.5).clip(0, np.maximum(size - 2, 0))
    high = np.floor(boxes[:, 2:].astype(np.float64) + 0.5)
    return np.concatenate([low, np.minimum(np.maximum(high, low + 2), size)], 1)
