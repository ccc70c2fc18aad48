"""Where the parts of a Pascal VOC folder are, and how to get them."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from detlab.errors import UserError

_SILENCE_S = 30.0  # a server that says nothing for this long counts as out of reach


def find_sets(root: Path, years: Sequence[str] | None) -> dict[str, Path]:
    """The VOC sets under `root` as ``{year: folder}``; a single set's folder has the year ``""``.

    Raises UserError naming what is there when a year, or any set at all, is missing.
    """
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; set data.root to the folder that holds VOCdevkit, or to that of one set."
        )
    if (root / "Annotations").is_dir():
        if years is not None and len(years) > 1:
            raise UserError(
                f"{root} is one VOC set, but years {', '.join(years)} were asked for; set data.root to the folder "
                "that holds VOCdevkit."
            )
        return {years[0] if years else "": root}
    base = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    found = {p.name.removeprefix("VOC"): p for p in sorted(base.glob("VOC*")) if (p / "Annotations").is_dir()}
    if not found:
        raise UserError(
            f"{root}: neither a VOC set (with Annotations, ImageSets/Main and JPEGImages) nor a folder with "
            "VOCdevkit/VOC<year> in it; set data.root, or data.download=true to fetch VOC."
        )
    if years is None:
        return found
    for year in years:
        if year not in found:
            there = ", ".join(p.name for p in found.values())
            raise UserError(f"{base}: no VOC{year} here, only {there}; set data.root, or data.download=true.")
    return {year: found[year] for year in years}


def list_names(folder: Path) -> list[str]:
    """The lists a set offers in ``ImageSets/Main``, without those of single classes."""
    names = {path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt")}
    return sorted(name for name in names if name.rpartition("_")[2] not in names or "_" not in name)


def download_voc(root: Path, years: Sequence[str], entries: Iterable[str]) -> None:
    """Fetch with torchvision, into ``root/VOCdevkit``, the archives whose lists are not there yet.

    entries: lists as `VocSource` names them (``"trainval"`` of every year, ``"2007_test"`` of one). Archives are
    checked against torchvision's MD5 sums. Raises UserError where a year has no such list to download, or the
    server cannot be reached, with what to do then.
    """
    from torchvision.datasets import VOCDetection
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    for entry in entries:
        prefix, _, rest = entry.partition("_")
        for year, name in [(prefix, rest)] if rest and prefix in years else [(year, entry) for year in years]:
            archive = DATASET_YEAR_DICT.get(f"{year}-{name}" if name == "test" else year)
            if archive is None:
                offered = ", ".join(DATASET_YEAR_DICT)
                raise UserError(f"VOC{year} '{name}' is not offered for download (there are {offered}).")
            if _has_list(root, year, name):
                continue
            silence = socket.getdefaulttimeout()
            socket.setdefaulttimeout(_SILENCE_S)
            try:
                root.mkdir(parents=True, exist_ok=True)
                VOCDetection(str(root), year=year, image_set=name, download=True)
            except (OSError, RuntimeError) as error:
                raise UserError(
                    f"{archive['url']} could not be fetched ({error}); without a network, download it elsewhere, "
                    f"unpack it in {root} so that {root / archive['base_dir']} exists, and set data.download=false."
                ) from error
            finally:
                socket.setdefaulttimeout(silence)


def _has_list(root: Path, year: str, name: str) -> bool:
    try:
        return name in list_names(find_sets(root, [year])[year])
    except UserError:
        return False
