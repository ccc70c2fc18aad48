"""Images per second of the training loader: JPEGs of 640 x 480 made here, resized to 320, flipped, in batches.

Run: python experiments/benchmarks/data_loading.py [--images 400] [--seconds 4] [--workers 0 1 2] [--augment flip]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from detlab.data import transforms
from detlab.data.checks.problems import OnError, Problem, Split
from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex


class Noise:
    """Smooth coloured noise, about as large on disk as photographs are, with 8 boxes per picture."""

    name = "noise"
    on_error: OnError = "raise"

    def __init__(self, folder: Path, count: int) -> None:
        rng = np.random.default_rng(0)
        self.paths = [str(folder / f"{number}.jpg") for number in range(count)]
        for path in self.paths:
            coarse = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
            picture = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC).astype(np.int16)
            picture += rng.integers(-12, 13, picture.shape, dtype=np.int16)
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=85)
        corners = rng.uniform(0, 300, (count * 8, 2))
        self.boxes = np.concatenate([corners, corners + rng.uniform(20, 170, (count * 8, 2))], 1)

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:  # noqa: ARG002
        count = len(self.paths)
        index = AnnotationIndex.build(
            ["thing"],
            paths=self.paths,
            widths=[640] * count,
            heights=[480] * count,
            box_images=np.repeat(np.arange(count), 8),
            boxes=self.boxes,
            labels=np.zeros(count * 8),
        )
        return index, []


def rate(source: Noise, augment: str, workers: int, cached: bool, seconds: float) -> float:
    """Images per second, after the first batches of each worker."""
    resize = transforms.Longest(320)
    pipeline = transforms.Pipeline(getattr(transforms, augment)(), resize)
    data = DetectionDataModule(
        source, pipeline, transforms.Pipeline(resize=resize), 16, num_workers=workers, cache_images=cached
    )
    data.setup("fit")
    batches = iter(data.train_dataloader())
    for _ in range(2 + 4 * workers):
        next(batches)
    images, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        images += len(next(batches))
    return images / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--augment", default="flip", choices=["none", "flip", "scratch", "ssd", "strong"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Noise(Path(folder), options.images)
        size = sum(os.path.getsize(path) for path in source.paths) / len(source.paths) / 1024
        print(
            f"{options.images} JPEGs of 640 x 480, {size:.0f} KiB each; {options.augment}, {os.cpu_count()} processors"
        )
        for cached in (False, True):
            for workers in options.workers:
                speed = rate(source, options.augment, workers, cached, options.seconds)
                print(f"workers {workers}, {'cached' if cached else 'decoded'}: {speed:7.0f} images/s")


if __name__ == "__main__":
    main()
