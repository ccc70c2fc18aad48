"""The costs of rows, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from detlab.profiling.gpu_hours import (
    GPUS,
    REFERENCE_ADDRESS,
    REFERENCE_GPUS,
    REFERENCE_IMAGES,
    REFERENCE_PIXELS,
    REFERENCE_SECONDS,
)

CostRow = dict[str, Any]  # the numbers of a row by name, as `detlab cost` writes them


def print_costs(rows: Sequence[CostRow]) -> None:
    """One line per row (results of `detlab cost`), and under them what the estimates rest on."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log: nothing need be folded
    table = Table("row", box=SIMPLE, header_style="bold")
    device = rows[0]["device"]
    for title in (
        "pictures",
        "TFLOP/image",
        "s/step",
        "GiB",
        *(f"{gpu.name} h" for gpu in GPUS),
        f"this {_short(device)}",
    ):
        table.add_column(title, justify="right")
    for label, row in zip(labels(rows), rows):
        table.add_row(
            label,
            f"{row['images_per_step']} × {row['picture'][0]} × {row['picture'][1]}",
            number(row["flops_per_image"] / 1e12),
            number(row["seconds_per_step"]),
            number(row["memory_gib"]),
            *(number(row["gpu_hours"][gpu.name]["hours"]) if row["gpu_hours"] else "–" for gpu in GPUS),
            duration(row["device_hours"]),
        )
    console.print(table)
    for line in notes(rows):
        console.print(line, width=min(console.width, 120))


def labels(rows: Sequence[CostRow]) -> list[str]:
    """Names of rows, with the overrides by which rows of one name differ."""
    shared = set.intersection(*(set(row["overrides"]) for row in rows))
    own = [[o for o in row["overrides"] if o not in shared and not o.startswith("experiment=")] for row in rows]
    return [" ".join([row["name"], *mine]) for row, mine in zip(rows, own)]


def notes(rows: Sequence[CostRow]) -> list[str]:
    """How the numbers of the table came about, and how far to trust them."""
    first = rows[0]
    lines = [
        "Each row is a training step, forward, backward and optimiser, with random weights and synthetic pictures: its "
        "loss was finite, and a gradient reached every trainable parameter. Left out: evaluation, loading of pictures."
    ]
    if any(row.get("treatment_left_out") for row in rows):
        lines.append(
            "Left out, too, is what labels from finished runs add to a step (a classifier's or a teacher's look at the "
            "pictures), and the training of these runs: experiments/benchmarks has that beside a step."
        )
    if any(row["gpu_hours"] for row in rows):
        lines += _about_gpus(first["precision"], first["images_per_iteration"], first["iterations"])
    busy = [row["device_share"] for row in rows if (row["device_share"] or 1) < 0.6]
    if busy:
        lines.append(
            f"Other work kept the processors busy, down to {min(busy):.0%} were left for a step: s/step and the time "
            "on this CPU are too long by as much. FLOPs and GPU hours do not depend on it."
        )
    if not all(row["gpu_hours"] for row in rows):
        lines.append("–: an iteration is too small to fill a GPU; its hours there do not follow from FLOPs.")
    height, width = first["picture"]
    if height != width:
        most = max(height, width) / min(height, width)
        lines.append(
            f"Every picture is taken to fill {height} × {width}. A batch of upright and lying ones is padded to "
            f"{max(height, width)} × {max(height, width)}, {most:.2f} times the pixels and the hours."
        )
    if any(row["mean_area"] < 0.995 for row in rows):
        lines.append("The recipe draws sizes: steps are of the largest, hours of the mean picture.")
    if len({(row["iterations"], row["images_per_iteration"], row["precision"]) for row in rows}) > 1:
        lines.append("Rows differ in iterations, batch or precision; what is said of them here is the first row's.")
    return lines


def _about_gpus(precision: str, images: int, iterations: int) -> list[str]:
    parts = [(gpu, gpu.precision(precision)) for gpu in GPUS]
    reached = ", ".join(f"{gpu.name} {part.peak / 1e12:g} TFLOP/s × {part.utilisation:.0%}" for gpu, part in parts)
    factors = ", ".join(f"{gpu.name} {part.factor:g}" for gpu, part in parts)
    return [
        f"GPU hours = TFLOP/image × {images} images × {iterations:,} iterations / (peak × utilisation), at "
        f"{precision}: {reached}. Uncertain either way by a factor of: {factors}. Several GPUs share the hours and "
        "add their waiting.",
        f"The V100's utilisation is what Detectron2's RetinaNet R50 1x reaches: {REFERENCE_SECONDS:g} s per iteration "
        f"of {REFERENCE_IMAGES} images, about {REFERENCE_PIXELS / 1e6:g} megapixels each, on {REFERENCE_GPUS} V100s "
        f"({REFERENCE_ADDRESS}): 41 V100 hours. A100 and H100 follow by published ratios of detectors (ResNet-50 from "
        "A100 to H100) trained on both; detlab/profiling/gpu_hours.py cites them.",
    ]


def number(value: float) -> str:
    """Two figures at least, three where they fit."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(hours: float) -> str:
    for unit, size in (("days", 24.0), ("h", 1.0)):
        if hours >= 2 * size:
            return f"{number(hours / size)} {unit}"
    return f"{number(hours * 60)} min"


def _short(device: str) -> str:
    return device if len(device) < 12 else "GPU"
