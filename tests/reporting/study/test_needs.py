"""What a table needs: on small tables made by hand, and that the shipped tables name what their rows begin with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detlab.config.experiments import rows_in
from detlab.config.launch import CONFIG_DIR
from detlab.errors import UserError
from detlab.reporting.study.definition import EXPERIMENTS, find_studies, read_study
from detlab.reporting.study.needs import stages

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path):
    """`folder({"p/t": {"rows": {"a": {}}, "needs": [...]}})`: these tables, with a file for each row of their own."""

    def write(tables: dict) -> Path:
        for name, content in tables.items():
            path = tmp_path / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(yaml.safe_dump({"title": name, **content}, sort_keys=False))
            for row, words in content["rows"].items():
                if "experiment" not in words:
                    path.with_suffix("").mkdir(exist_ok=True)
                    (path.with_suffix("") / f"{row}.yaml").write_text(f"name: {name}/{row}\n")
        return tmp_path

    return write


TABLES = {
    "p/teachers": {"rows": {"plain": {}, "wide": {}}},
    "p/main": {
        "rows": {
            "base": {"experiment": "p/teachers/plain"},
            "small": {"needs": ["p/teachers/plain"]},
            "large": {"needs": ["p/teachers/wide"]},
        }
    },
    "p/more": {"rows": {"whole": {"experiment": "p/main/large"}, "part": {}}, "needs": ["p/teachers/wide"]},
    "q/all": {"rows": {"only": {}, "big": {}}, "needs": ["p/teachers"]},
    "q/big": {"rows": {"big": {"experiment": "q/all/big"}, "bigger": {}}},
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("p/teachers", [["p/teachers/plain", "p/teachers/wide"]]),
        ("p/main", [["p/teachers/plain", "p/teachers/wide"], ["p/main/small", "p/main/large"]]),
        ("p/more", [["p/teachers/wide"], ["p/main/large", "p/more/part"]]),
        ("q/all", [["p/teachers/plain", "p/teachers/wide"], ["q/all/only", "q/all/big"]]),
        ("q/big", [["p/teachers/plain", "p/teachers/wide"], ["q/all/big", "q/big/bigger"]]),
        ("p/*", [["p/teachers/plain", "p/teachers/wide"], ["p/main/small", "p/main/large", "p/more/part"]]),
    ],
)
def test_needs_come_first_and_everything_once(folder, pattern, expected):
    assert stages(pattern, experiments=folder(TABLES)) == expected


def test_needs_of_needs_come_before_them(folder):
    chain = {"rows": {"a": {"needs": ["p/t/b"]}, "b": {"needs": ["p/t/c"]}, "c": {}, "d": {"needs": ["p/t/c"]}}}
    assert stages("p/t", experiments=folder({"p/t": chain})) == [["p/t/c"], ["p/t/b"], ["p/t/a", "p/t/d"]]


def test_a_table_that_is_left_out_is_left_out_of_others_too(folder):
    assert stages("q/*", ["q/all"], folder(TABLES)) == [["p/teachers/plain", "p/teachers/wide"], ["q/big/bigger"]]
    with pytest.raises(UserError, match="No table fits 'q/all'"):
        stages("q/all", ["q/all"], folder(TABLES))


@pytest.mark.parametrize(
    "tables",
    [
        {"p/t": {"rows": {"a": {"needs": ["p/t/a"]}}}},
        {"p/t": {"rows": {"a": {}}, "needs": ["p/t"]}},
        {"p/t": {"rows": {"a": {"needs": ["p/u/b"]}}}, "p/u": {"rows": {"b": {}}, "needs": ["p/t"]}},
    ],
)
def test_circles_are_refused(folder, tables):
    with pytest.raises(UserError, match=r"need each other: p/t/a → (p/u/b → )?p/t/a; take"):
        stages("p/t", experiments=folder(tables))


@pytest.mark.parametrize("needs", [["p/teacher"], ["p/teachers/plan"], ["teachers"], "p/teachers", [3]])
@pytest.mark.parametrize("of_row", [False, True])
def test_names_that_are_none_are_refused(folder, needs, of_row):
    row = {"needs": needs} if of_row else {}
    table = {"rows": {"a": row}} | ({} if of_row else {"needs": needs})
    experiments = folder({"p/teachers": TABLES["p/teachers"], "p/t": table})
    with pytest.raises(UserError, match=r"t\.yaml: (row a: )?needs: (there is no table and no row|expected a list)"):
        stages("p/t", experiments=experiments)


@pytest.mark.slow
def test_shipped_rows_are_trained_after_what_their_configs_name():
    """`runs/<experiment>/` in a row's file, and `trained_as`, are of runs that must be there before the row's."""
    orders = {table: stages(table) for table in {row.rpartition("/")[0] for row in rows_in([CONFIG_DIR])}}
    for row in rows_in([CONFIG_DIR]):
        text = (EXPERIMENTS / f"{row}.yaml").read_text()
        named = set(re.findall(r"runs/(\w+/\w+/\w+)/\$", text)) | set(re.findall(r"^trained_as: (\S+)$", text, re.M))
        order = enumerate(orders[row.rpartition("/")[0]])
        stage = {experiment: number for number, one in order for experiment in one}
        assert all(stage[other] < stage[row] for other in named), row


@pytest.mark.slow
def test_shipped_tables_train_all_their_rows_each_once():
    for paper in sorted(EXPERIMENTS.glob("*/")):
        for path in find_studies(paper):
            study = read_study(path)
            trained = [experiment for stage in stages(study.name) for experiment in stage]
            assert len(trained) == len(set(trained))
            assert {row.experiment for row in study.rows} <= set(trained)


def test_students_of_table_6_wait_for_their_teacher_alone():
    assert stages("certainty/table6")[0] == ["certainty/teachers/intervals"]
    assert not any("certainty/teachers/plain" in stage for stage in stages("certainty/table6"))


def made(tmp_path: Path, *arguments: str) -> list[str]:
    """What `make reproduce-…` runs, with a detlab that only writes down its arguments."""
    binaries = tmp_path / "bin"
    binaries.mkdir(exist_ok=True)
    (binaries / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (binaries / "detlab").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/log\n')
    for file in binaries.iterdir():
        file.chmod(0o755)
    command = ["make", f"RUN={binaries}/", "-o", "setup", "-o", ".venv/.synced", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return (tmp_path / "log").read_text().splitlines()


@pytest.mark.slow
def test_make_trains_stage_by_stage_with_the_same_overrides(tmp_path):
    swept = "scale=mini seed=3,4 hydra/launcher=basic data.labeled_fraction=0.05 setting=mini_5"
    arguments = ("reproduce-iou_balanced", "TABLE=table4", "SEEDS=3,4")
    lines = made(tmp_path, *arguments, "ARGS=data.labeled_fraction=0.05 setting=mini_5")
    assert lines[:-1] == [f"train -m experiment={','.join(stage)} {swept}" for stage in stages("iou_balanced/table4")]
    assert lines[-1] == "report iou_balanced setting=mini"
    assert len(lines) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "needed"),
    [
        ("certainty/table6", "certainty/table5/ca_re_dt"),
        ("iou_balanced/table3", "iou_balanced/table2/both"),
        ("paa/table4_left", "paa/table1_right/paa_ioupred"),
        ("alrp/atss", "alrp/table2/alrp_giou_sb"),
        ("combinations/grid", "paa/table1_right/paa_ioupred"),
    ],
)
def test_make_trains_rows_of_a_table_that_are_other_tables(tmp_path, table, needed):
    paper, _, name = table.partition("/")
    *trainings, _ = made(tmp_path, f"reproduce-{paper}", f"TABLE={name}")
    assert needed in {row.experiment for row in read_study(table).rows}
    assert needed in [experiment for line in trainings for experiment in experiments_of(line)]


def experiments_of(line: str) -> list[str]:
    """What a command of `made` trains."""
    (words,) = re.findall(r"experiment=(\S+)", line)
    return words.split(",")


@pytest.mark.parametrize(
    "table",
    [
        *(f"certainty/table{number}" for number in (3, 4, 6, 8)), "iou_balanced/table3", "iou_balanced/table4",
        *(f"paa/table{name}" for name in ("1_left", "2_left", "2_right", "4_left", "4_right")),
        "alrp/atss", "combinations/grid",
    ],
)  # fmt: skip
def test_rows_of_other_tables_are_trained_with_a_shipped_one(table):
    rows = {row.experiment for row in read_study(table).rows}
    trained = {experiment for stage in stages(table) for experiment in stage}
    assert {row for row in rows if not row.startswith(f"{table}/")}, "no row of another table: nothing was tested"
    assert rows <= trained


@pytest.mark.slow
def test_make_leaves_tables_of_paper_scale_out_unless_named(tmp_path):
    assert not any("/table1/" in line for line in made(tmp_path, "reproduce-iou_balanced"))
    assert "/table1/" in made(tmp_path, "reproduce-iou_balanced", "SCALE=paper")[-2]
    assert "/table1/" in made(tmp_path, "reproduce-iou_balanced", "TABLE=table1")[-2]
