"""Scenes as a data source: drawn once, cached on disk, the same pictures for the same arguments."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detlab.data.checks.problems import Problem
from detlab.data.index import AnnotationIndex
from detlab.data.scenes.compose import Scene, draw_scene
from detlab.data.scenes.shapes import CLASSES
from detlab.data.scenes.style import Style
from detlab.errors import UserError

Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
DISTRACTOR = "distractor"  # the thirteenth class, where things of no class are labelled
_VERSION = 1  # of the drawing code: raise it when pictures change, so that old caches are not taken for new


class ScenesSource:
    """Procedural detection pictures: textured, turned, partly hidden objects on cluttered ground.

    Twelve classes in two groups of six (`GROUPS`) that occur together, with things of no class between them.
    Boxes are tight round the whole object, clipped to the picture; every object drawn is annotated.

    train, val, test: pictures per split. Picture k of a split depends on the seed, the split and k alone.
    size: side of the square pictures in pixels, 32..4096.
    frequencies, tail: classes equally often, or as rank^−tail (0..10).
    objects, distractors: fewest and most per picture, 0..50; an object that finds no room is left out.
    object_size: shortest and longest longer side of an object over the picture's side, drawn log-uniformly.
    rotation: objects are turned by up to so many degrees either way (0..180).
    squeeze: one side of each object is drawn at this share (0.1..1) to all of its length: below about 0.5 there are
    elongated ones, lying and standing.
    occlusion: chance (0..1) that an object is set beside or over an earlier one instead of apart.
    min_visible: share (0.1..1) of each object that stays unhidden and inside the picture.
    clutter: background shapes (0..1). contrast: least colour distance between an object and the ground below,
    0..0.5 of the distance from black to white. lighting, noise: unevenness of light, blur and grain (0..1).
    label_distractors: the things of no class are annotated as a thirteenth class, "distractor" (but those that later
    objects hide beyond `min_visible`); the pictures are the same.
    cache_dir: where the pictures are kept, ``data/scenes`` by default; one folder per split and set of arguments.

    Raises ValueError for arguments out of range.
    """

    def __init__(
        self,
        train: int = 2000,
        val: int = 300,
        test: int = 500,
        size: int = 128,
        seed: int = 0,
        frequencies: Literal["even", "long_tailed"] = "even",
        tail: float = 1.0,
        objects: tuple[int, int] = (2, 7),
        object_size: tuple[float, float] = (0.16, 0.5),
        rotation: float = 20.0,
        occlusion: float = 0.3,
        min_visible: float = 0.4,
        distractors: tuple[int, int] = (0, 3),
        clutter: float = 0.5,
        contrast: float = 0.2,
        lighting: float = 0.6,
        noise: float = 0.5,
        cache_dir: str | None = None,
        on_error: Literal["raise", "skip_box", "skip_image"] = "raise",
        name: str = "scenes",
        label_distractors: bool = False,
        squeeze: float = Style.squeeze,
    ) -> None:
        self.counts: dict[Split, int] = {"train": train, "val": val, "test": test}
        if min(self.counts.values()) < 0:
            raise ValueError(f"Expected no negative number of pictures, got {self.counts}.")
        if not 32 <= size <= 4096:
            raise ValueError(f"Expected size in 32..4096 pixels, got {size}.")
        if seed < 0:
            raise ValueError(f"Expected seed >= 0, got {seed}.")
        self.style = Style(
            frequencies,
            tail,
            objects,
            object_size,
            rotation,
            occlusion,
            min_visible,
            distractors,
            clutter,
            contrast,
            lighting,
            noise,
            squeeze,
        )
        self.size, self.seed, self.name, self.on_error = size, seed, name, on_error
        self.label_distractors = label_distractors
        self.cache_dir = Path("data/scenes" if cache_dir is None else cache_dir)

    def draw(self, split: Split, number: int) -> Scene:
        """Picture `number` of a split, drawn afresh."""
        rng = np.random.default_rng((self.seed, SPLITS.index(split), number))
        return draw_scene(self.style, self.size, rng, self.label_distractors)

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """The index of a split, drawing it first unless it is cached. There are never problems.

        Raises ValueError for an unknown split, UserError where the cache cannot be written or was damaged.
        """
        if split not in SPLITS:
            raise ValueError(f"Expected split 'train', 'val' or 'test', got {split!r}.")
        folder = self._folder(split)
        if not folder.exists():
            try:
                self._fill(folder, split)
            except OSError as error:
                raise UserError(
                    f"{self.cache_dir}: cannot write the scenes there ({error.strerror}); "
                    "free some space or choose another folder with data.cache_dir=…"
                ) from error
        try:
            index = AnnotationIndex.load(folder / "index.npz")
        except UserError as error:
            raise UserError(f"{folder}: damaged cache of scenes; delete that folder, it is drawn anew.") from error
        paths = np.array([str(folder / path) for path in index.paths], dtype=np.str_)
        return replace(index, paths=paths, source_names=(self.name,)), []

    def _folder(self, split: Split) -> Path:
        style = asdict(self.style)
        if (
            self.style.squeeze == Style.squeeze
        ):  # no key for the defaults of later options: older caches keep their names
            del style["squeeze"]
        recipe = {"version": _VERSION, "seed": self.seed, "style": style}
        if self.label_distractors:
            recipe["label_distractors"] = True
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
        return self.cache_dir / f"{split}-{self.counts[split]}x{self.size}px-{digest}"

    def _fill(self, folder: Path, split: Split) -> None:
        """Draw into a folder of our own, then rename it: what others see is complete."""
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        partial.mkdir(parents=True)
        try:
            self._draw_split(split, partial)
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was first, with the same pictures
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _draw_split(self, split: Split, folder: Path) -> None:
        count = self.counts[split]
        names = [f"{number:06d}.jpg" for number in range(count)]
        owners: list[ArrayLike] = [np.zeros(0)]
        boxes: list[ArrayLike] = [np.zeros((0, 4))]
        labels: list[ArrayLike] = [np.zeros(0)]
        areas: list[ArrayLike] = [np.zeros(0)]
        for number, name in enumerate(names):
            scene = self.draw(split, number)
            _write_jpeg(folder / name, scene.image)
            owners.append(np.full(len(scene.labels), number))
            boxes.append(scene.boxes)
            labels.append(scene.labels)
            areas.append(scene.areas)
        AnnotationIndex.build(
            (*CLASSES, DISTRACTOR) if self.label_distractors else CLASSES,
            paths=names,
            widths=np.full(count, self.size),
            heights=np.full(count, self.size),
            box_images=np.concatenate(owners),
            boxes=np.concatenate(boxes),
            labels=np.concatenate(labels),
            areas=np.concatenate(areas),
        ).save(folder / "index.npz")


def _write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    # PNG takes more than twice the bytes and decoding time for such noisy pictures. Full colour resolution keeps
    # the small textures that tell classes apart.
    options = (
        cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    )  # fmt: skip
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert ok, "OpenCV encodes every uint8 picture"
    path.write_bytes(data.tobytes())
