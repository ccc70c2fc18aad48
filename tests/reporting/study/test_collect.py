import shutil
from pathlib import Path

import pytest

from detlab.errors import UserError
from detlab.reporting.pages.content import mending
from detlab.reporting.study.collect import table_of_folder, table_of_study
from detlab.reporting.study.definition import ClaimSpec, RowSpec, Study, read_study
from detlab.reporting.study.differences import commits, config_differences
from detlab.reporting.study.record import record_text

ROWS = (RowSpec("a", "Row A", {"AP": 36.3}, "paper/table/a"), RowSpec("b", "Row B", {}, "paper/table/b"))


def study(rows=ROWS):
    claims = (ClaimSpec("AP: a > b", "Table 1"),)
    return Study(Path("table.yaml"), "paper/table", "A table", rows, "Paper, Table 1", ("AP", "AP75"), claims, "Notes.")


@pytest.fixture
def runs(make_run, tmp_path):
    """Three seeds of a, two of b and a failure, all at mini."""
    for seed, (a, b) in enumerate(zip((0.5, 0.51, 0.53), (0.48, 0.5, None))):
        make_run(tmp_path / f"runs/paper/table/a/mini/seed={seed}", AP=a, AP75=a - 0.1)
        folder = tmp_path / f"runs/paper/table/b/mini/seed={seed}"
        make_run(folder, {"schedule": {"lr": 0.2}}, **({"AP": b} if b else {"failed": "Loss is nan."}))
    return tmp_path / "runs"


def test_a_table_holds_the_study_and_its_runs(runs):
    table = table_of_study(study(), runs)
    assert (table.title, table.name, table.setting, table.metrics, table.source, table.notes) == (
        "A table", "paper/table", "mini", ("AP", "AP75"), "Paper, Table 1", "Notes.",
    )  # fmt: skip
    a, b = table.rows
    assert (a.name, a.title, a.paper) == ("a", "Row A", {"AP": 36.3})
    assert a.by_seed("AP") == pytest.approx({0: 50, 1: 51, 2: 53})
    assert [run.state for run in b.runs] == ["finished", "finished", "failed"]
    assert [(row.name, run.error) for row, run in table.failures] == [("b", "Loss is nan.")]
    assert not table.complete
    (verdict,) = table.verdicts
    assert (verdict.claim, verdict.source, verdict.seeds) == ("AP: a > b", "Table 1", 2)
    assert verdict.reason == "2 seeds; three are needed (no finished run of b with seed 2)"


def test_seeds_asked_for_are_missing_until_they_are_there(runs):
    shutil.rmtree(runs / "paper/table/a/mini/seed=1")
    table = table_of_study(study(), runs, seeds=[0, 1, 2, 7])
    states = {row.name: [(run.seed, run.state) for run in row.runs] for row in table.rows}
    assert states == {
        "a": [(0, "finished"), (1, "missing"), (2, "finished"), (7, "missing")],
        "b": [(0, "finished"), (1, "finished"), (2, "failed"), (7, "missing")],
    }
    assert table.rows[0].runs[1].folder == runs / "paper/table/a/mini/seed=1"


def test_a_seed_not_asked_for_counts_all_the_same(runs):
    assert len(table_of_study(study(), runs, seeds=[0]).rows[0].finished) == 3


def test_recorded_runs_that_have_ended_count_until_others_are_here(runs, make_run):
    recorded = table_of_study(study(), runs, seeds=[0, 1, 2, 7])
    shutil.rmtree(runs / "paper/table/b")
    b = table_of_study(study(), runs, recorded=recorded).rows[1]
    assert [(run.seed, run.state) for run in b.runs] == [(0, "finished"), (1, "finished"), (2, "failed")]
    assert b.runs[2].error == "Loss is nan."
    make_run(runs / "paper/table/b/mini/seed=1")
    make_run(runs / "paper/table/b/mini/seed=2")
    b = table_of_study(study(), runs, seeds=[0, 1, 2], recorded=recorded).rows[1]
    assert [(run.seed, run.state) for run in b.runs] == [(0, "finished"), (1, "finished"), (2, "unfinished")]


def test_a_table_without_runs_is_a_table(tmp_path):
    table = table_of_study(study(), tmp_path / "runs")
    assert [row.runs for row in table.rows] == [[], []]
    assert table.verdicts[0].reason == "no finished run of a"
    assert not table.complete
    assert table_of_study(study(), tmp_path, seeds=[4]).rows[1].runs[0].state == "missing"


def test_complete_tables_know_it(runs, make_run):
    shutil.rmtree(runs / "paper/table/b/mini/seed=2")
    make_run(runs / "paper/table/b/mini/seed=2", AP=0.49)
    table = table_of_study(study(), runs, seeds=[0, 1, 2])
    assert table.complete
    assert table.verdicts[0].decision == "holds"


def test_a_copied_seed_counts_once(runs):
    shutil.copytree(runs / "paper/table/a/mini/seed=2", runs / "paper/table/a/mini/seed=3")
    row = table_of_study(study(), runs).rows[0]
    assert row.by_seed("AP") == pytest.approx({0: 50, 1: 51, 2: 53})


def test_commands_train_the_rows_and_the_table(runs, make_run):
    table = table_of_study(study(), runs)
    assert table.command == "detlab train -m 'experiment=glob(paper/table/*)' seed=0,1,2"
    assert [row.command for row in table.rows] == [
        "detlab train -m experiment=paper/table/a seed=0,1,2",
        "detlab train -m experiment=paper/table/b seed=0,1,2",
    ]
    shared = RowSpec("b", "B", {}, "other/table/base")
    assert table_of_study(study((ROWS[0], shared)), runs, seeds=[0, 4]).command == (
        "detlab train -m experiment=paper/table/a,other/table/base seed=0,1,2,4"
    )
    assert table_of_study(study(), runs, "paper").command == (
        "detlab train -m 'experiment=glob(paper/table/*)' scale=paper seed=0,1,2"
    )
    make_run(runs / "paper/table/a/paper/seed=5", {"data": {"root": "/data/coco"}}, AP=0.3)
    assert table_of_study(study(), runs, "paper").rows[1].command == (
        "detlab train -m experiment=paper/table/b scale=paper data.root=/data/coco seed=5"
    )


def test_commands_on_ones_own_data_name_it_and_its_scale(runs, make_run):
    chosen = "data=birds setting=birds seed=0,1,2"
    assert table_of_study(study(), runs, "birds").rows[0].command.endswith(f"paper/table/a scale=small {chosen}")
    make_run(runs / "paper/table/a/birds/seed=0", {"scale_name": "mini"}, AP=0.3)
    assert table_of_study(study(), runs, "birds", [0, 1, 2]).rows[0].command.endswith(f"scale=mini {chosen}")


def test_commands_of_a_setting_by_another_name_are_those_of_its_runs(runs, make_run):
    trained = "data=birds data.labeled_fraction=0.05 setting=birds_5 scale=small"
    command = f"detlab train experiment=paper/table/b seed=1 {trained} run_dir=x"
    make_run(runs / "paper/table/a/birds_5/seed=0", {}, AP=0.3)
    make_run(runs / "paper/table/b/birds_5/seed=0", {}, AP=0.3, command=command)
    assert table_of_study(study(), runs, "birds_5").rows[0].command == (
        f"detlab train -m experiment=paper/table/a {trained} seed=0"
    )


def test_commands_name_the_folder_of_each_seed_and_what_each_row_was_made_with(runs, make_run):
    """Rows that begin with the weights of other runs, of their own kind and seed; the third has not been trained."""
    of_all = "setting=birds_5 scale=small"
    for name, seed in (("a", 1), ("b", 2)):
        words = f"start_from=runs/t/{name}/mini/seed={seed} lr.seed={seed} {of_all}"
        command = f"detlab train experiment=paper/table/{name} seed={seed} {words}"
        make_run(runs / f"paper/table/{name}/birds_5/seed={seed}", {}, AP=0.3, command=command)
    rows = (*ROWS, RowSpec("c", "C", {}, "paper/table/c"))
    table = table_of_study(study(rows), runs, "birds_5")
    start, rest = "'start_from=runs/t/{}/mini/seed=${{seed}}'", f"lr.seed={{}} {of_all} seed=1,2"
    first, second = (f"{start} {rest}".format(name, seed) for name, seed in (("a", 1), ("b", 2)))
    assert [row.command for row in table.rows] == [
        f"detlab train -m experiment=paper/table/{name} {words}" for name, words in zip("abc", (first, second, first))
    ]
    assert table.command.splitlines() == [
        f"detlab train -m experiment=paper/table/a,paper/table/c {first}",
        f"detlab train -m experiment=paper/table/b {second}",
    ]
    assert mending(table) == [table.rows[2].command]


def test_runs_of_a_folder_are_rows_that_differ_in_nothing_but_the_seed(runs):
    table = table_of_folder(runs)
    assert (table.setting, table.metrics, table.title) == ("mini", ("AP", "AP50", "AP75", "AP90"), f"Runs in {runs}")
    assert [row.title for row in table.rows] == ["made, schedule.lr=0.1", "made, schedule.lr=0.2"]
    assert [[run.seed for run in row.runs] for row in table.rows] == [[0, 1, 2], [0, 1, 2]]
    assert table.rows[0].command == "detlab train experiment=made"
    assert list(table.verdicts) == []


def test_rows_are_titled_by_name_where_names_differ(make_run, tmp_path):
    make_run(tmp_path / "b" / "seed=1", {"name": "second", "schedule": {"lr": 3}}, AP=0.5)
    make_run(tmp_path / "a" / "seed=0", {"name": "first"}, AP=0.5)
    assert [row.title for row in table_of_folder(tmp_path).rows] == ["first", "second"]


def test_the_settings_of_one_name_are_rows_of_their_own(make_run, tmp_path):
    make_run(tmp_path / "a" / "seed=0", {"setting": "mini"}, AP=0.5)
    make_run(tmp_path / "b" / "seed=0", {"setting": "paper", "schedule": {"lr": 3}}, AP=0.5)
    table = table_of_folder(tmp_path)
    assert table.setting == ""
    assert [row.title for row in table.rows] == [
        "made, setting=mini, schedule.lr=0.1", "made, setting=paper, schedule.lr=3",
    ]  # fmt: skip


def test_long_differences_are_cut_in_titles_with_given_names_first(make_run, tmp_path):
    one = {"a": 1, "b": {"c": 1, "d": 1}, "method_name": "x"}
    make_run(tmp_path / "p" / "seed=0", one, AP=0.5)
    make_run(tmp_path / "q" / "seed=0", {"a": 2, "b": {"c": 2, "d": 2}, "method_name": "y"}, AP=0.5)
    assert table_of_folder(tmp_path).rows[0].title == "made, method_name=x, a=1, b.c=1, …"


def test_the_same_run_twice_is_two_rows_named_by_their_folders(make_run, tmp_path):
    for folder in ("new", "old"):
        for seed in (0, 1):
            make_run(tmp_path / folder / f"seed={seed}", AP=0.5)
    rows = table_of_folder(tmp_path).rows
    assert [row.name for row in rows] == [f"made, {tmp_path}/{folder}/seed=0" for folder in ("new", "old")]
    assert [[run.folder.parent.name for run in row.runs] for row in rows] == [["new", "new"], ["old", "old"]]


def test_what_does_not_change_the_result_does_not_make_rows(make_run, tmp_path):
    for seed in (0, 1):
        make_run(
            tmp_path / f"seed={seed}", {"run_dir": str(seed), "loader": {"num_workers": seed}, "report": seed}, AP=0.5
        )
    (row,) = table_of_folder(tmp_path).rows
    assert len(row.finished) == 2


def test_runs_without_a_readable_config_are_shown(make_run, tmp_path):
    folder = make_run(tmp_path / "lost" / "seed=0", AP=0.5)
    (folder / "config.yaml").write_text("a: [")
    (row,) = table_of_folder(tmp_path).rows
    assert (row.title, row.by_seed("AP")) == (str(tmp_path / "lost"), {0: 50.0})


def test_folders_without_runs_are_refused(tmp_path):
    with pytest.raises(UserError) as error:
        table_of_folder(tmp_path)
    assert (
        str(error.value) == f"{tmp_path}: there is no run in this folder; give one that detlab train has written into."
    )
    with pytest.raises(UserError, match="nowhere: there is no such folder; give a study"):
        table_of_folder(tmp_path / "nowhere")


def test_a_real_run_is_a_table(finished):
    table = table_of_folder(finished)
    (row,) = table.rows
    assert row.summary("AP").mean > 0
    assert len(commits(table)) <= 1
    assert config_differences(table) == {row.name: []}


def test_differences_are_to_the_first_row(runs):
    assert config_differences(table_of_study(study(), runs)) == {"a": [], "b": ["schedule.lr: 0.1 → 0.2"]}


def test_a_row_of_two_recipes_says_so(runs, make_run):
    make_run(runs / "paper/table/a/mini/seed=3", {"schedule": {"lr": 0.1, "warmup": 5}}, AP=0.5)
    assert config_differences(table_of_study(study(), runs))["a"] == ["seed=3: schedule.warmup: None → 5"]


def test_a_row_of_another_task_is_compared_with_its_own(runs, make_run):
    shutil.rmtree(runs / "paper/table/a")
    make_run(runs / "paper/table/a/mini/seed=0", {"task": {"_target_": "Task", "width": 1}}, AP=0.5)
    assert config_differences(table_of_study(study(), runs, seeds=[0])) == {"a": [], "b": []}


def test_rows_without_a_config_have_no_differences(runs):
    shutil.rmtree(runs / "paper/table/a")
    assert config_differences(table_of_study(study(), runs, seeds=[0])) == {"b": []}


def test_commits_come_once_and_in_order(runs):
    for seed, commit in enumerate(("new", "abc", "")):
        file = runs / f"paper/table/a/mini/seed={seed}/metrics.json"
        file.write_text(file.read_text().replace('"abc"', f'"{commit}"'))
    assert commits(table_of_study(study(), runs)) == ["new", "abc"]


def test_commands_at_a_scale_keep_what_changes_the_results(runs, make_run):
    """A table of mini scale made with more overrides is made again with them; those that watch alone are left out."""
    command = "detlab train experiment=paper/table/a scale=paper seed=4 schedule.iterations=400 callbacks=assignments"
    make_run(runs / "paper/table/a/paper/seed=4", {"data": {"root": "/d"}}, AP=0.3, command=f"{command} data.root=/d")
    chosen = "scale=paper schedule.iterations=400 data.root=/d seed=4"
    assert table_of_study(study(), runs, "paper").command == (
        f"detlab train -m 'experiment=glob(paper/table/*)' {chosen}"
    )
    shutil.rmtree(runs / "paper/table/a/mini")
    command = "detlab train scale=mini experiment=paper/table/a seed=0 loader.num_workers=0 loss.gamma=3 setting=mini"
    make_run(runs / "paper/table/a/mini/seed=0", AP=0.3, command=command)
    table = table_of_study(study(), runs)
    assert table.rows[0].command == "detlab train -m experiment=paper/table/a loss.gamma=3 seed=0,1,2"
    assert table.rows[1].command == "detlab train -m experiment=paper/table/b seed=0,1,2"


def test_commands_begin_with_what_the_rows_need(make_run, tmp_path):
    """The needed run is no row; it is known from its folder, and without one from the record of its table."""
    experiments, runs = tmp_path / "experiments", tmp_path / "runs"
    for name, rows in {
        "teachers": "rows: {plain: {}}",
        "table": "rows: {a: {}}\nneeds: [paper/teachers/plain]",
    }.items():
        (experiments / f"paper/{name}").mkdir(parents=True)
        (experiments / f"paper/{name}.yaml").write_text(f"title: T\n{rows}\n")
    for row in ("teachers/plain", "table/a"):
        (experiments / f"paper/{row}.yaml").write_text("")
    words = "scale=small data=birds setting=birds_5"
    commands = {row: f"detlab train experiment=paper/{row} {words} seed=0" for row in ("table/a", "teachers/plain")}
    make_run(runs / "paper/table/a/birds_5/seed=0", AP=0.3, command=commands["table/a"])
    teacher = make_run(
        runs / "paper/teachers/plain/birds_5/seed=0", AP=0.3, command=f"{commands['teachers/plain']} lr=2"
    )
    expected = [
        f"detlab train -m experiment=paper/teachers/plain {words} lr=2 seed=0",
        f"detlab train -m 'experiment=glob(paper/table/*)' {words} seed=0",
    ]
    whole = read_study(experiments / "paper/table.yaml")
    assert table_of_study(whole, runs, "birds_5").command.splitlines() == expected
    teachers = table_of_study(read_study(experiments / "paper/teachers.yaml"), runs, "birds_5")
    (experiments / "paper/results").mkdir()
    (experiments / "paper/results/teachers-birds_5.json").write_text(record_text(teachers))
    shutil.rmtree(teacher)
    assert table_of_study(whole, runs, "birds_5").command.splitlines() == expected
