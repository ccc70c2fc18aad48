import json

import pytest

from detlab.reporting.study.run import find_runs, read_run, seed_folders


def test_a_finished_run_is_read_whole(make_run, tmp_path):
    run = read_run(make_run(tmp_path / "seed=3", AP=0.5, AP75=None))
    assert (run.state, run.seed, run.error, run.folder) == ("finished", 3, "", tmp_path / "seed=3")
    assert (run.value("AP"), run.value("AP75"), run.value("AP90")) == (50.0, None, None)
    assert run.config["schedule"] == {"lr": 0.1}
    assert run.history["train/loss"].tolist() == [0.5, 0.25]
    assert run.result["command"] == "detlab train experiment=made"


def test_states_follow_what_training_left(make_run, tmp_path):
    assert read_run(tmp_path / "seed=7").state == "missing"
    (tmp_path / "seed=7").mkdir()
    missing = read_run(tmp_path / "seed=7")
    assert (missing.state, missing.seed, missing.error, missing.result) == ("missing", 7, "", {})
    unfinished = read_run(make_run(tmp_path / "seed=1"))
    assert (unfinished.state, unfinished.seed, unfinished.error) == ("unfinished", 1, "")
    assert unfinished.history["step"].tolist() == [1, 2]
    failed = read_run(make_run(tmp_path / "seed=2", failed="The disk is full."))
    assert (failed.state, failed.error) == ("failed", "The disk is full.")


def test_a_run_that_finished_after_a_failure_is_finished(make_run, tmp_path):
    run = read_run(make_run(tmp_path / "seed=0", failed="once", AP=0.5))
    assert (run.state, run.error) == ("finished", "")


def test_a_failure_before_the_folder_was_claimed_is_one(tmp_path):
    (tmp_path / "failure.json").write_text('{"error": "no data"}')
    assert (read_run(tmp_path).state, read_run(tmp_path).error) == ("failed", "no data")


def test_a_copied_folder_is_no_further_seed(make_run, tmp_path):
    assert read_run(make_run(tmp_path / "seed=5", {"seed": 0}, AP=0.5)).seed == 0


MEND = "start the run's command again, or delete its folder to begin anew."


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.json", '{"status": "finished", "te', "/metrics.json, line 1: this is no valid JSON ("),
        ("metrics.json", "", f"/metrics.json: there is nothing in this file; {MEND}"),
        ("metrics.json", "[1]", "/metrics.json: expected an object"),
        ("metrics.json", '{"status": "finished", "test": [1]}', "/metrics.json: test holds no metrics but [1]; "),
        ("metrics.json", '{"status": "finished", "test": {"AP": "0.5"}}', "/metrics.json: test AP is '0.5', which"),
        ("metrics.json", '{"status": "finished", "test": {"AP": true}}', "/metrics.json: test AP is True, which"),
        ("metrics.json", b"\xff\xfe", "/metrics.json: cannot be read as text"),
        ("failure.json", '{"err', "/failure.json, line 1: this is no valid JSON"),
        ("failure.json", "", f"/failure.json: there is nothing in this file; {MEND}"),
        ("config.yaml", "a: [", "/config.yaml, line 1: not valid YAML; restore it or start over with overwrite=true."),
        ("config.yaml", "", "/config.yaml holds no config; restore it or start over"),
        ("config.yaml", b"a: \xff", ": cannot be read ('utf-8' codec"),
        ("metrics.csv", "step,train/loss\n1,x\n2,3\n", "/metrics.csv, line 2: expected a number for train/loss, got "),
    ],
)  # fmt: skip
def test_an_unfinished_run_with_a_broken_file_has_failed_and_says_which(make_run, tmp_path, name, content, said):
    folder = make_run(tmp_path / "seed=4")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    run = read_run(folder)
    assert (run.state, run.seed, run.result) == ("failed", 4, {})
    assert run.error.startswith(f"{folder}{said}")
    assert bool(run.config) == (name != "config.yaml")
    assert bool(run.history) == (name != "metrics.csv")


@pytest.mark.parametrize(
    ("name", "content"), [("config.yaml", "a: ["), ("metrics.csv", "step\nx\n"), ("failure.json", "")]
)
def test_a_whole_result_counts_whatever_else_is_broken(make_run, tmp_path, name, content):
    folder = make_run(tmp_path / "seed=4", AP=0.5)
    (folder / name).write_text(content)
    run = read_run(folder)
    assert (run.state, run.seed, run.value("AP")) == ("finished", 4, 50.0)
    assert name in run.error


def test_the_failure_comes_before_what_is_broken(make_run, tmp_path):
    folder = make_run(tmp_path / "seed=0", failed="The disk is full.")
    (folder / "metrics.csv").write_text("step\nx\n")
    assert read_run(folder).error.startswith(f"The disk is full. {folder}/metrics.csv, line 2: ")


def test_a_history_cut_off_in_its_last_row_is_no_mistake(make_run, tmp_path):
    folder = make_run(tmp_path / "seed=0")
    (folder / "metrics.csv").write_text("step,train/loss\n1,0.5\n2")
    run = read_run(folder)
    assert (run.state, run.history["step"].tolist()) == ("unfinished", [1])


def test_values_that_json_cannot_hold_are_not_there(make_run, tmp_path):
    folder = make_run(tmp_path / "seed=0", AP=0.5)
    (folder / "metrics.json").write_text(json.dumps({"status": "finished", "test": {"AP": float("nan")}}))
    assert read_run(folder).value("AP") is None


def test_seed_folders_come_by_number_and_nothing_else_with_them(tmp_path):
    for name in ("seed=10", "seed=9", "seed=0", "seed=1.bak", "seed=", "seed=-1", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "seed=2").write_text("a file")
    assert [path.name for path in seed_folders(tmp_path)] == ["seed=0", "seed=9", "seed=10"]
    assert seed_folders(tmp_path / "nowhere") == []


def test_runs_are_found_at_any_depth_but_not_inside_of_runs(make_run, tmp_path):
    first = make_run(tmp_path / "x" / "mini" / "seed=0", AP=0.5)
    second = make_run(tmp_path / "y", failed="no")
    make_run(first / "eval" / "val", AP=0.4)
    make_run(tmp_path / ".trash" / "seed=0", AP=0.4)
    (tmp_path / "multirun" / "job").mkdir(parents=True)
    (tmp_path / "multirun" / "job" / "config.yaml").write_text("a: 1")  # a config alone is no run
    (tmp_path / "again").symlink_to(tmp_path / "x")
    assert list(find_runs(tmp_path)) == [first, second]
    assert list(find_runs(first)) == [first]
