"""The fully labelled portion of a merge, as the data that its proxy classifier learns from."""

from __future__ import annotations

from detlab.data.checks.problems import Problem, Split
from detlab.data.datamodule import Source
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge import MergeSource


class Auxiliary:
    """A source whose training images are those of the merge's `auxiliary`; the others are the merge's own.

    classes_of_interest: the merge's. Further ones are there to be rejected."""

    def __init__(self, merge: MergeSource) -> None:
        self.merge = merge
        self.classes_of_interest = merge.classes_of_interest
        self.name, self.on_error, self.seed = merge.name, merge.on_error, merge.seed

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        found = self.merge.auxiliary(split)
        assert found is not None, "only of a merge that has such images"
        return found


def auxiliary(source: Source) -> Source:
    """What a proxy classifier learns from where `data=` names `source`: the auxiliary images of a merge that has such,
    else the source itself."""
    return Auxiliary(source) if isinstance(source, MergeSource) and source.extra is not None else source
