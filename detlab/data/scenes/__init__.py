"""Embedded detection data: pictures drawn from a seed."""

from detlab.data.scenes.shapes import CLASSES, GROUPS
from detlab.data.scenes.source import ScenesSource

__all__ = ["CLASSES", "GROUPS", "ScenesSource"]
