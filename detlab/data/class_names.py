"""Whether two class names are likely to mean the same thing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import cache
from typing import NamedTuple

import numpy as np

from detlab.data.index import AnnotationIndex

# What the usual data sets call differently; spaces, hyphens, underscores and case are taken away first.
_SYNONYMS = (
    {"aeroplane", "airplane", "plane", "aircraft"},
    {"motorbike", "motorcycle"},
    {"bicycle", "bike", "cycle"},
    {"tvmonitor", "tv", "television", "monitor"},
    {"sofa", "couch"},
    {"pottedplant", "houseplant", "plant"},
    {"diningtable", "table"},
    {"person", "people", "pedestrian", "human"},
    {"car", "automobile"},
    {"truck", "lorry"},
    {"cellphone", "mobilephone", "phone"},
    {"cow", "cattle"},
    {"trafficlight", "trafficsignal"},
)
_ALIKE = 0.85  # of difflib; one letter of seven is another


def likely_same(one: str, other: str) -> bool:
    """Whether two names differ only in spelling (case, spaces, plural, a letter or so) or are known synonyms.

    Names with different numbers in them ("star5", "star6") are different things.
    """
    a, b = _spelling(one), _spelling(other)
    if a.numbers != b.numbers:
        return False
    if a.plain == b.plain or a.plain in b.singulars or b.plain in a.singulars:
        return True
    if a.synonyms is not None and a.synonyms == b.synonyms:
        return True
    shorter, longer = sorted((len(a.plain), len(b.plain)))
    if shorter < 4:
        return False  # of short words, one letter makes another: cat, bat
    # Bounds of the ratio that are quick to have: a merge may have a thousand classes.
    half = _ALIKE * (shorter + longer) / 2
    return (
        shorter >= half
        and (a.letters & b.letters).total() >= half
        and SequenceMatcher(None, a.plain, b.plain).ratio() >= _ALIKE
    )


def near_misses(index: AnnotationIndex) -> Iterator[tuple[int, int]]:
    """Pairs of classes (earlier label, later label) with likely the same meaning, where no source looked for both:
    what one source calls so, another may call so."""
    used = index.annotated.astype(np.int64)
    apart = np.triu(used.T @ used == 0, 1)
    for earlier, later in np.argwhere(apart).tolist():
        if likely_same(index.classes[earlier], index.classes[later]):
            yield earlier, later


class _Spelling(NamedTuple):
    plain: str
    numbers: tuple[str, ...]
    singulars: frozenset[str]
    synonyms: int | None
    letters: Counter[str]


@cache
def _spelling(name: str) -> _Spelling:
    plain = re.sub(r"[\s_-]+", "", name.casefold())
    endings = {"s": "", "es": "", "ies": "y"} if len(plain) > 3 else {}
    singulars = (plain.removesuffix(end) + instead for end, instead in endings.items() if plain.endswith(end))
    synonyms = next((number for number, names in enumerate(_SYNONYMS) if plain in names), None)
    return _Spelling(plain, tuple(re.findall(r"\d+", plain)), frozenset(singulars), synonyms, Counter(plain))
