"""The simulated merge of VOC 2007 and 2012 (Abbasi et al. 2020, Sec. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from detlab.data.checks.problems import OnError
from detlab.data.formats.voc import VocSource
from detlab.data.sources.simulate import SimulatedMerge


def voc_split(
    root: str,
    groups: Mapping[str | int, Sequence[str]],
    labels: Literal["own", "complete"] = "own",
    keep: Literal["own", "any"] | None = None,
    only: str | int | None = None,
    download: bool = False,
    on_error: OnError = "raise",
    seed: int = 0,
    name: str = "voc_split",
) -> SimulatedMerge:
    """Each year's trainval labelled for its own classes; val and test are the test set of 2007.

    root, download: see `VocSource`. groups: year → classes, ``{"2007": [...], "2012": [...]}``; the sources are
    called voc2007 and voc2012. labels, keep, only (voc2007 or voc2012): see `SimulatedMerge`. With
    ``labels="complete"`` it is the paper's upper bound: all images of both years that hold one of the classes.
    """
    parts = {
        f"voc{year}": {
            "classes": classes,
            "source": VocSource(root, years=[str(year)], train="trainval", download=download, name=f"voc{year}"),
        }
        for year, classes in groups.items()
    }
    test = VocSource(root, years=["2007"], val="test", test="test", download=download, name="voc2007")
    return SimulatedMerge(
        parts, evaluation=test, labels=labels, keep=keep, only=only, on_error=on_error, seed=seed, name=name
    )
