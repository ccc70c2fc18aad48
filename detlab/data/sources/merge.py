"""Several data sets as one, each labelled for its own classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detlab.data.checks.problems import OnError, Problem, Split, of_selection
from detlab.data.index import AnnotationIndex, split_rows
from detlab.data.relabel import relabel
from detlab.data.sources.merge_complete import labels_from
from detlab.data.sources.merge_index import concatenate, in_label_space, moved, named
from detlab.data.sources.merge_parts import Part, read_part, read_parts
from detlab.errors import UserError, nearest

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


class MergeSource:
    """Any number of sources with one list of classes; each image's `annotated` says what was looked for in it.

    sources: name → ``{format: voc|coco|yolo, ...}`` with what `CustomSource` takes, or ``{source: <any source>}``, and
    beside it

    - classes: those its annotators looked for, by their names there or here; None: all it has. Boxes of others are
      dropped: some were drawn by the way, most were not;
    - rename: its names → those of the merge, as ``{airplane: aeroplane}``; two may become one;
    - fraction: the share of its training images that is used, drawn by `seed`;
    - weight: how often one of its training images is drawn, beside one of weight 1.

    classes: the classes of the merge in the order of their labels; None: all that any source looked for, in order of
    appearance. Boxes of other classes are dropped.

    val, test: fully labelled data to evaluate on, an entry as in `sources` that has every class of the merge (it may
    have more); where it has but one list of images, that is meant. test is val unless said otherwise. Without val,
    that split is the merge of the sources' own, where a class counts only in images whose annotators looked for it;
    with it, formats without val images use all they have for training.

    only: the name of one source, or its position from 0, whose images are used alone; the list of classes stays that
    of the merge, but nobody looked for the others, in training as in evaluation.

    complete: an entry with every object of the training images labelled, the same pictures by file name; for
    comparison alone. Without one, the method works where every source has it.

    auxiliary: an entry with every object labelled that a proxy classifier learns from (``task=proxy``), like `val`; its
    images are used for nothing else, and what it has of other classes is for the classifier to reject.

    labels: ``"own"``, or ``"complete"``: those of `complete` for the training images, the upper bound.

    Image ids are row numbers of the merge and category ids 1…C; those of an own `val` or `test` stay its own.
    """

    def __init__(
        self,
        sources: Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        val: Any = None,
        test: Any = None,
        complete: Any = None,
        auxiliary: Any = None,
        only: str | int | None = None,
        labels: Literal["own", "complete"] = "own",
        on_error: OnError = "raise",
        seed: int = 0,
        name: str = "merge",
    ) -> None:
        self.parts = read_parts(sources, held_out=val is None)
        self.whole: dict[Split, Part] = {}
        if val is not None:
            self.whole["val"] = self.whole["test"] = read_part("val", "data.val", val, training=False)
        if test is not None:
            self.whole["test"] = read_part("test", "data.test", test, training=False)
        self.full = None if complete is None else read_part("complete", "data.complete", complete, training=False)
        self.extra = None if auxiliary is None else read_part("auxiliary", "data.auxiliary", auxiliary, training=False)
        if classes is not None and (not classes or len(set(classes)) != len(classes)):
            raise UserError(f"data.classes: expected different class names, got {list(classes)}.")
        self.classes = None if classes is None else tuple(classes)
        names = [part.name for part in self.parts]
        if isinstance(only, int) and 0 <= only < len(names):
            only = names[only]
        self.only = next((part for part in self.parts if part.name == only), None)
        if only is not None and self.only is None:
            raise UserError(f"data.only={only}: there is no such source{nearest(str(only), names)}.")
        if labels not in ("own", "complete"):
            raise ValueError(f"Expected labels 'own' or 'complete', got {labels!r}.")
        self.labels = labels
        self.on_error, self.seed, self.name = on_error, seed, name
        self._found: dict[str, tuple[str, ...]] = {}  # the merge's names of what a part looked for
        self._others: tuple[str, ...] | None = None  # classes of `auxiliary` alone

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """Read one split; problems are those of the readers. Raises UserError for names that do not fit."""
        if split in self.whole:
            index, problems = self._fully_labelled(self.whole[split], split)
            seen = None if self.only is None else self._found[self.only.name]
            return in_label_space(index, index.classes, looked_for=seen), problems
        if self.labels == "own":
            return self._partly(split)
        known = self.complete(split)
        if known is None:
            raise UserError(
                "data.labels=complete: not every source knows all labels; give data.complete, a fully labelled version "
                "of the training images."
            )
        return known

    def _partly(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        return self._join(split, [part.load(split) for part in self.parts])

    def complete(self, split: Split) -> tuple[AnnotationIndex, list[Problem]] | None:
        """The images of ``load(split)``, in the same order, with every object labelled; None where nobody knows."""
        if split in self.whole:
            return self._fully_labelled(self.whole[split], split)
        if self.full is not None:
            return self._completed(self.full, split), []
        loaded = [part.complete(split) for part in self.parts]
        known = [pair for pair in loaded if pair is not None]
        return self._join(split, known, complete=True) if len(known) == len(loaded) else None

    def auxiliary(self, split: Split) -> tuple[AnnotationIndex, list[Problem]] | None:
        """What a proxy classifier learns from and is judged on: for train the images of `auxiliary`; None without.
        Behind the classes of the merge stand those that `auxiliary` has besides, for which others did not look."""
        if self.extra is None:
            return None
        if split == "train":
            return self._fully_labelled(self.extra, split, self._further())
        index, problems = self.load(split)
        return relabel(index, [*index.classes, *self._further()]), problems

    @property
    def classes_of_interest(self) -> tuple[str, ...]:
        """The label space."""
        return self._label_space()

    def image_weights(self, index: AnnotationIndex) -> NDArray[np.float64] | None:
        """How often each image of `index` is drawn beside the others, ``[N]``; None: all alike."""
        weight_of = {part.name: part.weight for part in self.parts}
        if len(set(weight_of.values())) == 1:
            return None
        # The source of a merge within the merge is "<its entry>/<its own name>".
        weights = [weight_of[name.partition("/")[0]] for name in index.source_names]
        return np.array(weights)[index.sources]

    def notes(self) -> list[str]:
        """What a reader of its tables should know: renamed classes, images left out, weights; one sentence each."""
        notes = []
        for part in self.parts:
            joined: dict[str, list[str]] = {}
            for old, new in part.rename.items():
                joined.setdefault(new, []).append(old)
            notes += [f"{part.name}: {', '.join(old)} → {new}" for new, old in joined.items()]
            if part.fraction < 1:
                notes.append(f"{part.name}: {part.fraction:.3g} of its training images")
            if part.weight != 1:
                notes.append(f"{part.name}: an image is drawn {part.weight:.3g} times as often as one of weight 1")
        return notes

    def _join(
        self, split: Split, loaded: Sequence[tuple[AnnotationIndex, list[Problem]]], *, complete: bool = False
    ) -> tuple[AnnotationIndex, list[Problem]]:
        for part, (index, _) in zip(self.parts, loaded, strict=True):
            self._found[part.name] = part.looked_for(index.classes)
        classes = self._label_space()
        indexes: list[AnnotationIndex] = []
        problems: list[Problem] = []
        for part, (index, found) in zip(self.parts, loaded, strict=True):
            if split == "train" and part.fraction < 1:
                rows, _ = split_rows(len(index), part.fraction, self.seed)
                index, found = index.select(rows), [*of_selection(found, rows), *(p for p in found if p.image is None)]
            own = moved(found, sum(map(len, indexes)))
            problems += own if self.only in (None, part) else []
            wanted = classes if complete else self._found[part.name]
            indexes.append(named(in_label_space(index, classes, part.rename, wanted), part.name))
        merged = concatenate(indexes)
        if self.only is None:
            return merged, problems
        start = self.parts.index(self.only)
        first, count = sum(map(len, indexes[:start])), len(indexes[start])
        rows = np.arange(first, first + count)
        whole = [problem for problem in problems if problem.image is None]  # files that are no image of the index
        return merged.select(rows), of_selection(problems, rows) + whole

    def _completed(self, part: Part, split: Split) -> AnnotationIndex:
        index, _ = self._partly(split)
        wanted = {Path(path).stem for path in index.paths}
        full: list[AnnotationIndex] = []
        for other in _SPLITS:
            labels, _ = self._fully_labelled(part, other)
            full.append(labels)
            wanted -= {Path(path).stem for path in labels.paths}
            if not wanted:
                break
        return labels_from(index, full, part.key)

    def _further(self) -> tuple[str, ...]:
        """What `auxiliary` has beyond the classes of the merge."""
        if self._others is None:
            assert self.extra is not None
            found = self.extra.looked_for(self.extra.load("train")[0].classes)
            self._others = tuple(name for name in found if name not in self._label_space())
        return self._others

    def _fully_labelled(
        self, part: Part, split: Split, further: tuple[str, ...] = ()
    ) -> tuple[AnnotationIndex, list[Problem]]:
        classes = self._label_space()
        index, problems = part.load(split)
        found = part.looked_for(index.classes)
        for name in classes:
            if name not in found:
                owner = next(other.key for other in self.parts if name in self._found[other.name])
                raise UserError(
                    f"{part.key}: it has no class '{name}', which {owner} has{nearest(name, found)}; rename it in "
                    f"either ({owner}.rename, {part.key}.rename), name the classes to be learnt in data.classes, or "
                    f"leave {part.key} out."
                )
        return named(in_label_space(index, (*classes, *further), part.rename, found), part.name), problems

    def _label_space(self) -> tuple[str, ...]:
        for part in self.parts:
            if part.name not in self._found:
                index, _ = part.load("train")
                self._found[part.name] = part.looked_for(index.classes)
        found = tuple(dict.fromkeys(name for part in self.parts for name in self._found[part.name]))
        for name in self.classes or ():
            if name not in found:
                raise UserError(f"data.classes: no source looked for class '{name}'{nearest(name, found)}.")
        return found if self.classes is None else self.classes
