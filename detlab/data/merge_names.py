"""Whether two class names are likely to mean the same thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

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
    a, b = _plain(one), _plain(other)
    if re.findall(r"\d+", a) != re.findall(r"\d+", b):
        return False
    if a == b or a in _singulars(b) or b in _singulars(a) or any({a, b} <= group for group in _SYNONYMS):
        return True
    if min(len(a), len(b)) < 4:
        return False  # of short words, one letter makes another: cat, bat
    match = SequenceMatcher(None, a, b)
    return match.real_quick_ratio() >= _ALIKE and match.quick_ratio() >= _ALIKE and match.ratio() >= _ALIKE


def near_misses(index: AnnotationIndex) -> Iterator[tuple[int, int]]:
    """Pairs of classes (earlier label, later label) with likely the same meaning, where no source looked for both:
    what one source calls so, another may call so."""
    used = index.annotated
    for later in range(len(index.classes)):
        for earlier in range(later):
            apart = not (used[:, earlier] & used[:, later]).any()
            if apart and likely_same(index.classes[earlier], index.classes[later]):
                yield earlier, later


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def _singulars(name: str) -> set[str]:
    endings = {"s": "", "es": "", "ies": "y"} if len(name) > 3 else {}
    return {name.removesuffix(end) + instead for end, instead in endings.items() if name.endswith(end)}
