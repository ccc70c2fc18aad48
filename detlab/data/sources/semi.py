"""Labelled and unlabelled images as one data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detlab.data.checks.problems import OnError, Problem, Split, of_selection
from detlab.data.index import AnnotationIndex, split_rows
from detlab.data.sources.merge_index import concatenate, in_label_space, moved, named, one_source
from detlab.data.sources.merge_parts import Part, read_part
from detlab.errors import UserError

LABELLED, UNLABELLED = "labelled", "unlabelled"


class SemiSupervisedSource:
    """A few labelled images and many without labels, which have no boxes, and in which no class was looked for.

    source: a data source, or ``{format: voc|coco|yolo, ...}`` with what `CustomSource` takes. Its val and test are
    those of all; its classes are the classes.

    labeled_fraction: the share of its training images that keep their labels, above 0 and below 1; null: all do. Which
    ones depends on `fold`, a number from 0 on, and on how many images there are, and on nothing else; within a fold the
    images of 1 % are among those of 2 % and so on.

    unlabelled: more images, all training images of a source or of an entry as above, whose labels are withheld; or a
    folder of pictures, itself or as ``{format: images, images: <folder>}``. None of them may be one of `source`, too.

    unlabelled_share: of the pictures of a batch, rounded, how many are unlabelled; of each kind there is at least one.

    only: "labelled" trains on the labelled images alone (the supervised baseline), "all" on all with all their labels
    (the upper bound).

    The labelled images come first, then the rest of `source`, then those of `unlabelled`; image ids are row numbers and
    category ids 1…C, val and test keep their own. The names of the sources are "labelled" (of a merge,
    "labelled/<name>") and "unlabelled".
    """

    def __init__(
        self,
        source: Any,
        labeled_fraction: float | None = None,
        fold: int = 1,
        unlabelled: Any = None,
        only: Literal["labelled", "all"] | None = None,
        unlabelled_share: float = 0.5,
        on_error: OnError = "raise",
        name: str = "semi",
    ) -> None:
        if labeled_fraction is None and unlabelled is None:
            raise UserError(
                "data.unlabelled: every image is labelled; give a folder of pictures without labels, or the share of "
                "the training images that keep theirs (data.labeled_fraction=0.1)."
            )
        if labeled_fraction is not None and not 0 < labeled_fraction < 1:
            raise UserError(f"data.labeled_fraction={labeled_fraction}: expected a number above 0 and below 1.")
        if fold < 0:
            raise UserError(f"data.fold={fold}: expected a number from 0 on.")
        if not 0 < unlabelled_share < 1:
            raise UserError(f"data.unlabelled_share={unlabelled_share}: expected a number above 0 and below 1.")
        if only not in (LABELLED, "all", None):
            raise ValueError(f"Expected only 'labelled' or 'all', got {only!r}.")
        if isinstance(unlabelled, str | os.PathLike):
            unlabelled = {"format": "images", "images": os.fspath(unlabelled)}
        self.source = _part(LABELLED, "data.source", source, held_out=True)
        self.unlabelled = None if unlabelled is None else _part(UNLABELLED, "data.unlabelled", unlabelled, images=True)
        self.labeled_fraction, self.fold, self.only = labeled_fraction, fold, only
        self.unlabelled_share = unlabelled_share
        self.on_error, self.name = on_error, name
        self._names: tuple[str, ...] = ()  # of the sources within `source`

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """Problems are those of the readers, but of unlabelled images not those of their labels. Raises UserError where
        no image is labelled or unlabelled, or one is both."""
        if split != "train":
            index, problems = self.source.load(split)
            return _renamed(self.source, index), problems
        known = self._train(complete=self.only == "all")
        if known is None:
            raise UserError(
                "data.only=all: not all labels of the unlabelled images are known; take data.only=labelled, or null."
            )
        return known

    def complete(self, split: Split) -> tuple[AnnotationIndex, list[Problem]] | None:
        """The images of ``load(split)``, in the same order, with the labels that were withheld; None where there never
        were any."""
        if split != "train":
            return self._known(self.source, split)
        return self._train(complete=True)

    def known_labels(self) -> AnnotationIndex:
        """All labels of the training images of `source`, withheld ones included, where they are known: the same for
        every fold, share and `only`."""
        index, _ = self._known(self.source, "train") or self._loaded(self.source)
        return index

    def batch_parts(self, index: AnnotationIndex) -> list[tuple[NDArray[np.int64], float]] | None:
        """The labelled and the unlabelled rows of `index` and their shares of a batch; None where there is one kind.

        Raises UserError where no image of a kind is left.
        """
        if self.only is not None:
            return None
        hidden = np.array([name == UNLABELLED for name in index.source_names])[index.sources]
        rows = {LABELLED: np.flatnonzero(~hidden), UNLABELLED: np.flatnonzero(hidden)}
        for kind, found in rows.items():
            if not len(found):
                raise UserError(f"{self.name}: no {kind} training image is left after data.on_error={self.on_error}.")
        return [(rows[LABELLED], 1 - self.unlabelled_share), (rows[UNLABELLED], self.unlabelled_share)]

    def image_weights(self, index: AnnotationIndex) -> NDArray[np.float64] | None:
        """Of the labelled images those that `source` gives them, ``[N]``; 1 of others; None: all alike."""
        offered = getattr(self.source.source, "image_weights", None)
        if offered is None:
            return None
        mine = index.sources < len(self._names)
        own = offered(replace(index.select(mine), source_names=self._names))
        if own is None:
            return None
        weights = np.ones(len(index))
        weights[mine] = own
        return weights

    def notes(self) -> list[str]:
        """What a reader of its tables should know, one sentence each."""
        notes = []
        if self.labeled_fraction is not None:
            notes.append(f"{self.labeled_fraction:.3g} of the training images keep their labels (fold {self.fold})")
        if self.only is None:
            notes.append(f"{self.unlabelled_share:.0%} of the pictures of a batch are unlabelled")
        elif self.only == LABELLED:
            notes.append("trained on the labelled images alone")
        else:
            notes.append("trained with all labels")
        return notes

    def _train(self, *, complete: bool) -> tuple[AnnotationIndex, list[Problem]] | None:
        known = self._known(self.source, "train") if complete else None
        if complete and known is None:
            return None
        index, found = known or self._loaded(self.source)
        if not len(index):
            raise UserError("data.source: it has no training images, and one at least has to be labelled.")
        self._names = index.source_names
        rows, rest = np.arange(len(index)), np.arange(0)
        if self.labeled_fraction is not None:
            rows, rest = split_rows(len(index), self.labeled_fraction, self.fold)
        # What belongs to no image is told with the labelled ones.
        problems = of_selection(found, rows) + [problem for problem in found if problem.image is None]
        pieces = [named(index.select(rows), LABELLED)]
        if self.only != LABELLED:
            others = [(index.select(rest), of_selection(found, rest))]
            if self.unlabelled is not None:
                more = self._unlabelled(index, complete=complete)
                if more is None:
                    return None
                others.append(more)
            for part, found_there in others:
                problems += moved((p for p in found_there if complete or p.box is None), sum(map(len, pieces)))
                pieces.append(part if complete else in_label_space(part, index.classes, looked_for=()))
            hidden = concatenate(pieces[1:])
            if not len(hidden):
                raise UserError("data.unlabelled: there is no unlabelled image; give a folder of pictures.")
            pieces = [pieces[0], one_source(hidden, UNLABELLED)]
        return concatenate(pieces), problems

    def _unlabelled(self, index: AnnotationIndex, *, complete: bool) -> tuple[AnnotationIndex, list[Problem]] | None:
        assert self.unlabelled is not None
        known = self._known(self.unlabelled, "train") if complete else self._loaded(self.unlabelled)
        if known is None or (complete and not set(index.classes) <= set(known[0].classes)):
            return None
        more, problems = known
        _refuse_shared(index.paths.tolist(), more.paths.tolist())
        return in_label_space(more, index.classes), problems

    @staticmethod
    def _loaded(part: Part) -> tuple[AnnotationIndex, list[Problem]]:
        index, problems = part.load("train")
        return _renamed(part, index), problems

    @staticmethod
    def _known(part: Part, split: Split) -> tuple[AnnotationIndex, list[Problem]] | None:
        """With every object labelled, or None."""
        found = part.complete(split) or part.load(split)
        index = _renamed(part, found[0])
        return (index, found[1]) if len(index.classes) and index.annotated.all() else None


def _part(name: str, key: str, entry: Any, *, held_out: bool = False, images: bool = False) -> Part:
    part = read_part(name, key, entry, held_out=held_out, images=images)
    for word, value in (("fraction", part.fraction), ("weight", part.weight)):
        if value != 1:
            raise UserError(
                f"{key}.{word}: how many images are labelled is data.labeled_fraction, and how often the others are "
                "drawn data.unlabelled_share; leave it out."
            )
    return part


def _renamed(part: Part, index: AnnotationIndex) -> AnnotationIndex:
    """With the classes that the part's annotators looked for, by their new names."""
    classes = part.looked_for(index.classes)
    return in_label_space(index, classes, part.rename)


def _refuse_shared(labelled: Sequence[str], unlabelled: Sequence[str]) -> None:
    folder = cache(os.path.realpath)

    def place(path: str) -> str:
        return os.path.join(folder(os.path.dirname(path) or "."), os.path.basename(path))

    known = set(map(place, labelled))
    for path in unlabelled:
        if place(path) in known:
            raise UserError(
                f"data.unlabelled: {path} is among the images of data.source, too; leave it out of one of them."
            )
