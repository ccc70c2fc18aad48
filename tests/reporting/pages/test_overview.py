"""The line of every table: on one made by hand, and that the shipped page is up to date."""

import pytest

from detlab.errors import UserError
from detlab.reporting.pages.overview import BEGIN, END, overview, replaced
from detlab.reporting.study.definition import EXPERIMENTS
from detlab.reporting.study.record import record_text


def test_a_line_tells_what_is_recorded_and_why_claims_are_undecided(sample, tmp_path):
    (tmp_path / "baselines/results").mkdir(parents=True)
    for name, claims in {"anchors": "", "more": 'claims: ["AP: a > b"]\n'}.items():
        (tmp_path / f"baselines/{name}").mkdir()
        for row in "ab":
            (tmp_path / f"baselines/{name}/{row}.yaml").touch()
        (tmp_path / f"baselines/{name}.yaml").write_text(f"title: T\nrows: {{a: {{}}, b: {{}}}}\n{claims}")
    (tmp_path / "baselines/results/anchors-mini.json").write_text(record_text(sample))
    _, _, recorded, not_recorded = overview(tmp_path).splitlines()
    cells = [cell.strip() for cell in recorded.strip("|").split("|")]
    assert cells[:2] == ["[baselines/anchors](baselines/anchors.yaml)", "[mini](baselines/results/anchors-mini.md)"]
    assert cells[3:6] == ["2", "1", "2"]
    assert cells[6] == "the interval holds zero; no seed that both rows finished; rows to be trained: `a`, `b`"
    assert not_recorded.endswith("| – | – | – | – | – | no recorded runs, 1 claim |")


def test_only_what_stands_between_the_markers_changes():
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb\n", r"new \1") == f"a\n{BEGIN}\nnew \\1\n{END}\nb\n"
    for page in ("a\n", f"{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"):
        with pytest.raises(UserError, match="needs one line"):
            replaced(page, "new")


@pytest.mark.slow
def test_the_shipped_page_is_up_to_date():
    """Else run `python -m detlab.reporting.pages.overview`."""
    page = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    assert page == replaced(page, overview(EXPERIMENTS.resolve()))
