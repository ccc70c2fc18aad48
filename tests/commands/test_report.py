"""`detlab report` as a user types it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from detlab.config.overrides import name_source

STUDY = """title: Which box loss
source: Somebody et al., Table 2
metrics: [AP, AP50]
rows:
  l1: {title: smooth-L1, paper: {AP: 36.3}}
  giou: {title: GIoU, paper: {AP: 37.0}}
claims:
  - "AP: giou > l1"
  - {claim: "AP50: l1 > giou", source: "§4"}
"""
VALUES = {"l1": [0.40, 0.41, 0.42], "giou": [0.50, 0.52, 0.51]}


def write_run(folder: Path, name: str, seed: int, ap: float | None, error: str = "") -> None:
    folder.mkdir(parents=True)
    config = {"name": name, "setting": "mini", "seed": seed, "run_dir": str(folder), "loss": name.rpartition("/")[2]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "train/loss", "val/AP"])
        writer.writerows([[step, 2 - step / 10, ap or 0.1] for step in range(10)])
    if ap is not None:
        values = {"AP": ap, "AP50": ap + 0.2, "AP/cat": ap}
        result = {"name": name, "status": "finished", "seed": seed, "test": values, "val": values, "minutes": 2.0}
        (folder / "metrics.json").write_text(
            json.dumps(result | {"commit": "abcdef0123456", "command": "detlab train"})
        )
    if error:
        (folder / "failure.json").write_text(
            json.dumps({"error": error, "kind": "UserError", "traceback": "Trace <b>"})
        )


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A table of two rows with three finished seeds each, and a second table without runs, of one paper."""
    paper = tmp_path / "experiments/demo"
    for table in ("boxes", "other"):
        (paper / table).mkdir(parents=True)
        (paper / f"{table}.yaml").write_text(STUDY)
        for row in VALUES:
            (paper / f"{table}/{row}.yaml").write_text(f"# @package _global_\nname: demo/{table}/{row}\n")
    for row, values in VALUES.items():
        for seed, ap in enumerate(values):
            name = f"demo/boxes/{row}"
            write_run(tmp_path / f"runs/{name}/mini/seed={seed}", name, seed, ap)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("source", ["demo/boxes", "source=demo/boxes", "experiments/demo/boxes.yaml"])
def test_a_table(detlab, bench, source):
    result = detlab("report", source)
    assert (result.status, result.err) == (0, "")
    assert "Of 2 claims 1 holds, 1 fails and 0 are undecided; 6 of 6 runs finished." in result.out
    assert "51.0 ± 1.0" in result.out
    assert re.search(r"\+10\.00 +\[\+9\.00, \+11\.00\]", result.out)  # the differences of the seeds are 10, 11 and 9
    assert "\x1b" not in result.out
    page, markdown = (bench / f"runs/demo/boxes/report-mini.{kind}" for kind in ("html", "md"))
    assert "Report: runs/demo/boxes/report-mini.html\n" in result.out
    assert "51.0 ± 1.0" in page.read_text()
    assert "| GIoU `giou` | 3 | **51.0 ± 1.0** | **37.0** | **71.0 ± 1.0** |" in markdown.read_text()


def test_a_paper_is_all_its_tables_with_an_index(detlab, bench):
    result = detlab("report", "demo")
    assert result.status == 0
    *_, first, second, _one, _two, _three, _four = result.out.splitlines()
    assert first.startswith("demo/boxes: Of 2 claims 1 holds")
    assert second.startswith("demo/other: Of 2 claims 0 hold, 0 fail and 2 are undecided; no run is there yet")
    assert (bench / "runs/demo/boxes/report-mini.html").is_file()
    assert (bench / "runs/demo/other/report-mini.html").is_file()


@pytest.mark.slow
def test_an_incomplete_table_is_no_failure_and_says_what_makes_it(detlab, bench):
    result = detlab("report", "demo/boxes", "seeds=[0,1,2,3]")
    assert result.status == 0
    assert "seed 3 missing" in result.out
    assert "→ detlab train -m 'experiment=glob(demo/boxes/*)' seed=0,1,2,3" in result.out
    assert "seed 5 missing" in detlab("report", "demo/boxes", "seeds=5").out
    assert "no run is there yet" in detlab("report", "demo/boxes", "setting=paper").out
    assert (bench / "runs/demo/boxes/report-paper.html").is_file()


@pytest.mark.slow
def test_a_failed_run_is_named_and_gives_the_exit_status(detlab, bench):
    folder = bench / "runs/demo/boxes/giou/mini/seed=3"
    write_run(folder, "demo/boxes/giou", 3, None, "The loss is <nan> at iteration 7.")
    result = detlab("report", "demo/boxes")
    assert result.status == 1
    assert result.err == ""
    assert "GIoU, seed 3: The loss is <nan> at iteration 7." in result.out
    assert "The loss is &lt;nan&gt; at iteration 7." in (bench / "runs/demo/boxes/report-mini.html").read_text()
    result = detlab("report", str(folder))
    assert result.status == 1
    page = (folder / "report.html").read_text()
    assert "The loss is &lt;nan&gt; at iteration 7." in page
    assert "Trace &lt;b&gt;" in page


@pytest.mark.slow
def test_any_folder_of_runs(detlab, bench):
    result = detlab("report", "runs/demo")
    assert result.status == 0
    assert "6 of 6 runs finished." in result.out
    assert "demo/boxes/giou" in result.out
    assert (bench / "runs/demo/report.html").is_file()
    assert (bench / "runs/demo/report.md").is_file()
    again = detlab("report", "runs/demo")  # the report itself is no run
    assert again.out == result.out


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("demo", ["boxes-mini.html", "boxes-mini.md", "other-mini.html", "other-mini.md"]),
        ("runs/demo/boxes", ["report.html", "report.md"]),
        ("runs/demo/boxes/l1/mini/seed=0", ["report.html"]),
    ],
)
def test_output_says_where(detlab, bench, source, files):
    before = sorted(bench.rglob("*"))
    assert detlab("report", source, "output=pages").status == 0
    assert sorted(os.listdir("pages")) == files
    assert sorted(path for path in bench.rglob("*") if "pages" not in path.parts) == before


@pytest.mark.slow
def test_a_record_is_kept_and_shown_again(detlab, bench):
    result = detlab("report", "demo/boxes", "record=true")
    assert result.status == 0
    record = bench / "experiments/demo/results/boxes-mini.json"
    content = json.loads(record.read_text())
    assert [run["test"]["AP"] for run in content["rows"][1]["runs"]] == VALUES["giou"]
    assert record.with_suffix(".md").read_text() == (bench / "runs/demo/boxes/report-mini.md").read_text()
    again = detlab("report", "experiments/demo/results/boxes-mini.json")
    assert again.status == 0
    assert (bench / "runs/demo/boxes/recorded-mini.md").read_text() == record.with_suffix(".md").read_text()
    assert again.out.split("Report:")[0] == result.out.split("Report:")[0]
    assert detlab("report", "demo").status == 0  # what is kept is no table of the paper


@pytest.mark.slow
def test_runs_that_are_only_recorded_stay_in_a_record_that_is_added_to(detlab, bench):
    detlab("report", "demo/boxes", "record=true")
    shutil.rmtree(bench / "runs/demo/boxes/l1")
    shutil.rmtree(bench / "runs/demo/boxes/giou/mini/seed=1")
    write_run(bench / "runs/demo/boxes/giou/mini/seed=1", "demo/boxes/giou", 1, 0.6)
    assert detlab("report", "demo/boxes", "record=add").status == 0
    record = bench / "experiments/demo/results/boxes-mini.json"
    found = [[run["test"]["AP"] for run in row["runs"]] for row in json.loads(record.read_text())["rows"]]
    assert found == [VALUES["l1"], [VALUES["giou"][0], 0.6, VALUES["giou"][2]]]
    assert "holds" in record.with_suffix(".md").read_text()
    detlab("report", "demo/boxes", "record=true")
    assert json.loads(record.read_text())["rows"][0]["runs"] == []


def test_a_record_to_add_to_need_not_be_there_but_must_be_one(detlab, bench):
    record = bench / "experiments/demo/results/boxes-mini.json"
    assert detlab("report", "demo/boxes", "record=add").status == 0
    assert record.is_file()
    record.write_text("{}")
    result = detlab("report", "demo/boxes", "record=add")
    assert result.status == 1
    assert "boxes-mini.json: this is no comparison that detlab report has recorded" in result.err
    assert record.read_text() == "{}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/x/y"], "runs/x/y: there is no such file, folder or table; give a table's file or name, a run's folder, "
                       "or a folder that holds runs."),
        (["runs/demo", "record=true"], "record=true keeps the results of a table beside its file; runs/demo is none."),
        (["demo/boxes", "seeds=-1"], "seeds=-1: input should be greater than or equal to 0."),
        (["demo/boxes", "setings=mini"],
         "There is no key 'setings' in the config (did you mean 'setting' or 'testing'?)."),
        (["experiments/demo/boxes"], ""),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("bench")
def test_mistakes(detlab, arguments, message):
    result = detlab("report", *arguments)
    assert result.status == int(bool(message))
    assert result.err == (f"detlab: {message}\n" if message else "")


def test_nothing_is_written_when_one_of_several_tables_is_wrong(detlab, bench):
    (bench / "experiments/demo/other.yaml").write_text("title: t\nrows: {a: {}}\n")
    before = sorted(bench.rglob("*"))
    result = detlab("report", "demo", "record=true")
    assert result.status == 1
    assert "other.yaml: row a: there is no " in result.err
    assert sorted(bench.rglob("*")) == before


@pytest.mark.slow
def test_a_page_that_cannot_be_written(detlab, bench):
    (bench / "file").write_text("")
    result = detlab("report", "demo/boxes", "output=file")
    assert result.status == 1
    assert result.err == "detlab: file/boxes-mini.html cannot be written (File exists); choose a folder where it can.\n"


def test_the_bare_word_is_the_source(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_source(["runs/x/seed=0"]) == ["source=runs/x/seed=0"]
    assert name_source(["setting=paper", "demo"]) == ["setting=paper", "source=demo"]
    assert name_source(["--cfg", "job", "demo"]) == ["--cfg", "job", "source=demo"]
    assert name_source(["source=demo"]) == ["source=demo"]
    assert name_source(["seed=0"]) == ["seed=0"]
    Path("seed=0").mkdir()
    assert name_source(["seed=0"]) == ["source=seed=0"]
    assert name_source([]) == []


def test_values_are_those_of_numpy(detlab, bench):
    detlab("report", "demo/boxes", "record=true")
    content = json.loads((bench / "experiments/demo/results/boxes-mini.json").read_text())
    for row in content["rows"]:
        values = 100 * np.array(VALUES[row["name"]])
        assert row["means"]["AP"]["mean"] == pytest.approx(values.mean())
        assert row["means"]["AP"]["sd"] == pytest.approx(values.std(ddof=1), abs=1e-6)
    assert content["seed_noise"]["AP"] == {"sd": pytest.approx(1.0), "degrees_of_freedom": 4}
    differences = 100 * (np.array(VALUES["giou"]) - np.array(VALUES["l1"]))
    claim = content["claims"][0]
    assert claim["decision"] == "holds"
    assert claim["difference"] == pytest.approx(differences.mean())
