"""Example pictures of several rows, the same picture under each, small enough for one page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from detlab.reporting.pages.content import first_run
from detlab.reporting.pages.data_address import data_address
from detlab.reporting.study.table import Table, TableRow

BUDGET = 4_000_000  # bytes of pictures on a page; as text in it they take a third more
MOST_PICTURES, MOST_TOTAL = 6, 36
WIDTHS = (820, 640, 480, 360, 240)  # pixels, tried in this order


class Example(NamedTuple):
    """One test picture: (row, data address) of each row that has it."""

    name: str
    pictures: list[tuple[TableRow, str]]


def examples(table: Table, budget: int = BUDGET) -> list[Example]:
    """`figures/example_*.png` of the first finished seed of each row, by name; as many as stay readable within the
    budget of bytes, as WebP. A picture that cannot be read is left out."""
    folders = [(row, run.folder / "figures") for row in table.rows if (run := first_run(row))]
    names = sorted({file.name for _, folder in folders for file in folder.glob("example_*.png")})
    names = _spread(names, min(MOST_PICTURES, max(1, MOST_TOTAL // max(1, len(folders)))))
    files = [(name, row, folder / name) for name in names for row, folder in folders if (folder / name).is_file()]
    while files:
        for width in WIDTHS:
            small = [(name, row, encode(path, width)) for name, row, path in files]
            if sum(len(content or b"") for _, _, content in small) <= budget:
                return _grouped([(name, row, content) for name, row, content in small if content])
        last = files[-1][0]
        files = [entry for entry in files if entry[0] != last]
    return []


def _spread(names: list[str], count: int) -> list[str]:
    if len(names) <= count:
        return names
    return [names[round(position * (len(names) - 1) / max(1, count - 1))] for position in range(count)]


def _grouped(found: list[tuple[str, TableRow, bytes]]) -> list[Example]:
    groups: dict[str, Example] = {}
    for name, row, content in found:
        example = groups.setdefault(name, Example(Path(name).stem, []))
        example.pictures.append((row, data_address(content, "image/webp")))
    return list(groups.values())


def encode(path: Path, width: int) -> bytes | None:
    """A picture no wider than that, as WebP; None where it cannot be read."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()
