"""The baseline: what nobody labelled is background."""

from __future__ import annotations

from dataclasses import replace

from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.structures import Targets


class AllBackground(PseudoLabelCallback):
    """Every image counts as if its annotators had looked for every class, whatever the merge knows; one in which nobody
    looked for anything stays without a signal."""

    def transform_targets(self, targets: list[Targets]) -> list[Targets]:
        return [replace(t, annotated=t.annotated.any().expand_as(t.annotated).clone()) for t in targets]
