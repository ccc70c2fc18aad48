"""What `detlab report <source>` may be given, found: a run, a folder of runs, studies, or a comparison on record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from detlab.errors import UserError, nearest
from detlab.reporting.pages.run import RUN_FILES
from detlab.reporting.study.definition import find_studies

Kind = Literal["run", "folder", "studies", "record"]


class Source(NamedTuple):
    kind: Kind
    paths: list[Path]  # several only of studies


def find_source(source: str, experiments: Sequence[Path]) -> Source:
    """Find a source by its path, or by its name below one of the folders `experiments`.

    A path is a study's file, a record (``.json``), a run's folder, a paper's folder (all its studies), the folder with
    a study's rows, or any folder that runs lie in. A name is ``<paper>/<table>`` or ``<paper>``. Raises UserError,
    with near names, for what is neither.
    """
    path = Path(source)
    if path.is_file():
        return _of_file(path)
    if path.is_dir():
        return _of_folder(path)
    for root in experiments:
        for place in (root / f"{source}.yaml", root / source):
            if place.is_file() and place.suffix == ".yaml":
                return Source("studies", [place])
            if place.is_dir():
                found = _of_folder(place)
                if found.kind == "studies":
                    return found
    close = nearest(source.removesuffix(".yaml"), _names(experiments)) if source.count("/") <= 1 else ""
    raise UserError(
        f"{source}: there is no such file, folder or table{close}; give a table's file or name, a run's folder, or a "
        "folder that holds runs."
    )


def _of_file(path: Path) -> Source:
    if path.suffix == ".yaml" and path.name != "config.yaml":
        return Source("studies", [path])
    if path.suffix == ".json" and path.name not in RUN_FILES:
        return Source("record", [path])
    mend = f"; give its folder, {path.parent}" if path.name in RUN_FILES else ""
    raise UserError(f"{path}: this is no table (.yaml) and no recorded comparison (.json){mend}.")


def _of_folder(path: Path) -> Source:
    if any((path / name).is_file() for name in RUN_FILES):
        return Source("run", [path])
    if studies := find_studies(path):
        return Source("studies", studies)
    beside = path.absolute().with_name(f"{path.absolute().name}.yaml")
    if beside in [study.absolute() for study in find_studies(path.absolute().parent)]:
        return Source("studies", [path.parent / beside.name if path.name else beside])
    return Source("folder", [path])


def _names(experiments: Sequence[Path]) -> list[str]:
    papers = [paper for root in experiments if root.is_dir() for paper in root.iterdir() if paper.is_dir()]
    tables = [study for paper in papers for study in find_studies(paper)]
    return [f"{study.parent.name}/{study.stem}" for study in tables] + [study.parent.name for study in tables]
