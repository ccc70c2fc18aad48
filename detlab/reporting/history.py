"""A run's history, as columns."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detlab.data.files import read_text
from detlab.errors import UserError


def read_history(path: str | Path) -> dict[str, NDArray[np.float64]]:
    """``metrics.csv`` → column → float64 ``[rows]``, nan in empty cells; ``{}`` if there is no such file.

    Raises UserError for a cell that is no number. A last row cut off while it was written is left out.
    """
    path = Path(path)
    rows = list(csv.reader(read_text(path).splitlines()))
    if not rows:
        return {}
    names, body = rows[0], rows[1:]
    if body and len(body[-1]) != len(names):
        body = body[:-1]
    columns = {name: np.full(len(body), np.nan) for name in names}
    for number, row in enumerate(body):
        for name, cell in zip(names, row):
            try:
                columns[name][number] = float(cell) if cell.strip() else np.nan
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number + 2}: expected a number for {name}, got '{cell[:40]}'."
                ) from error
    return columns
