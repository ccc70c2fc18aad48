"""Pictures: pure functions from arrays to uint8 images or matplotlib figures (imported only when drawing)."""

from detlab.visualization.boxes import draw_boxes
from detlab.visualization.compare import ground_truth_beside_predictions
from detlab.visualization.curves import assignment_curves, loss_curves, metric_curves, pr_curves, pseudo_curves
from detlab.visualization.histograms import boxes_per_image, class_histogram, size_histogram
from detlab.visualization.legend import with_legend
from detlab.visualization.output import png_bytes, svg_text

__all__ = [
    "assignment_curves",
    "boxes_per_image",
    "class_histogram",
    "draw_boxes",
    "ground_truth_beside_predictions",
    "loss_curves",
    "metric_curves",
    "png_bytes",
    "pr_curves",
    "pseudo_curves",
    "size_histogram",
    "svg_text",
    "with_legend",
]
