"""Run folders to draw figures from."""

from tests.reporting.figures.run_folders import make_run, predictions, squares

__all__ = ["make_run", "predictions", "squares"]
