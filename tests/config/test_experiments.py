"""Rows of tables as Hydra experiments: found, spread out by glob, refused when misspelt or misfiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from detlab.config.experiments import check_name, config_folders, rows_in
from detlab.config.launch import CONFIG_DIR
from detlab.config.overrides import tidy
from detlab.errors import UserError

ROWS = ["a/one/x", "a/one/y", "a/two/z", "b/one/w"]


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("experiment=glob(a/one/*)", "experiment=a/one/x,a/one/y"),
        ("experiment=glob(a/*)", "experiment=a/one/x,a/one/y,a/two/z"),
        ("experiment=glob(*, exclude=a/*)", "experiment=b/one/w"),
        ("experiment=glob([a/two/*,b/*])", "experiment=a/two/z,b/one/w"),
        ("experiment=a/one/x", "experiment=a/one/x"),
        ("experiment=a/one/x,b/one/w", "experiment=a/one/x,b/one/w"),
        ("+experiment=a/one/x", "+experiment=a/one/x"),
        ("experiment=null", "experiment=null"),
    ],
)
def test_glob_stands_for_the_rows_that_fit(typed, taken):
    assert tidy([typed], {}, ROWS) == [taken]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("experiment=glob(c/*)", r"experiment=glob(c/*) fits no row (tables: a/one, a/two, b/one)."),
        ("experiment=a/one/xx", "There is no experiment=a/one/xx (did you mean 'a/one/x' or 'a/one/y' or 'b/one/w'?)."),
        ("experiment=a/one", "experiment=a/one is a table; for its rows write -m 'experiment=glob(a/one/*)'."),
        ("experiment=a/one/x,c", "There is no experiment=c (valid: a/one/x, a/one/y, a/two/z, b/one/w)."),
    ],
)  # fmt: skip
def test_what_is_no_row_is_refused(typed, sentence):
    with pytest.raises(UserError) as error:
        tidy([typed], {}, ROWS)
    assert str(error.value) == sentence


def test_a_row_is_a_file_in_the_folder_of_a_study(tmp_path):
    for name in ("p/t.yaml", "p/t/one.yaml", "p/t/two.yaml", "p/results/config.yaml", "p/notes/x.yaml"):
        path = tmp_path / "experiment" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert rows_in([tmp_path, tmp_path / "nowhere"]) == ["p/t/one", "p/t/two"]


def test_a_folder_of_configs_of_ones_own_adds_rows():
    assert config_folders(["-m", "--config-dir", "mine", "x=1"], Path("conf")) == [Path("conf"), Path("mine")]
    assert config_folders(["--config-dir=mine"], Path("conf")) == [Path("conf"), Path("mine")]
    assert config_folders(["x=1"], Path("conf")) == [Path("conf")]


def test_a_row_is_named_by_its_place():
    check_name(None, "anything", False)
    check_name("a/b/c", "a/b/c", False)
    check_name("a/b/c", "mine", True)
    with pytest.raises(UserError, match=r"^experiment/a/b/c.yaml: name is 'a/b/d'; write name: a/b/c there"):
        check_name("a/b/c", "a/b/d", False)


def test_rows_shipped_are_there_and_named_by_their_place():
    rows = rows_in([CONFIG_DIR])
    assert "baselines/anchors/nine_l1" in rows
    for row in rows:
        lines = (CONFIG_DIR / "experiment" / f"{row}.yaml").read_text().splitlines()
        assert f"name: {row}" in lines
