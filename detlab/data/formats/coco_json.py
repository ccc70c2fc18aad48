"""Decoding an instances JSON: fast while it is well-formed, patient record by record where it is not."""

from __future__ import annotations

import json
import mmap
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from detlab.data.checks.problems import Problem
from detlab.errors import UserError

_Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Side = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]

_WORDS = {
    "Object missing required field": "there is no",
    r"`array` of length (\d+)": r"\1 values",
    "`float`": "a number",
    "`int`": "a whole number",
    "`str`": "text",
    "`array`": "a list",
    "`object`": "an object",
}

# gc=False: none of these can be part of a cycle, and the collector would walk a million of them.


class CocoImage(msgspec.Struct, gc=False):
    """width and height are None or 0 where the file has none."""

    id: _Int
    file_name: str
    width: _Side | None = None
    height: _Side | None = None


class CocoAnnotation(msgspec.Struct, gc=False):
    """bbox: xywh pixels. id is −1 and area NaN where the file has none."""

    image_id: _Int
    category_id: _Int
    bbox: tuple[float, float, float, float]
    id: _Int = -1
    area: float = float("nan")
    iscrowd: _Int = 0


class CocoCategory(msgspec.Struct, gc=False):
    id: _Int
    name: str


class _Instances(msgspec.Struct, gc=False):
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


class _Categories(msgspec.Struct, gc=False):
    categories: list[CocoCategory]


@dataclass
class CocoFile:
    """The records of an instances file that could be decoded, and the problems of those that could not, each
    with the id of the image it speaks of, where it does."""

    images: list[CocoImage] = field(default_factory=list)
    annotations: list[CocoAnnotation] = field(default_factory=list)
    categories: list[CocoCategory] = field(default_factory=list)
    problems: list[tuple[Problem, int | None]] = field(default_factory=list)


def decode(path: Path) -> CocoFile:
    """The contents of an instances file.

    Raises UserError where the file is missing, is no JSON (naming line and column) or lacks a list of images,
    annotations or categories. A record of wrong fields or types becomes a problem.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # Mapped, so that half a gigabyte of text is never held in memory of our own.
            try:
                found = msgspec.json.decode(content, type=_Instances)
                return CocoFile(found.images, found.annotations, found.categories)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                return _patiently(path, content[:])
    except FileNotFoundError:
        raise UserError(f"{path}: no such annotation file.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this annotation file ({error.strerror or error}).") from None
    except ValueError as error:
        if isinstance(error, UserError) or path.stat().st_size:
            raise
        raise UserError(f"{path}: the annotation file is empty.") from None


def decode_categories(path: Path) -> list[CocoCategory]:
    """The categories alone, in the order of the file; raises as `decode` does."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Categories).categories
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return decode(path).categories


def _patiently(path: Path, content: bytes) -> CocoFile:
    # The standard library tells line and column, and reads the NaN that Python's own writer produces.
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: malformed JSON ({error.msg}).") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text ({error.reason}).") from None
    except RecursionError:
        raise UserError(f"{path}: malformed JSON (nested too deeply).") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a JSON object with images, annotations and categories, got a list or value.")
    result = CocoFile()
    for key, kind in (("images", CocoImage), ("annotations", CocoAnnotation), ("categories", CocoCategory)):
        records = document.get(key)
        if not isinstance(records, list):
            got = type(records).__name__ if key in document else "nothing"
            raise UserError(f"{path}: expected a list under '{key}', got {got}.")
        for number, record in enumerate(records):
            try:
                getattr(result, key).append(_convert(record, kind))
            except msgspec.ValidationError as error:
                where = _name_of(key, number, record)
                problem = Problem("malformed record", "error", str(path), where, _plain(str(error)))
                owner = record.get("image_id") if isinstance(record, dict) else None
                result.problems.append((problem, owner if isinstance(owner, int) else None))
    return result


def _convert(record: Any, kind: type[Any]) -> Any:
    # Also takes null for a field left out, numbers written as strings, and 640.0 for 640.
    if isinstance(record, dict):
        record = {key: value for key, value in record.items() if value is not None}
    return msgspec.convert(record, kind, strict=False)


def _plain(message: str) -> str:
    """msgspec's complaint in words: ``bbox[2]: expected a number, got text.``"""
    for code, words in _WORDS.items():
        message = re.sub(code, words, message)
    text, _, place = message.partition(" - at `$.")
    where = f"{place.rstrip('`')}: " if place else ""
    return f"{where}{text[0].lower()}{text[1:]}.".replace("`", "")


def _name_of(key: str, number: int, record: Any) -> str:
    if isinstance(record, dict) and isinstance(record.get("id"), int):
        return f"{ {'images': 'image', 'annotations': 'annotation', 'categories': 'category'}[key] } {record['id']}"
    return f"{key}[{number}]"
