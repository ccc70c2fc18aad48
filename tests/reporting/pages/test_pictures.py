from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detlab.reporting.pages.pictures import MOST_PICTURES, MOST_TOTAL, encode, examples
from detlab.reporting.study.table import Run, Table, TableRow


def make_table(root: Path, rows: int, pictures: int, size: tuple[int, int] = (80, 50)) -> Table:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    made = []
    for number in range(rows):
        folder = root / f"row{number}"
        (folder / "figures").mkdir(parents=True)
        for n in range(pictures):
            Image.fromarray(noise).save(folder / f"figures/example_{n:02d}.png")
        made.append(TableRow(f"r{number}", f"r{number}", {}, [Run(folder, 0, "finished")]))
    return Table("t", "t", "mini", ["AP"], made)


def content(address: str) -> bytes:
    kind, _, text = address.partition(";base64,")
    assert kind == "data:image/webp"
    return base64.b64decode(text)


def test_the_same_pictures_of_the_first_finished_seed(tmp_path: Path) -> None:
    table = make_table(tmp_path, 2, 3)
    (tmp_path / "row1/figures/example_02.png").write_bytes(b"no picture")
    later = Run(tmp_path / "row0", 3, "finished")
    first = Run(tmp_path / "elsewhere", 1, "failed")
    table.rows[0].runs.extend([later, first])  # type: ignore[attr-defined]
    found = examples(table)
    assert [example.name for example in found] == ["example_00", "example_01", "example_02"]
    assert [[row.name for row, _ in example.pictures] for example in found] == [["r0", "r1"], ["r0", "r1"], ["r0"]]
    assert Image.open(io.BytesIO(content(found[0].pictures[0][1]))).size == (80, 50)


@pytest.mark.parametrize(("rows", "pictures"), [(1, 9), (12, 9), (50, 9)])
def test_number_is_limited_and_spread(tmp_path: Path, rows: int, pictures: int) -> None:
    found = examples(make_table(tmp_path, rows, pictures))
    assert len(found) == max(1, min(MOST_PICTURES, MOST_TOTAL // rows))
    assert found[0].name == "example_00"
    if len(found) > 1:
        assert found[-1].name == "example_08"


@pytest.mark.slow
def test_the_budget_is_kept(tmp_path: Path) -> None:
    table = make_table(tmp_path, 2, 4, (900, 600))  # noise, which does not compress
    for budget in (2_000_000, 300_000, 60_000):
        found = examples(table, budget)
        sizes = [len(content(address)) for example in found for _, address in example.pictures]
        assert 0 < sum(sizes) <= budget
    assert examples(table, 10) == []


def test_encode_keeps_proportions_and_refuses_what_is_no_picture(tmp_path: Path) -> None:
    Image.new("RGBA", (400, 100)).save(tmp_path / "wide.png")
    assert Image.open(io.BytesIO(encode(tmp_path / "wide.png", 200) or b"")).size == (200, 50)
    (tmp_path / "cut.png").write_bytes((tmp_path / "wide.png").read_bytes()[:60])
    assert encode(tmp_path / "cut.png", 200) is None
