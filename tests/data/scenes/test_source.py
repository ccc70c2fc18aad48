"""The source: deterministic, cached whole or not at all, and clear about a cache that cannot be used."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from detlab.data.image import read_image
from detlab.data.scenes import CLASSES, ScenesSource
from detlab.data.scenes.source import Split
from detlab.data.scenes.style import Style
from detlab.errors import UserError

SMALL: dict[str, Any] = {"train": 6, "val": 3, "test": 2, "size": 48}


def source(folder: Path, **changes: Any) -> ScenesSource:
    return ScenesSource(**{**SMALL, "cache_dir": str(folder), **changes})


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_index_matches_the_scenes(tmp_path: Path) -> None:
    scenes = source(tmp_path, name="toy", noise=0.0)
    index, problems = scenes.load("train")
    assert problems == []
    assert len(index) == 6
    assert index.classes == CLASSES
    assert index.source_names == ("toy",)
    assert index.annotated.all()
    assert not index.ignore.any()
    for row in range(6):
        scene, at = scenes.draw("train", row), index.boxes_of(row)
        assert (index.boxes[at] == scene.boxes).all()
        assert (index.labels[at] == scene.labels).all()
        assert (index.areas[at] == scene.areas).all()
        picture = read_image(str(index.paths[row]))
        assert picture.shape == (index.heights[row], index.widths[row], 3) == scene.image.shape
        assert np.abs(picture.astype(float) - scene.image).mean() < 4  # JPEG


@pytest.mark.slow
def test_same_arguments_same_bytes_also_in_another_process() -> None:
    code = (
        "import hashlib; from detlab.data.scenes import ScenesSource; s = ScenesSource(size=48).draw('val', 3);"
        "print(hashlib.sha256(s.image.tobytes() + s.boxes.tobytes() + s.labels.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert digest(*ScenesSource(size=48).draw("val", 3)[:3]) == other


def test_pictures_depend_on_seed_split_and_number_alone() -> None:
    few, many = ScenesSource(**SMALL), ScenesSource(**{**SMALL, "train": 1000, "test": 0})
    assert digest(*few.draw("train", 5)) == digest(*many.draw("train", 5))
    pictures = {
        digest(ScenesSource(size=48, seed=seed).draw(split, number).image)
        for seed in (0, 1)
        for split in ("train", "val", "test")
        for number in (0, 1)
    }  # type: ignore[arg-type]
    assert len(pictures) == 12


# What the arguments' defaults drew before there was a `squeeze`: recorded runs were trained on these pictures.
@pytest.mark.parametrize(
    ("changes", "folder", "pictures"),
    [
        ({}, "bf04eb1f69cd", ["810ef73127c02d31", "3c7a29864a1b832a", "9198b5cb3a0cff7d", "5708bb971f672434"]),
        (
            {"label_distractors": True, "seed": 100}, "13bdd679f716",
            ["426ef720161751a6", "7de7b3c9d7a840d0", "472ac61a2323a6e5", "a2bac4016e902da8"],
        ),
        (
            {"frequencies": "long_tailed"}, "83123079279e",
            ["8ba4354003dbdda0", "8f451acbd581bbd3", "fc2cc6a25bc68394", "8fd6222ff7a9b343"],
        ),
    ],
)  # fmt: skip
def test_pictures_boxes_and_cache_of_the_defaults_stay_what_they_were(
    changes: dict[str, Any], folder: str, pictures: list[str]
) -> None:
    scenes = ScenesSource(4800, 300, 1000, **changes)
    splits: tuple[Split, ...] = ("train", "test")
    assert [digest(*scenes.draw(split, number))[:16] for split in splits for number in (0, 7)] == pictures
    assert scenes._folder("train").name == f"train-4800x128px-{folder}"


def test_a_squeeze_has_a_cache_of_its_own_and_elongated_objects() -> None:
    usual, wide = (ScenesSource(**SMALL, squeeze=squeeze) for squeeze in (0.78, 0.25))
    assert usual._folder("train") == ScenesSource(**SMALL)._folder("train") != wide._folder("train")

    def aspects(scenes: ScenesSource) -> np.ndarray:
        boxes = np.concatenate([scenes.draw("train", number).boxes for number in range(60)])
        sides = boxes[:, 2:] - boxes[:, :2]
        return np.asarray(sides.max(axis=1) / sides.min(axis=1))

    assert np.quantile(aspects(wide), 0.9) > 2.5 > np.quantile(aspects(usual), 0.9)


def test_the_second_load_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = source(tmp_path).load("val")
    monkeypatch.setattr(ScenesSource, "draw", lambda *_: pytest.fail("drawn again"))
    second, _ = source(tmp_path).load("val")
    assert (first.paths == second.paths).all()
    assert (first.boxes == second.boxes).all()


def test_other_arguments_other_folder_but_other_splits_share(tmp_path: Path) -> None:
    source(tmp_path).load("val")
    source(tmp_path, train=99, on_error="skip_box", objects=[2, 7]).load("val")
    assert len(list(tmp_path.iterdir())) == 1
    source(tmp_path, seed=1).load("val")
    source(tmp_path, clutter=0.1).load("val")
    source(tmp_path, size=50).load("val")
    source(tmp_path, val=4).load("val")
    assert len(list(tmp_path.iterdir())) == 5


def test_a_cache_may_be_moved(tmp_path: Path) -> None:
    source(tmp_path / "here").load("test")
    shutil.move(tmp_path / "here", tmp_path / "there")
    index, _ = source(tmp_path / "there").load("test")
    assert all(Path(path).is_file() and "there" in path for path in index.paths)


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: ScenesSource, split: str, number: int) -> None:
        raise KeyboardInterrupt(f"{split} {number}")

    monkeypatch.setattr(ScenesSource, "draw", stop)
    with pytest.raises(KeyboardInterrupt):
        source(tmp_path).load("train")
    assert list(tmp_path.iterdir()) == []


def test_several_at_once(tmp_path: Path) -> None:
    start = Barrier(3)

    def load(_: int) -> str:
        start.wait()
        index, _problems = source(tmp_path, train=25).load("train")
        return digest(index.boxes, *(read_image(str(path)) for path in index.paths))

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(load, range(3)))) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_losing_the_race_keeps_the_winners_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late, draw_split = source(tmp_path), ScenesSource._draw_split

    def overtaken(self: ScenesSource, split: Any, folder: Path) -> None:
        monkeypatch.setattr(ScenesSource, "_draw_split", draw_split)
        source(tmp_path).load(split)
        draw_split(self, split, folder)

    monkeypatch.setattr(ScenesSource, "_draw_split", overtaken)
    index, _ = late.load("val")
    assert len(index) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_split(tmp_path: Path) -> None:
    index, _ = source(tmp_path, val=0).load("val")
    assert len(index) == len(index.boxes) == 0


def test_no_objects(tmp_path: Path) -> None:
    index, _ = source(tmp_path, objects=(0, 0)).load("val")
    assert (len(index), len(index.boxes)) == (3, 0)


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file: cannot write the scenes there .*data\.cache_dir"):
        source(tmp_path / "file").load("val")


def test_a_damaged_cache(tmp_path: Path) -> None:
    source(tmp_path).load("val")
    (folder,) = tmp_path.iterdir()
    (folder / "index.npz").write_bytes(b"broken")
    with pytest.raises(UserError, match="damaged cache of scenes; delete that folder"):
        source(tmp_path).load("val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": -1}, "no negative number"),
        ({"size": 16}, "size in 32"),
        ({"size": 10_000}, "size in 32"),
        ({"seed": -1}, "seed >= 0"),
        ({"noise": 1.5}, "noise in 0"),
        ({"objects": [5]}, "objects \\(min, max\\)"),
    ],
)
def test_arguments_out_of_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScenesSource(**change)


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected split"):
        source(tmp_path).load("trainval")  # type: ignore[arg-type]


def test_knobs_reach_the_style_under_their_own_names_and_defaults() -> None:
    defaults = {name: p.default for name, p in inspect.signature(ScenesSource).parameters.items()}
    for name, value in vars(Style()).items():
        assert defaults[name] == value
    changed = {"tail": 2.0, "rotation": 10.0, "occlusion": 0.11, "min_visible": 0.5, "clutter": 0.12, "noise": 0.13}
    changed |= {"contrast": 0.14, "lighting": 0.15}
    assert ScenesSource(**changed).style == Style(**changed)  # type: ignore[arg-type]
