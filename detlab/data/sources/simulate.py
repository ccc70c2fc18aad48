"""A merge of partly labelled data sets, made from fully labelled ones: what is missing is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detlab.data.checks.problems import OnError, Problem, Split, of_selection
from detlab.data.datamodule import Source
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge_index import concatenate, in_label_space, moved, one_source
from detlab.errors import UserError, nearest


class SimulatedMerge:
    """Groups of classes, each labelled in images of its own (Abbasi et al. 2020, Sec. 5).

    groups: name → list of classes, two groups or more without a class in common, or ``{classes: [...], source:
    <source>}``. Training images of a group are those of its own source, or else its share of `source`: the images of
    `source` are dealt out at random by `seed`, as many to each group. An image is kept when it holds an object of the
    group that is not ignored (difficult; the paper does not say), and keeps the labels of the group's classes alone:
    others were not looked for in it.

    val, test: those of `evaluation`, else of `source`, fully labelled with the classes of all groups; images without
    any of them stay.

    labels: ``"own"``, or ``"complete"``: nothing is dropped from the training labels, the upper bound. keep: ``"own"``,
    images with an object of their group, or ``"any"``, of any group (the paper's upper bound, more images); None: any
    with complete labels, else own. only: the name of one group, or its position from 0, whose images are used alone;
    the other groups' classes stay in the list of classes, but nobody looked for them, in training as in evaluation.
    Labels, order and image ids (row numbers of the merge) agree between all of these, so long as `keep` is the same.

    Raises UserError for groups that overlap, hold an unknown class or get no image.
    """

    def __init__(
        self,
        groups: Mapping[str, Any],
        source: Source | None = None,
        evaluation: Source | None = None,
        labels: Literal["own", "complete"] = "own",
        keep: Literal["own", "any"] | None = None,
        only: str | int | None = None,
        on_error: OnError = "raise",
        seed: int = 0,
        name: str = "simulated",
    ) -> None:
        self.groups, self.sources = _read_groups(groups)
        if labels not in ("own", "complete"):
            raise ValueError(f"Expected labels 'own' or 'complete', got {labels!r}.")
        if keep not in ("own", "any", None):
            raise ValueError(f"Expected keep 'own' or 'any', got {keep!r}.")
        if isinstance(only, int) and 0 <= only < len(self.groups):
            only = list(self.groups)[only]
        if only is not None and only not in self.groups:
            raise UserError(f"data.only={only}: there is no such group{nearest(str(only), self.groups)}.")
        for group in self.groups:
            if group not in self.sources and source is None:
                raise UserError(f"data.groups.{group}: it has no images; give it a source, or all of them data.source.")
        if source is None and evaluation is None:
            raise UserError("data.evaluation: there is nothing to evaluate on; give a fully labelled source.")
        self.source, self.evaluation = source, evaluation
        self.fully, self.only = labels == "complete", only
        self.keep = keep or ("any" if self.fully else "own")
        self.on_error, self.seed, self.name = on_error, seed, name
        self.classes = tuple(name for names in self.groups.values() for name in names)

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """Train: partly labelled, unless `labels` is complete; val, test: fully. Problems are those of the readers."""
        return self._load(split, complete=self.fully)

    def complete(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """The same images in the same order with the labels of every group."""
        return self._load(split, complete=True)

    def notes(self) -> list[str]:
        """How many labels are missing as the paper counts: of all images with an object of any group, those among them
        that were left out because none is of their own group."""
        if self.fully or self.only is not None:
            return []
        everything = copy(self)
        everything.keep = "any"
        index, full = self.load("train")[0], everything.complete("train")[0]
        labelled, objects = (int((~part.ignore).sum()) for part in (index, full))
        return [
            f"counted as in the paper, against all {len(full):,} images with one of the classes, "
            f"{1 - labelled / objects:.1%} of {objects:,} labels are missing"
        ]

    def _load(self, split: Split, *, complete: bool) -> tuple[AnnotationIndex, list[Problem]]:
        if split != "train":
            return self._evaluated(split, complete=complete)
        indexes: list[AnnotationIndex] = []
        problems: list[Problem] = []
        shared = self.source.load("train") if self.source and len(self.sources) < len(self.groups) else None
        for group, (index, found) in self._shares(shared).items():
            full = in_label_space(index, self.classes)
            rows = np.flatnonzero(_holds(full, self._labels(group) if self.keep == "own" else range(len(self.classes))))
            if not len(rows):
                raise UserError(
                    f"data.groups.{group}: none of its {len(index)} training images holds an object of "
                    f"{', '.join(self.groups[group])}; give it other classes or another source."
                )
            looked_for = self.classes if complete else self.groups[group]
            problems += moved(of_selection(found, rows), sum(map(len, indexes)))
            if self.only in (None, group):
                problems += [problem for problem in found if problem.image is None]
            labelled = in_label_space(index.select(rows), self.classes, looked_for=looked_for)
            indexes.append(one_source(labelled, group))
        merged = concatenate(indexes)
        if self.only is None:
            return merged, problems
        rows = np.flatnonzero(merged.sources == list(self.groups).index(self.only))
        whole = [problem for problem in problems if problem.image is None]
        return merged.select(rows), of_selection(problems, rows) + whole

    def _evaluated(self, split: Split, *, complete: bool) -> tuple[AnnotationIndex, list[Problem]]:
        source, where = (self.evaluation, "evaluation") if self.evaluation else (self.source, "source")
        assert source is not None, "the constructor saw to it"
        index, problems = source.load(split)
        self._check_classes(index, f"data.{where}")
        seen = self.classes if self.only is None or complete else self.groups[self.only]
        return in_label_space(index, self.classes, looked_for=seen), problems

    def _shares(
        self, shared: tuple[AnnotationIndex, list[Problem]] | None
    ) -> dict[str, tuple[AnnotationIndex, list[Problem]]]:
        """The training images of each group before any is left out."""
        without = [group for group in self.groups if group not in self.sources]
        order = np.random.default_rng(self.seed).permutation(len(shared[0]) if shared else 0)
        dealt = dict(zip(without, map(np.sort, np.array_split(order, max(len(without), 1))), strict=False))
        shares = {}
        for group in self.groups:
            if group in self.sources:
                shares[group] = self.sources[group].load("train")
                self._check_classes(shares[group][0], f"data.groups.{group}.source")
            else:
                assert shared is not None
                index, problems = shared
                self._check_classes(index, "data.source")
                mine = of_selection(problems, dealt[group])
                if group == without[0]:  # what belongs to no image is told once
                    mine += [problem for problem in problems if problem.image is None]
                shares[group] = (index.select(dealt[group]), mine)
        return shares

    def _check_classes(self, index: AnnotationIndex, where: str) -> None:
        for group, names in self.groups.items():
            for name in names:
                if name not in index.classes:
                    raise UserError(
                        f"data.groups.{group}: {where} has no class '{name}'{nearest(name, index.classes)}; it has to "
                        "be fully labelled."
                    )

    def _labels(self, group: str) -> list[int]:
        return [self.classes.index(name) for name in self.groups[group]]


def _read_groups(groups: Mapping[str, Any]) -> tuple[dict[str, tuple[str, ...]], dict[str, Source]]:
    classes: dict[str, tuple[str, ...]] = {}
    sources: dict[str, Source] = {}
    for group, entry in groups.items():
        content = dict(entry) if isinstance(entry, Mapping) else {"classes": entry}
        names, source = content.pop("classes", None), content.pop("source", None)
        if content:
            word = str(next(iter(content)))
            raise UserError(f"There is no key 'data.groups.{group}.{word}'{nearest(word, ('classes', 'source'))}.")
        if isinstance(names, str) or not isinstance(names, Sequence) or not names:
            raise UserError(f"data.groups.{group}: expected a list of class names, as [cat, dog], got {names!r}.")
        classes[str(group)] = tuple(map(str, names))
        if source is not None:
            sources[str(group)] = source
    if len(classes) < 2:
        raise UserError(f"data.groups: expected two groups of classes or more, got {len(classes)}.")
    owner: dict[str, str] = {}
    for group, own in classes.items():
        for name in own:
            if name in owner:
                twice = f"twice in '{group}'" if owner[name] == group else f"in '{owner[name]}' and in '{group}'"
                raise UserError(f"data.groups: class '{name}' is {twice}; groups share no class.")
            owner[name] = group
    return classes, sources


def _holds(index: AnnotationIndex, labels: Sequence[int] | range) -> NDArray[np.bool_]:
    """Whether each image ``[N]`` has a box of these labels that is not ignored."""
    counted = np.isin(index.labels, labels) & ~index.ignore
    return np.bincount(index.box_images[counted], minlength=len(index)) > 0
