"""Histograms of a data set as image files."""

from __future__ import annotations

from pathlib import Path

from detlab.data.files import write_atomic
from detlab.data.index import AnnotationIndex
from detlab.visualization import boxes_per_image, class_histogram, png_bytes, size_histogram


def draw_histograms(index: AnnotationIndex, folder: Path) -> None:
    """Boxes per class, box sizes and boxes per image as `<folder>/*.png`."""
    index = index.select(index.annotated[index.sources].any(1))
    if not len(index.boxes):
        return
    for name, figure in (
        ("classes", class_histogram(index.labels, index.classes)),
        ("sizes", size_histogram(index.boxes)),
        ("boxes_per_image", boxes_per_image(index.counts)),
    ):
        write_atomic(folder / f"{name}.png", png_bytes(figure))
