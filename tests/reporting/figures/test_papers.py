from __future__ import annotations

from pathlib import Path

import pytest

from detlab.errors import UserError
from detlab.reporting.figures.papers import load_figures, papers


def test_the_papers_with_figures():
    assert papers() == ["alrp", "certainty", "iou_balanced", "paa", "proxy"]


@pytest.mark.parametrize("paper", papers())
def test_each_paper_names_its_figures(paper):
    figures = load_figures(paper)
    assert figures
    assert all(name.startswith("figure") and callable(draw) for name, draw in figures.items())


def write(folder: Path, paper: str, figures: str, **others: str) -> None:
    (folder / paper).mkdir(parents=True)
    for name, text in {"figures": figures, **others}.items():
        (folder / paper / f"{name}.py").write_text(text)


def test_a_file_may_import_those_beside_it_wherever_the_folder_lies(tmp_path, monkeypatch):
    write(tmp_path / "mine", "heads", "from .numbers_of_heads import one\nFIGURES = {'figure1': one}\n",
          numbers_of_heads="def one(runs):\n    return runs + 1\n")  # fmt: skip
    write(tmp_path / "mine", "necks", "from .numbers_of_heads import one\nFIGURES = {'figure1': one}\n",
          numbers_of_heads="def one(runs):\n    return runs + 2\n")  # fmt: skip
    (tmp_path / "mine/tables").mkdir()
    monkeypatch.chdir(tmp_path)
    assert papers(Path("mine")) == ["heads", "necks"]
    assert load_figures("heads", Path("mine"))["figure1"](1) == 2
    assert load_figures("necks", Path("mine"))["figure1"](1) == 3


def test_a_paper_without_figures_is_answered_with_the_nearest(tmp_path):
    write(tmp_path, "heads", "")
    with pytest.raises(UserError, match=r"figures of 'head' .*'heads'"):
        load_figures("head", tmp_path)
    with pytest.raises(UserError, match=r"heads/figures\.py defines no FIGURES"):
        load_figures("heads", tmp_path)
