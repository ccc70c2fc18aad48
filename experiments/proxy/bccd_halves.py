"""BCCD as two data sets with different labels: half of it in VOC layout with red cells, half as YOLO txt with the rest.

    python experiments/proxy/bccd_halves.py <BCCD> data/bccd_halves

writes from BCCD's list `trainval`, less a small portion that neither half holds:

- ``red``, VOC: one half of the pictures, labelled {RBC};
- ``white``, YOLO txt: the other half, labelled {WBC, Platelets};
- ``full``, VOC: every picture with all labels, and the lists `halves`, `labelled` (the small portion, to train a proxy
  classifier on) and `test`.

The same seed writes the same files. Boxes without area (BCCD has two) are left out. `data=bccd_halves` reads them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from detlab.data.checks.check_index import clean, find_problems
from detlab.data.formats.voc import VocSource
from detlab.data.formats.voc_write import write_voc
from detlab.data.formats.yolo_txt import write_yolo
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge_index import in_label_space

HALVES = {"red": ["RBC"], "white": ["WBC", "Platelets"]}


def write_halves(bccd: Path, folder: Path, seed: int = 0, portion: float = 0.1) -> dict[str, AnnotationIndex]:
    """Write the folders; returns what each holds by name: red, white, labelled, test."""
    source = VocSource(str(bccd), classes=["RBC", "WBC", "Platelets"], name="bccd")
    pictures, test = (read(source, split) for split in ("train", "test"))
    order = np.random.default_rng(seed).permutation(len(pictures))
    labelled, rest = np.split(order, [round(portion * len(order))])
    red, white = (np.sort(rows) for rows in np.array_split(rest, 2))
    parts = {
        "red": in_label_space(pictures.select(red), HALVES["red"]),
        "white": in_label_space(pictures.select(white), HALVES["white"]),
        "labelled": pictures.select(np.sort(labelled)),
        "test": test,
    }
    write_voc(parts["red"], folder / "red")
    write_yolo(parts["white"], folder / "white")
    for name, index in (("halves", pictures.select(np.sort(rest))), *list(parts.items())[2:]):
        write_voc(index, folder / "full", name)
    return parts


def read(source: VocSource, split: str) -> AnnotationIndex:
    index, problems = source.load(split)
    return clean(index, [*problems, *find_problems(index)], "skip_box")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", type=Path, help="folder with Annotations, ImageSets and JPEGImages")
    parser.add_argument("folder", type=Path, help="where the halves go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--portion", type=float, default=0.1, help="share of the pictures in neither half")
    arguments = parser.parse_args()
    for name, index in write_halves(arguments.bccd, arguments.folder, arguments.seed, arguments.portion).items():
        print(f"{name}: {index.describe()}")


if __name__ == "__main__":
    main()
