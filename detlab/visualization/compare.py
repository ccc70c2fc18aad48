"""Ground truth beside predictions: one picture twice, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detlab.visualization.boxes import draw_boxes, sans
from detlab.visualization.legend import GAP, draw_legend, legend_height
from detlab.visualization.style import INK

if TYPE_CHECKING:  # so that whoever only wants a curve does not wait for torch
    from torch import Tensor

    from detlab.structures import Detections, Targets

PANEL = 480  # pixels of the longer side of each panel; smaller pictures are enlarged so that tags can be read


def ground_truth_beside_predictions(
    image: NDArray[np.uint8],
    targets: Targets,
    detections: Detections,
    classes: Sequence[str],
    *,
    score_threshold: float = 0.3,
    title: str = "",
) -> NDArray[np.uint8]:
    """``image [H, W, 3]`` with its targets at the left, its detections above the threshold at the right.

    Boxes are in pixels of `image`; the result is ``[H', W', 3]``. Above each panel stands how many boxes it
    shows, below both the colours of the classes that occur.
    """
    shown = detections.scores >= score_threshold
    panels = _panels(image, targets, detections, shown, classes)
    titles = (_counted(targets), f"Predictions: {int(shown.sum())} with score ≥ {score_threshold:.2f}")
    present = sorted({*targets.labels.tolist(), *detections.labels[shown].tolist()})
    height, width = panels[0].shape[:2]
    gap, head = GAP, 68 if title else 38
    full = max(2 * width + 3 * gap, 700)
    foot = legend_height([classes[k] for k in present], full - 2 * gap)
    canvas = Image.new("RGB", (full, head + height + foot + gap), "white")
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((gap, 21), title, fill=INK, font=sans(19, bold=True), anchor="lm")
    for panel, words, x in zip(panels, titles, (gap, full // 2 + gap // 2)):
        draw.text((x, head - 17), words, fill=INK, font=sans(17), anchor="lm")
        canvas.paste(Image.fromarray(panel), (x, head))
    draw_legend(draw, present, classes, gap, head + height + 14, full - 2 * gap)
    return np.asarray(canvas).copy()


def _panels(
    image: NDArray[np.uint8], targets: Targets, detections: Detections, shown: Tensor, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image, `PANEL` pixels on its longer side, with its targets and with the detections ``shown [N]`` (bool)."""
    scale = PANEL / max(image.shape[:2])
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(
        (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))),
        Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC,
    )
    enlarged = np.asarray(resized)
    boxes, scores = (part[shown].detach().cpu().float() for part in (detections.boxes, detections.scores))
    return (
        draw_boxes(
            enlarged, targets.boxes.cpu() * scale, targets.labels.cpu(), None, classes, ignore=targets.ignore.cpu()
        ),
        draw_boxes(enlarged, boxes * scale, detections.labels[shown].cpu(), scores, classes),
    )


def _counted(targets: Targets) -> str:
    """How many objects an image has, in words."""
    ignored = int(targets.ignore.sum())
    objects = len(targets) - ignored
    return f"Ground truth: {objects} object{'' if objects == 1 else 's'}" + (f", {ignored} ignored" if ignored else "")
