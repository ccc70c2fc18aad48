"""Figures 1, 3, 4, 6 and 7 of Probabilistic Anchor Assignment (Kim and Lee 2020)."""

from __future__ import annotations

from detlab.reporting.figures.drawing import Figures

from .figure_counts import figure4b
from .figure_evolution import figure4a, figure6, figure7
from .figure_scores import figure1, figure3

FIGURES: Figures = {
    "figure1": figure1,
    "figure3": figure3,
    "figure4a": figure4a,
    "figure4b": figure4b,
    "figure6": figure6,
    "figure7": figure7,
}
