"""Labels and pseudo-labels on one picture, as in Fig. 3 of the proxy paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from detlab.visualization.boxes import draw_boxes

LABEL, PSEUDO = "#2e9e44", "#8a2be2"  # green, violet


def pseudo_beside_labels(
    image: NDArray[np.uint8],
    boxes: ArrayLike,
    labels: ArrayLike,
    pseudo_boxes: ArrayLike,
    pseudo_labels: ArrayLike,
    classes: Sequence[str],
    *,
    side: int = 480,
) -> NDArray[np.uint8]:
    """A copy of ``image [H, W, 3]`` with labeled boxes (``[G, 4]`` xyxy pixels) green and pseudo-labels (``[N, 4]``)
    violet, each with its class's name; small pictures are enlarged to a longer side of `side` pixels."""
    factor = max(1.0, side / max(image.shape[:2]))
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    canvas = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    for box, label, shade in ((boxes, labels, LABEL), (pseudo_boxes, pseudo_labels, PSEUDO)):
        scaled = np.asarray(box, float).reshape(-1, 4) * factor
        canvas = draw_boxes(canvas, scaled, label, None, classes, shade=shade)
    return canvas
