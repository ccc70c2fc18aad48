"""Pascal VOC: one XML file per picture, splits as lists of names in ``ImageSets/Main``.

VOC counts pixels from 1 and its corners are inclusive: ``(xmin − 1, ymin − 1, xmax, ymax)`` is the same box in
detlab's convention. `difficult` objects become `ignore`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml import ElementTree as SafeXml

from detlab.data.checks.problems import ABSENT, OnError, Problem, Split
from detlab.data.formats.voc_layout import download_voc, find_sets, list_names
from detlab.data.image import image_size
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError, nearest

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class VocSource:
    """A data set in VOC layout.

    root: the folder that holds ``VOCdevkit``, the ``VOCdevkit`` itself, or one set's folder (with
    ``Annotations``, ``ImageSets/Main`` and ``JPEGImages``). years: the sets to join, ``["2007", "2012"]`` for
    ``VOC2007`` and ``VOC2012``; None takes what is there. train, val, test: names of lists in
    ``ImageSets/Main``, read from every set, or from one as ``"2007_test"``; several are joined.
    classes: names in label order; None means the official twenty where years are given, else the sorted names
    found in the annotations (of all splits, so that labels agree between them). Another name is a problem.
    download: fetch missing years through torchvision first. Image ids are row numbers.
    """

    def __init__(
        self,
        root: str,
        years: Sequence[str] | None = None,
        train: str | Sequence[str] = "trainval",
        val: str | Sequence[str] = "test",
        test: str | Sequence[str] = "test",
        classes: Sequence[str] | None = None,
        download: bool = False,
        on_error: OnError = "raise",
        name: str = "voc",
    ) -> None:
        self.root = Path(root).expanduser()
        self.years = None if years is None else [str(year) for year in years]
        if self.years == []:
            raise ValueError("Expected at least one VOC year, got none.")
        if download and self.years is None:
            raise ValueError("Expected years to download, got years=None.")
        self.lists = {
            split: [value] if isinstance(value, str) else list(value)
            for split, value in (("train", train), ("val", val), ("test", test))
        }
        if classes is not None and len(set(classes)) != len(classes):
            raise ValueError(f"Expected distinct class names, got {list(classes)}.")
        self.classes = None if classes is None else tuple(classes)
        self.download = download
        self.on_error = on_error
        self.name = name

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """Read one split.

        Problems: XML that is missing, malformed or an entity bomb; objects without a name or box, of an unknown
        class, or whose corners are one point; names listed twice; a size that neither XML nor picture tells.
        Raises UserError where the folder or a list is missing.
        """
        if self.download:
            download_voc(self.root, self.years or [], self.lists[split])
        sets = find_sets(self.root, self.years)
        if self.classes is None:
            self.classes = VOC_CLASSES if self.years else _found_classes(list(sets.values()))
        reading = _Reading(self.classes)
        for entry in self.lists[split]:
            for folder, list_name in _listed_in(entry, sets):
                _read_list(folder, list_name, reading)
        index = AnnotationIndex.build(
            self.classes,
            paths=reading.paths,
            widths=[width for width, _ in reading.sizes],
            heights=[height for _, height in reading.sizes],
            box_images=reading.owners,
            boxes=reading.boxes,
            labels=reading.labels,
            ignore=reading.difficult,
            source_names=[self.name],
        )
        return index, reading.problems


@dataclass
class _Reading:
    classes: tuple[str, ...]
    paths: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.label_of = {name: label for label, name in enumerate(self.classes)}

    def problem(self, kind: str, file: str | Path, record: str, message: str, *, row: int | None = None) -> None:
        box = None if row is None else ABSENT
        self.problems.append(Problem(kind, "error", str(file), record, message, row, box))


def _listed_in(entry: str, sets: dict[str, Path]) -> list[tuple[Path, str]]:
    year, _, rest = entry.partition("_")
    if rest and year and year in sets:
        return [(sets[year], rest)]
    return [(folder, entry) for folder in sets.values()]


def _read_list(folder: Path, list_name: str, reading: _Reading) -> None:
    list_file = folder / "ImageSets" / "Main" / f"{list_name}.txt"
    try:
        lines = list_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        there = list_names(folder)
        says = f"there are {', '.join(there)}" if there else "there is no list at all; write one name a line"
        raise UserError(f"{list_file}: no such split{nearest(list_name, there)}; {says}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{list_file}: not a text file ({error}).") from None
    pictures = {path.stem: path.name for path in _files_in(folder / "JPEGImages")}
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if name not in pictures:
            name = name.split()[0]  # lists of one class have a second column
        if name in seen:
            reading.problem("duplicate image", list_file, f"line {number}", f"{name} is listed twice.")
            continue
        seen.add(name)
        picture = folder / "JPEGImages" / pictures.get(name, f"{name}.jpg")
        _read_xml(folder / "Annotations" / f"{name}.xml", picture, reading)


def _read_xml(path: Path, picture: Path, reading: _Reading) -> None:
    root = _parse(path, reading)
    if root is None:
        return
    size = _size_of(root)
    if size is None:
        try:
            size = image_size(picture)
        except UserError as error:
            reading.problem("unknown image size", path, "", f"the XML tells no size, and {error}")
            return
    row = len(reading.paths)
    reading.paths.append(str(picture))
    reading.sizes.append(size)
    for number, item in enumerate(root.findall("object"), 1):
        name = (item.findtext("name") or "").strip()
        record = f"object {number} ({name})" if name else f"object {number}"
        label = reading.label_of.get(name)
        box = item.find("bndbox")
        corners = None if box is None else _numbers(box, _SIDES)
        if label is None:
            message = f"unknown class '{name}'{nearest(name, reading.classes)}." if name else "it has no name."
            reading.problem("unknown class", path, record, message, row=row)
        elif corners is None:
            message = "expected numbers in bndbox/xmin, ymin, xmax and ymax."
            reading.problem("malformed box", path, record, message, row=row)
        elif corners[0] == corners[2] and corners[1] == corners[3]:
            # One pixel by the letter of VOC; in practice a stray click.
            message = f"zero-area box: both corners are at ({corners[0]:g}, {corners[1]:g})."
            reading.problem("zero-area box", path, record, message, row=row)
        else:
            reading.owners.append(row)
            reading.boxes.append((corners[0] - 1, corners[1] - 1, corners[2], corners[3]))
            reading.labels.append(label)
            reading.difficult.append((item.findtext("difficult") or "0").strip() == "1")


def _parse(path: Path, reading: _Reading) -> Element | None:
    try:
        return SafeXml.parse(path).getroot()
    except FileNotFoundError:
        reading.problem("missing annotation", path, "", "no such annotation file.")
    except ParseError as error:
        line, column = error.position
        reading.problem(
            "malformed XML",
            path,
            f"line {line}, column {column + 1}",
            f"malformed XML ({str(error).partition(':')[0]}).",
        )
    except DefusedXmlException as error:
        message = f"refused, it declares XML entities, which no annotation needs ({type(error).__name__})."
        reading.problem("malformed XML", path, "", message)
    except (OSError, ValueError, LookupError) as error:
        reading.problem("malformed XML", path, "", f"cannot be read ({error}).")
    return None


def _found_classes(folders: Sequence[Path]) -> tuple[str, ...]:
    names: set[str] = set()
    for folder in folders:
        for path in _files_in(folder / "Annotations", ".xml"):
            # A damaged file becomes a problem when its split is read.
            with suppress(ParseError, DefusedXmlException, OSError, ValueError, LookupError):
                names.update((item.findtext("name") or "").strip() for item in SafeXml.parse(path).iter("object"))
    names.discard("")
    if not names:
        there = ", ".join(str(folder / "Annotations") for folder in folders)
        raise UserError(f"{there}: no object with a class name in any XML file; name them with data.classes.")
    return tuple(sorted(names))


def _size_of(root: Element) -> tuple[int, int] | None:
    size = root.find("size")
    sides = None if size is None else _numbers(size, ("width", "height"))
    return None if sides is None or min(sides) < 1 else (int(sides[0]), int(sides[1]))


def _numbers(parent: Element, tags: Sequence[str]) -> list[float] | None:
    try:
        return [float(parent.findtext(tag, "")) for tag in tags]
    except ValueError:
        return None


def _files_in(folder: Path, *suffixes: str) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not suffixes or path.suffix.lower() in suffixes)
