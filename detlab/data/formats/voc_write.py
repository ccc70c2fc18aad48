"""An annotation index as a folder in VOC layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np

from detlab.data.index import AnnotationIndex
from detlab.errors import UserError


def write_voc(
    index: AnnotationIndex,
    folder: str | os.PathLike[str],
    split: str = "train",
    scores: Sequence[float] | None = None,
) -> Path:
    """Write ``Annotations/*.xml``, links to the pictures in ``JPEGImages``, the list ``ImageSets/Main/<split>.txt``;
    return the folder.

    Corners are VOC's, counted from 1, with right and bottom inclusive, as the shortest decimals that `VocSource` reads
    as the same float32 pixels; ignored boxes are `difficult`. scores ``[M]``: one more tag per object. Raises
    UserError where two pictures share a file name.
    """
    root = Path(folder)
    places = [root / part for part in ("Annotations", "JPEGImages", "ImageSets/Main")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    seen: dict[str, str] = {}
    for row, path in enumerate(map(str, index.paths)):
        name = Path(path).stem
        if name in seen:
            raise UserError(f"{path}: {seen[name]} has the same file name; VOC needs distinct ones.")
        seen[name] = path
        link = places[1] / Path(path).name
        if not (link.exists() and link.samefile(path)):
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.abspath(path))
        tree = Xml.ElementTree(_annotation(index, row, scores))
        Xml.indent(tree)
        tree.write(places[0] / f"{name}.xml", encoding="utf-8")
    (places[2] / f"{split}.txt").write_text("".join(f"{name}\n" for name in seen), encoding="utf-8")
    return root


def _annotation(index: AnnotationIndex, row: int, scores: Sequence[float] | None) -> Xml.Element:
    root = Xml.Element("annotation")
    _add(root, "filename", Path(str(index.paths[row])).name)
    size = _add(root, "size")
    for tag, value in (("width", index.widths[row]), ("height", index.heights[row]), ("depth", 3)):
        _add(size, tag, str(value))
    for box in range(index.offsets[row], index.offsets[row + 1]):
        item = _add(root, "object")
        _add(item, "name", index.classes[index.labels[box]])
        _add(item, "difficult", str(int(index.ignore[box])))
        if scores is not None:
            _add(item, "score", f"{scores[box]:.6g}")
        corners = index.boxes[box] + np.array([1.0, 1.0, 0.0, 0.0])
        place = _add(item, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners.tolist()):
            _add(place, tag, repr(value).removesuffix(".0"))
    return root


def _add(parent: Xml.Element, tag: str, text: str | None = None) -> Xml.Element:
    element = Xml.SubElement(parent, tag)
    element.text = text
    return element
