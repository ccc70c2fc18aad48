"""Figures 1 and 3 of PAA: the scores of one object's anchors, two Gaussians fitted to them, and four boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from detlab.assigners.mixture import fit_two_gaussians
from detlab.assigners.separation import Scheme, separate
from detlab.config.instantiate import build_datamodule, build_module, load_run, load_weights
from detlab.data.dataset import DetectionDataset, collate
from detlab.data.image import read_image
from detlab.engine.callbacks.snapshots import Snapshot, of_object, take_snapshots
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.reporting.figures.drawing import Runs
from detlab.reporting.figures.picture import Picture
from detlab.visualization.assigned import Cell, draw_cell
from detlab.visualization.mixtures import SHADES, Fit, draw_schemes, draw_scored_anchors, fit_csv

from .figure_runs import PAA, Recorded, recorded

SCHEMES: dict[Scheme, str] = {
    "a": "(a) cut where both are as probable",
    "b_between_peaks": "(b) cut at the peak; ignored between peaks",
    "c": "(c) cut at the peak",
    "d_rest_of_low": "(d) cut at the peak; ignored up to (a)",
}
DEFAULT: Scheme = "c"
LOOK_AT = 8  # of the first validation pictures that one is chosen from


class Example(NamedTuple):
    """What the costs ``[N]`` of one object's candidates are; the picture and what was found in it, or None for an
    example that is made up; and in words where it comes from."""

    costs: NDArray[np.float64]
    image: NDArray[np.uint8] | None
    snapshot: Snapshot | None
    words: str


def figure1(runs: Runs) -> Picture:
    """An object, the anchors judged positive and negative, and the distribution of their scores."""
    example = find_example(runs)
    fit, states = fitted(example.costs), separated(example.costs, DEFAULT)
    drawn = None
    if example.image is not None and example.snapshot is not None:
        one = example.snapshot
        positive, negative = one.anchors[states == 1], one.anchors[states == 0]
        cell = Cell(example.image, one.objects, positive, np.zeros(len(positive)), negative)
        drawn = np.asarray(draw_cell(cell, negative=SHADES[0]))
    caption = (
        f"{example.words} Score: −(classification + GIoU loss), Eq. 3; separated by scheme ({DEFAULT}). Gaussians "
        "times their weights."
    )
    picture = draw_scored_anchors(fit, states, drawn)
    return Picture(picture, fit_csv(fit, {SCHEMES[DEFAULT]: states}), caption, drawn is not None)


def figure3(runs: Runs) -> Picture:
    """Four ways to separate the anchors of the same object."""
    example = find_example(runs)
    fit = fitted(example.costs)
    states = {title: separated(example.costs, scheme) for scheme, title in SCHEMES.items()}
    caption = (
        f"{example.words} Gaussians times their weights; ground colored by what anchors of that score become. The "
        "paper draws the schemes without words: they are those that the comments of its authors' code describe."
    )
    return Picture(draw_schemes(fit, states), fit_csv(fit, states), caption, example.snapshot is not None)


def fitted(costs: NDArray[np.float64]) -> Fit:
    """The Gaussians of `costs`, as of scores: the mirror image."""
    values = torch.from_numpy(costs)[None]
    mixture = fit_two_gaussians(values, torch.ones_like(values, dtype=torch.bool))
    weights, means, variances = (part[0].numpy() for part in (mixture.weights, mixture.means, mixture.variances))
    return Fit(-costs, weights, -means, variances)


def separated(costs: NDArray[np.float64], scheme: Scheme) -> NDArray[np.int64]:
    """1 positive, 0 negative, −1 ignored for each of ``costs [N]``."""
    values = torch.from_numpy(costs)[None]
    return separate(values, torch.ones_like(values, dtype=torch.bool), scheme)[0].numpy()


def find_example(runs: Runs) -> Example:
    """Of a finished run the object with the most candidates, in the first validation pictures as its last weights see
    them or, where its checkpoints are gone, in what it recorded; without a run a made-up one."""
    try:
        found = runs.of([PAA])[PAA]
    except UserError:
        return made_up()
    for run in found:
        if RunFolder(run.folder).last.is_file():
            return of_checkpoint(Path(run.folder))
    return of_record(recorded(runs))


def made_up(seed: int = 0) -> Example:
    """36 costs drawn from two Gaussians: what no detector said."""
    rng = np.random.default_rng(seed)
    costs = np.concatenate([rng.normal(0.9, 0.22, 10), rng.normal(2.3, 0.55, 26)])
    return Example(costs, None, None, "A made-up example: 36 scores drawn from two Gaussians.")


def of_checkpoint(folder: Path) -> Example:
    """From the last weights of a run. Raises UserError where checkpoint or data are gone."""
    config, classes, state, _ = load_run(str(folder))
    own = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(own, DictConfig)
    if "weights" in own.backbone:
        own.backbone.weights = own.detector.backbone.weights = None  # the checkpoint has them all
    module = build_module(own, classes, training=False)
    load_weights(module, state, str(folder))
    data = build_datamodule(own)
    index = data.val_index
    dataset = DetectionDataset(index, data.eval_transform, data.mean, data.std, evaluation=True)
    taken = []
    for row in range(min(LOOK_AT, len(index))):
        sample = dataset[row]
        assert sample is not None, "pictures that cannot be read have raised"
        taken += take_snapshots(module, collate([sample]))
    row, one = fullest(taken, folder)
    words = f"Picture {int(index.ids[row])}, the object with the most candidates, as the finished {folder} sees it."
    return Example(one.cost, read_image(str(index.paths[row])), one, words)


def of_record(known: Recorded) -> Example:
    """From the last moment that a run recorded."""
    position, one = fullest([course.snapshots[-1] for course in known.courses], known.run)
    course = known.courses[position]
    words = (
        f"Picture {course.name}, the object with the most candidates, as {known.run} saw it after "
        f"{course.iterations[-1]:,} iterations."
    )
    return Example(one.cost, course.image, one, words)


def fullest(snapshots: Sequence[Snapshot], folder: Path) -> tuple[int, Snapshot]:
    """Which of the pictures has the object with the most candidates (the first of equals), and that object alone.

    Raises UserError where none has any: the run in `folder` does not go by costs.
    """
    counts = [np.bincount(one.of[np.isfinite(one.cost)], minlength=1) for one in snapshots]
    best = int(np.argmax([count.max() for count in counts])) if counts else 0
    if not counts or counts[best].max() == 0:
        raise UserError(f"{folder}: no anchor has a cost in the pictures that it was asked about.")
    return best, of_object(snapshots[best], int(counts[best].argmax()))
