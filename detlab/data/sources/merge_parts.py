"""One entry of a merge, from the config: a source, what its annotators looked for, and what its classes are called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import pydantic

from detlab.data.checks.problems import Problem, Split
from detlab.data.datamodule import Source
from detlab.data.index import AnnotationIndex
from detlab.data.sources.custom import CustomSource
from detlab.errors import UserError, nearest

_OF_MERGE = ("source", "classes", "rename", "fraction", "weight")
_FORMATS = ("voc", "coco", "yolo")
# Arguments of `CustomSource` that a merge gives or has a meaning of its own for.
_OWN = {"self", "classes", "on_error", "name"}
_EXAMPLE = "'+data.sources.a={format: voc, root: a, split: train, classes: [cat]}'"


@dataclass(frozen=True)
class Part:
    """A source within a merge. key: where its entry is in the config. classes: the names, there or here, that its
    annotators looked for; None: all. rename: from its names to those of the merge. fraction: the share of its
    training images that is used. weight: how often one of them is drawn, beside others.

    The part's sentences speak of keys under `place`, where the source's own are.
    """

    name: str
    key: str
    place: str
    source: Source
    classes: tuple[str, ...] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    fraction: float = 1.0
    weight: float = 1.0

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """What the source has, under its own names. Raises UserError for classes or renames that it has not."""
        try:
            index, problems = self.source.load(split)
        except UserError as error:
            raise UserError(_at(str(error), self.place)) from error
        for old in self.rename:
            if old not in index.classes:
                raise self._unknown("rename", old, index.classes)
        here = {*index.classes, *(self.rename.get(name, name) for name in index.classes)}
        for name in self.classes or ():
            if name not in here:
                raise self._unknown("classes", name, here)
        return index, problems

    def complete(self, split: Split) -> tuple[AnnotationIndex, list[Problem]] | None:
        """The same images with every object labelled, where the source knows."""
        complete = getattr(self.source, "complete", None)
        return None if complete is None else complete(split)

    def looked_for(self, classes: Iterable[str]) -> tuple[str, ...]:
        """The merge's names, each once, of those among the source's `classes` that its annotators looked for."""
        own = tuple(classes)
        names = [(old, self.rename.get(old, old)) for old in own]
        if self.classes is not None:
            # A name that the source has is its own; else it is the merge's. It may rename a to b and b to a.
            new_names = set(self.classes).difference(own)
            names = [(old, new) for old, new in names if old in self.classes or new in new_names]
        return tuple(dict.fromkeys(new for _, new in names))

    def _unknown(self, what: str, name: str, there: Iterable[str]) -> UserError:
        return UserError(f"{self.key}.{what}: source '{self.name}' has no class '{name}'{nearest(name, there)}.")


def read_parts(sources: Mapping[str, Any] | None, *, held_out: bool = True) -> list[Part]:
    """The entries under ``data.sources``. held_out: whether one without val images puts some aside.

    Raises UserError where there is none, or one is no source.
    """
    if not sources:
        raise UserError(f"data.sources: there is nothing to merge; give each source a name, as in {_EXAMPLE}.")
    parts = [read_part(str(name), f"data.sources.{name}", entry, held_out=held_out) for name, entry in sources.items()]
    seen: dict[str, str] = {}
    for part in parts:
        other = seen.setdefault(part.name.casefold(), part.name)
        if other != part.name:
            raise UserError(f"data.sources: '{other}' and '{part.name}' differ only in case; rename one of them.")
        if "/" in part.name:
            raise UserError(f"data.sources: '{part.name}' has a slash in its name; take another name.")
    return parts


def read_part(
    name: str, key: str, entry: Any, *, training: bool = True, held_out: bool = False, images: bool = False
) -> Part:
    """One entry: a source object; ``{source: <object>, ...}``; or ``{format: voc|coco|yolo, ...}`` with what
    `CustomSource` takes. The rest are the fields of `Part`; fraction and weight where it is for training. Unless
    `held_out`, a format without val images keeps none back: whatever split is asked for, it gives all it has. images:
    whether pictures without labels, ``{format: images, images: <folder>}``, will do.

    Raises UserError naming the key.
    """
    if hasattr(entry, "load"):
        return Part(name, key, key, entry)
    if not isinstance(entry, Mapping):
        raise UserError(f"{key}: expected a mapping with a format or a source, got {entry!r}; write it as {_EXAMPLE}.")
    content = dict(entry)
    given = {word: content.pop(word) for word in _OF_MERGE if word in content}
    if not training and (extra := sorted({"fraction", "weight"} & given.keys())):
        raise UserError(f"{key}.{extra[0]}: only training images are thinned out or weighted; leave it out.")
    source, place = given.get("source"), f"{key}.source"
    if source is None:
        formats = (*_FORMATS, "images") if images else _FORMATS
        source, place = _custom(name, key, content if held_out else {"val_fraction": 0.0} | content, formats), key
    elif content:
        word = next(iter(content))
        raise UserError(f"There is no key '{key}.{word}' beside a source; its own keys go under {key}.source.")
    elif not hasattr(source, "load"):
        raise UserError(f"{key}.source: expected a data source (with _target_), got {source!r}.")
    return Part(
        name,
        key,
        place,
        source,
        classes=_names(f"{key}.classes", given.get("classes")),
        rename=_renames(f"{key}.rename", given.get("rename")),
        fraction=_number(f"{key}.fraction", given.get("fraction", 1.0), "above 0 and at most 1", lambda v: 0 < v <= 1),
        weight=_number(f"{key}.weight", given.get("weight", 1.0), "above 0", lambda v: 0 < v < float("inf")),
    )


def _custom(name: str, key: str, content: dict[str, Any], formats: Sequence[str]) -> CustomSource:
    if content.get("format") not in formats:
        if content.get("format") == "images":
            raise UserError(f"{key}.format=images: pictures without labels are for data.unlabelled of data=semi alone.")
        if "format" in content:
            meant = nearest(str(content["format"]), formats)
            raise UserError(f"{key}.format={content['format']}: there is no such format{meant}.")
        got = ", ".join(str(word) for word in content if word != "val_fraction") or "neither"
        raise UserError(f"{key}: source '{name}' needs a format ({_words(formats)}) or a source, got {got}.")
    valid = set(inspect.signature(CustomSource.__init__).parameters) - _OWN
    hints = get_type_hints(CustomSource.__init__)
    for word, value in content.items():
        if word not in valid:
            options = valid | set(_OF_MERGE)
            raise UserError(f"There is no key '{key}.{word}' in the config{nearest(str(word), options)}.")
        try:
            pydantic.TypeAdapter(hints[word]).validate_python(value)
        except pydantic.ValidationError as error:
            text = error.errors()[0]["msg"]
            raise UserError(f"{key}.{word}={value!r}: {text[0].lower()}{text[1:]}.") from None
    try:
        return CustomSource(**content, name=name)
    except ValueError as error:
        raise UserError(_at(str(error), key)) from error


def _words(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _names(key: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise UserError(f"{key}: expected a list of class names, as [cat, dog], got {value!r}.")
    names = tuple(str(name) for name in value)
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{key}: class '{name}' stands there more than once.")
    return names


def _renames(key: str, value: Any) -> dict[str, str]:
    if value is not None and (
        not isinstance(value, Mapping) or not all(isinstance(n, str | int) and n != "" for n in value.values())
    ):
        raise UserError(f"{key}: expected old and new names, as {{airplane: aeroplane}}, got {value!r}.")
    return {str(old): str(new) for old, new in (value or {}).items()}


def _number(key: str, value: Any, range: str, fits: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise UserError(f"{key}={value}: expected a number {range}.")
    return float(value)


def _at(sentence: str, place: str) -> str:
    """A source's sentence with its keys where they are in a merge: ``data.root`` → ``data.sources.a.root``."""
    keys = "|".join(sorted(set(inspect.signature(CustomSource.__init__).parameters) - {"self", "on_error", "name"}))
    there = re.sub(rf"(?<![\w/.-])(?<!the )data\.(?=(?:{keys}|download)\b)(?!yaml:)", f"{place}.", sentence)
    return there if there != sentence else f"{place}: {sentence}"
