"""BCCD in two halves: what experiments/proxy/bccd_halves.py writes is what `data=bccd_halves` reads."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from detlab.config.instantiate import build_source
from detlab.config.launch import CONFIG_DIR
from detlab.data.sources.merge_counts import missing_labels

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "experiments" / "proxy" / "bccd_halves.py"


@pytest.fixture
def script() -> Any:
    spec = importlib.util.spec_from_file_location("bccd_halves", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cells(voc: Path) -> Path:
    """A folder like BCCD's: of red squares RBC, of blue ones WBC, Platelets and now and then a box without area."""
    names = {"train": "trainval", "val": "test"}
    for old, new in names.items():
        (voc / "ImageSets/Main" / f"{old}.txt").rename(voc / "ImageSets/Main" / f"{new}.txt")
    for number, file in enumerate(sorted((voc / "Annotations").iterdir())):
        text = file.read_text().replace("red", "RBC").replace("blue", "WBC" if number % 2 else "Platelets")
        if number == 0:
            box = re.search("<object>.*?</object>", text, re.DOTALL)
            assert box
            point = re.sub("<(xmin|ymin|xmax|ymax)>[0-9.]+", r"<\1>9", box[0])
            text = text.replace("</annotation>", f"{point}</annotation>")
        file.write_text(text)
    return voc


@pytest.mark.slow
def test_the_halves_are_disjoint_and_labelled_each_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Any, cells: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bccd_halves.py", str(cells), "data/bccd_halves", "--portion", "0.25"])
    script.main()
    written = {path: path.read_bytes() for path in Path("data/bccd_halves").rglob("*") if path.is_file()}
    script.main()
    assert {path: path.read_bytes() for path in Path("data/bccd_halves").rglob("*") if path.is_file()} == written
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        source, bound = (
            build_source(compose("check", ["data=bccd_halves", f"data.labels={labels}"]).data)
            for labels in ("own", "complete")
        )
    train, problems = source.load("train")
    test, _ = source.load("test")
    assert not problems
    assert train.classes == test.classes == ("RBC", "WBC", "Platelets")
    assert train.annotated.tolist() == [[True, False, False], [False, True, True]]
    assert train.sources.tolist() == [0, 0, 1]
    assert set(train.labels[train.sources[train.box_images] == 0]) == {0}
    assert 0 not in train.labels[train.sources[train.box_images] == 1]
    assert len(test) == 2
    assert test.annotated.all()
    complete, _ = source.complete("train")
    assert len(complete.boxes) == 6
    assert missing_labels(train, complete).missing.tolist()[0] == 1
    best, _ = bound.load("train")
    assert best.annotated.all()
    assert best.classes == train.classes
    assert sorted(Path(path).stem for path in best.paths) == sorted(Path(path).stem for path in train.paths)
    assert sorted(best.labels) == sorted(complete.labels)
    labelled = Path("data/bccd_halves/full/ImageSets/Main/labelled.txt").read_text().split()
    assert len(labelled) == 1
    assert not {Path(path).stem for path in train.paths} & set(labelled)


def test_another_seed_deals_otherwise(tmp_path: Path, script: Any, cells: Path) -> None:
    parts = [script.write_halves(cells, tmp_path / str(seed), seed=seed)["red"].paths.tolist() for seed in range(6)]
    assert len({tuple(paths) for paths in parts}) > 1
