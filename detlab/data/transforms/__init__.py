"""From a picture and its boxes in file pixels to what the detector is given.

A `Pipeline` runs a list of transforms (the presets return such lists) and one resize rule. albumentations
does the work behind it and is known to no other module.
"""

from detlab.data.transforms.colours import Cutout, PhotometricDistort
from detlab.data.transforms.pipeline import Pipeline
from detlab.data.transforms.presets import flip, multiscale, none, scratch, ssd, strong, weak
from detlab.data.transforms.resize import Fixed, Longest, Resize, Shortest, Unchanged
from detlab.data.transforms.windows import MinIoUCrop, Window, Zoom, ZoomOut

__all__ = [
    "Cutout",
    "Fixed",
    "Longest",
    "MinIoUCrop",
    "PhotometricDistort",
    "Pipeline",
    "Resize",
    "Shortest",
    "Unchanged",
    "Window",
    "Zoom",
    "ZoomOut",
    "flip",
    "multiscale",
    "none",
    "scratch",
    "ssd",
    "strong",
    "weak",
]
