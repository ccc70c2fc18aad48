import re
import textwrap

import pytest

from detlab.errors import UserError
from detlab.reporting.study.definition import EXPERIMENTS, METRICS, ClaimSpec, RowSpec, find_studies, read_study

WHOLE = """
title: One anchor or nine
source: ATSS, Table 1
metrics: [AP, AP90]
rows:
  nine:
    title: 9 anchors
    paper: {AP: 36.3, AP90: 8}
  one:
claims:
  - "AP: nine > one"
  - {claim: "AP90: nine -
       one >= 0.5", source: section 4.2}
notes: |
  Two rows.
"""


@pytest.fixture
def study(tmp_path):
    """`study(text, "nine", "one")`: the file of `text` in a folder of experiments, with these rows' files."""

    def write(text=WHOLE, *rows, table="paper/anchors"):
        file = tmp_path / "experiments" / f"{table}.yaml"
        file.with_suffix("").mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        for row in rows:
            (file.with_suffix("") / f"{row}.yaml").write_text("# @package _global_\n")
        return file

    return write


def refusal(file):
    """What `read_study` says, the file's name in it as FILE and its folder as FOLDER."""
    with pytest.raises(UserError) as error:
        read_study(file)
    return str(error.value).replace(str(file), "FILE").replace(str(file.with_suffix("")), "FOLDER")


def test_a_study_is_read_as_written(study):
    file = study(WHOLE, "nine", "one")
    found = read_study(file)
    assert (found.path, found.name, found.title, found.source) == (
        file, "paper/anchors", "One anchor or nine", "ATSS, Table 1",
    )  # fmt: skip
    assert found.metrics == ("AP", "AP90")
    assert found.rows == (
        RowSpec("nine", "9 anchors", {"AP": 36.3, "AP90": 8.0}, "paper/anchors/nine"),
        RowSpec("one", "one", {}, "paper/anchors/one"),
    )
    assert found.claims == (
        ClaimSpec("AP: nine > one"),
        ClaimSpec("AP90: nine - one >= 0.5", "section 4.2"),
    )
    assert found.notes == "Two rows."


def test_a_study_is_found_by_its_name(study, tmp_path):
    file = study(WHOLE, "nine", "one")
    assert read_study("paper/anchors", tmp_path / "experiments").path == file
    with pytest.raises(UserError) as error:
        read_study("paper/anchor", tmp_path / "experiments")
    assert str(error.value) == (
        "There is no study 'paper/anchor' (did you mean 'paper/anchors'?); give <paper>/<table> or a file."
    )
    with pytest.raises(UserError, match=r"anchor\.yaml: there is no such file; give a study"):
        read_study(file.with_name("anchor.yaml"))


def test_a_file_in_the_current_folder_knows_its_name(study, monkeypatch):
    file = study(WHOLE, "nine", "one")
    monkeypatch.chdir(file.parent)
    assert read_study("anchors.yaml").name == "paper/anchors"


def test_only_a_title_and_rows_are_needed(study):
    found = read_study(study("title: T\nrows: {a: {}}", "a"))
    assert (found.metrics, found.claims, found.source, found.notes) == (METRICS, (), "", "")


def test_rows_may_come_from_another_table(study):
    study("title: T\nrows: {base: }", "base", table="other/first")
    found = read_study(study("title: T\nrows: {a: , base: {experiment: other/first/base}}", "a"))
    assert [row.experiment for row in found.rows] == ["paper/anchors/a", "other/first/base"]


def test_the_studies_of_a_paper_are_the_files_with_rows(study):
    file = study(WHOLE, "nine", "one")
    study("title: T\nrows: {a: }", "a", table="paper/ablation")
    study("rows: [", table="paper/broken")
    study("lr: 1", table="paper/settings")
    study("just words", table="paper/words")
    (file.parent / "README.md").write_text("rows:")
    assert [path.name for path in find_studies(file.parent)] == ["ablation.yaml", "anchors.yaml", "broken.yaml"]
    assert find_studies(file.parent / "nowhere") == []


def test_every_study_of_this_checkout_can_be_read():
    names = [f"{file.parent.name}/{file.stem}" for paper in EXPERIMENTS.glob("*/") for file in find_studies(paper)]
    assert "baselines/anchors" in names
    for name in names:
        found = read_study(name)
        assert found.name == name
        assert all((EXPERIMENTS / f"{row.experiment}.yaml").is_file() for row in found.rows)


ROWS = "title: T\nrows: {a: , b: }\n"
KEYS = "title, source, needs, metrics, by_class, rows, claims, notes"
OWN = (
    "cannot be named in claims; use letters, digits and _, a letter first (and none of Python's or YAML's own words, "
    "such as 'not' or 'on')."
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows: [a", "FILE, line 1: malformed YAML (expected ',' or ']', but got '<stream end>')."),
        ("title: T\nrows:\n  a:\n  a:\n", "FILE, line 4: malformed YAML ('a' stands there twice)."),
        ("? [1, 2]\n: 3", "FILE, line 1: malformed YAML (found unhashable key)."),
        ("", f"FILE: expected keys {KEYS}, got None."),
        ("- a", f"FILE: expected keys {KEYS}, got ['a']."),
        ("rows: {a: }", "FILE: title is missing; a study needs a title and rows."),
        ("title: T", "FILE: rows is missing; a study needs a title and rows."),
        ("title: T\nrows: {}", "FILE: rows is missing; a study needs a title and rows."),
        (ROWS + "claim: x", "FILE: there is no key 'claim' (did you mean 'claims'?)."),
        ("title: [T]\nrows: {a: , b: }", "FILE: title: expected words, got ['T']; put them in quotation marks."),
        (
            "title: T\nrows: [a, b]",
            "FILE: rows: expected a name for each row, as in 'rows: {baseline: {}}', got ['a', 'b'].",
        ),
        ("title: T\nrows: {1-anchor: }", f"FILE: row '1-anchor' {OWN}"),
        ("title: T\nrows: {on: }", f"FILE: row 'True' {OWN}"),
        ("title: T\nrows: {lambda: }", f"FILE: row 'lambda' {OWN}"),
        ("title: T\nrows: {é: }", f"FILE: row 'é' {OWN}"),
        ("title: T\nrows: {../a: }", f"FILE: row '../a' {OWN}"),
        ("title: T\nrows: {a: 36.3}", "FILE: row a: expected keys title, paper, experiment, needs, got 36.3."),
        ("title: T\nrows: {a: {papr: {AP: 1}}}", "FILE: row a: there is no key 'papr' (did you mean 'paper'?)."),
        (
            "title: T\nrows: {a: {paper: 36.3}}",
            "FILE: row a: paper: expected numbers by metric, as in {AP: 36.3}, got 36.3.",
        ),
        (
            "title: T\nrows: {a: {paper: {AP: '36,3'}}}",
            "FILE: row a: paper: AP is '36,3'; expected the printed number, or leave the metric out.",
        ),
        (
            "title: T\nrows: {a: {paper: {AP: yes}}}",
            "FILE: row a: paper: AP is True; expected the printed number, or leave the metric out.",
        ),
        (
            "title: T\nrows: {a: {paper: {AP: .nan}}}",
            "FILE: row a: paper: AP is nan; expected the printed number, or leave the metric out.",
        ),
        (
            "title: T\nrows: {a: {paper: {ap: 3}}}",
            "FILE: row a: paper: there is no metric 'ap' (did you mean 'AP'?).",
        ),
        (
            "title: T\nrows: {a: , c: }",
            "FILE: row c: there is no FOLDER/c.yaml; write this experiment, or name another table's with experiment.",
        ),
        (
            "title: T\nrows: {a: }",
            "FILE: anchors/b.yaml is an experiment but no row; list 'b' under rows or move the file elsewhere.",
        ),
        (ROWS + "metrics: AP", "FILE: metrics: expected a list of names such as [AP, AP50], got 'AP'."),
        (ROWS + "metrics: []", "FILE: metrics: expected a list of names such as [AP, AP50], got []."),
        (ROWS + "metrics: [AP, 50]", "FILE: metrics: expected a list of names such as [AP, AP50], got ['AP', 50]."),
        (ROWS + "metrics: [AP, AP_50]", "FILE: metrics: there is no metric 'AP_50' (did you mean 'AP50'?)."),
        (ROWS + "metrics: [AP, AP50, AP]", "FILE: metrics: 'AP' stands there twice; take one away."),
        (ROWS + "claims: 'AP: a > b'", "FILE: claims: expected a list, got 'AP: a > b'; begin each claim with '- '."),
        (
            ROWS + "claims:\n- 'AP: a > b'\n- AP: a > b",
            "FILE: claim 2: put the whole claim in quotation marks, as YAML takes the colon for its own.",
        ),
        (
            ROWS + "claims: [{claim: 'AP: a > b', src: x}]",
            "FILE: claim 1: there is no key 'src' (did you mean 'source'?).",
        ),
        (ROWS + "by_class: AP75", "FILE: by_class: expected AP or AP50, got 'AP75'."),
        (ROWS + "claims: [3]", "FILE: claim 1: expected words such as \"AP: a > b\", got 3."),
        (ROWS + "claims: ['AP: a > bb']", "FILE: claim 'AP: a > bb': there is no row 'bb' (did you mean 'b'?)."),
        (
            ROWS + "claims: ['AP75x: a > b']",
            "FILE: claim 'AP75x: a > b': there is no metric 'AP75x' (did you mean 'AP75'?).",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_answered_in_a_sentence(study, text, said):
    assert refusal(study(text, "a", "b")) == said


def test_another_tables_row_must_be_there(study, tmp_path):
    file = study("title: T\nrows: {base: {experiment: other/first/base}}")
    assert refusal(file) == (
        f"FILE: row base: there is no {tmp_path}/experiments/other/first/base.yaml; write this experiment, or name "
        "another table's with experiment."
    )


def test_bytes_that_are_no_text_are_said(study):
    file = study()
    file.write_bytes(b"title: \xff\xfe")
    assert re.fullmatch(r"FILE: cannot read this file \(.*can't decode byte.*\)\.", refusal(file))
