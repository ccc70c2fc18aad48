"""What is in the splits of a source, and every problem in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from detlab.data.checks.check_index import empty_split, find_problems
from detlab.data.checks.findings import partly_labelled, seen_in_training
from detlab.data.checks.problems import Problem, Split
from detlab.data.datamodule import Source
from detlab.data.index import AnnotationIndex

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitFindings:
    """A split's annotations, what is wrong with them, and the same images fully labeled where the source has that."""

    split: Split
    index: AnnotationIndex
    problems: list[Problem]
    complete: AnnotationIndex | None

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)


def check_splits(
    source: Source, splits: Sequence[Split], images: Literal["none", "header", "full"]
) -> Iterator[SplitFindings]:
    """Read splits and look for problems; one that has the images of an earlier one is passed over.

    Args:
        source: Where the annotations come from.
        splits: Which to read; train before the others, with which it is compared.
        images: What is read of the image files.
    """
    seen: set[bytes] = set()
    train: AnnotationIndex | None = None
    for split in splits:
        index, unread = source.load(split)
        identity = _identity(index)
        if identity in seen:  # the same images stand in for another split
            if train is not None and identity == _identity(train):
                log.warning("%s: these are the training images; what is measured on them says little.", split)
            continue
        seen.add(identity)
        empty = [] if len(index) else [empty_split(source.name, split)]
        partly = [] if split == "train" else partly_labelled(index, split)
        known = seen_in_training(index, train) if images == "full" and train is not None else ()
        train = index if split == "train" else train
        problems = [*unread, *empty, *partly, *known, *find_problems(index, read_images=images)]
        yield SplitFindings(split, index, problems, _complete(source, split))


def _identity(index: AnnotationIndex) -> bytes:
    return index.paths.tobytes() + index.boxes.tobytes()


def _complete(source: Source, split: Split) -> AnnotationIndex | None:
    """The fully labeled version of a split."""
    offered = getattr(source, "complete", None)
    found = offered(split) if offered else None
    return found[0] if found else None
