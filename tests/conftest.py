"""Shared by all tests: few threads, no network, and detlab's commands as a user would type them."""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detlab.engine import module as lit

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Result:
    """What a command printed and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def detlab(monkeypatch, tmp_path, capfd) -> Callable[..., Result]:
    """`detlab("check", "data=scenes")` in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        from detlab.cli import main

        monkeypatch.setattr(sys, "argv", ["detlab", *arguments])
        capfd.readouterr()
        try:
            main(list(arguments))
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
        out, err = capfd.readouterr()
        return Result(status, out, err)

    return run


VOC_XML = """<annotation><filename>{name}.jpg</filename>
<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
{objects}
</annotation>
"""
VOC_OBJECT = (
    "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin>"
    "<xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


@pytest.fixture
def power_cut(monkeypatch) -> Callable[[int], AbstractContextManager[None]]:
    """`with power_cut(iterations):` training raises RuntimeError after so many, once, all runs taken together."""

    @contextmanager
    def cut(iterations: int) -> Iterator[None]:
        original, calls = lit.refuse_non_finite, count()

        def refuse(*args):
            if next(calls) == iterations:
                raise RuntimeError("power cut")
            original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(lit, "refuse_non_finite", refuse)
            yield

    return cut


def make_voc(root: Path, images: int = 6, size: int = 64) -> Path:
    """A bare VOC folder: red and blue squares on grey noise, lists `train` and `val`."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = [f"{i:04d}" for i in range(images)]
    for i, name in enumerate(names):
        picture = rng.integers(90, 160, (size, size, 3), dtype=np.uint8)
        objects = []
        for kind, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
            side = int(rng.integers(14, 26))
            x, y = (int(v) for v in rng.integers(0, size - side, 2))
            picture[y : y + side, x : x + side] = colour
            objects.append(VOC_OBJECT.format(x + 1, y + 1, x + side, y + side, name=kind))
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        xml = VOC_XML.format(name=name, width=size, height=size, objects="\n".join(objects))
        (root / "Annotations" / f"{name}.xml").write_text(xml)
        split = "val" if i >= images - 2 else "train"
        with (root / "ImageSets/Main" / f"{split}.txt").open("a") as file:
            file.write(name + "\n")
    return root


def squares(root: str | Path) -> list[str]:
    """The overrides that name the data set of `make_voc`."""
    return ["data=custom", "data.format=voc", f"data.root={root}", "data.split=train", "data.val_split=val"]


@pytest.fixture
def voc(tmp_path) -> Path:
    return make_voc(tmp_path / "voc")


TINY = [
    "backbone.channels=[8,8,16,16,32]", "detector.fpn.out_channels=16", "detector.fpn.levels=[3,4]",
    "detector.head.channels=16", "detector.head.convs=1", "schedule.iterations=4", "schedule.val_every=2",
    "schedule.warmup=1", "loader.batch_size=2", "logger.pictures=1", "logger.every=1",
]  # fmt: skip


@pytest.fixture
def toy() -> list[str]:
    """Overrides that make the detector a toy and its schedule a few steps, on any data."""
    return list(TINY)


@pytest.fixture
def tiny(voc) -> list[str]:
    """Overrides of `detlab train` that train a toy detector on the red and blue squares within seconds."""
    return [*squares(voc), *TINY]


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with `voc` and `run`, the finished run of a toy detector that finds some of the squares. Read only."""
    from detlab.cli import main

    folder = tmp_path_factory.mktemp("finished")
    make_voc(folder / "voc")
    longer = ["schedule.iterations=80", "schedule.val_every=80", "schedule.warmup=10", "loader.batch_size=4"]
    extra = ["augment=none", "logger=csv", "run_dir=run", "postprocess.score_threshold=0.01"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["detlab"])
        with pytest.raises(SystemExit) as end:
            main(["train", *squares("voc"), *TINY, *longer, *extra])
    assert not end.value.code
    return folder


@pytest.fixture
def trained(finished, tmp_path) -> Path:
    """`run` in the current folder: a copy of the finished run, whose data are in `voc` there."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return Path("run")
