"""What people type after a verb, and what reaches Hydra."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from detlab.config.launch import CONFIG_DIR
from detlab.config.overrides import RENAMED_KEYS, tidy
from detlab.errors import UserError

GROUPS = {"data": ["scenes", "voc07"], "debug": ["quick"]}


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("ckpt_path=runs/x/seed=0", 'ckpt_path="runs/x/seed=0"'),
        ("source=photos (2)/a.jpg", 'source="photos (2)/a.jpg"'),
        ("source=it's/a[0].jpg", '''source="it's/a[0].jpg"'''),
        ('source=a "b".jpg', """source='a "b".jpg'"""),
        ("source=[a", 'source="[a"'),
        ("runs=[a/seed=0, b (2)/seed=1]", 'runs=["a/seed=0","b (2)/seed=1"]'),
        ("runs=[a/seed=0]", 'runs=["a/seed=0"]'),
        ("runs=['a/seed=0',b]", "runs=['a/seed=0',b]"),
        ("runs=[a=[0]]", 'runs="[a=[0]]"'),
        ("source=[]", "source=[]"),
        ("source=", "source="),
        ("seed=3", "seed=3"),
        ("seed=0,1", "seed=0,1"),
        ("schedule.milestones=[1,2]", "schedule.milestones=[1,2]"),
        ("name='a b'", "name='a b'"),
        ("run_dir=sweep/${seed}", "run_dir=sweep/${seed}"),
        ("+x={a: 1}", "+x={a: 1}"),
        ("~schedule.lr", "~schedule.lr"),
        ("-m", "-m"),
        ("data=scenes,voc07", "data=scenes,voc07"),
        ("debug=null", "debug=null"),
        ("+data=voc07", "+data=voc07"),
        ("data@data.sources.a.source=voc07", "data@data.sources.a.source=voc07"),
        ("data@view=null", "data@view=null"),
    ],
)
def test_values_that_hydra_would_refuse_are_quoted(typed, taken):
    assert tidy([typed], GROUPS) == [taken]


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("interval_count=5,8", "localization.num_intervals=5,8"),
        ("+pseudo_threshold=0.5", "+pseudo.tau=0.5"),
        ("~interval_weight", "~localization.weight"),
    ],
)
def test_earlier_keys_keep_working_and_are_told_by_their_names_today(typed, taken, capsys):
    assert tidy([typed], GROUPS) == [taken]
    old, new = (word.strip("+~").partition("=")[0] for word in (typed, taken))
    assert capsys.readouterr().err == f"detlab: {old} is {new} now.\n"


def test_earlier_keys_lead_to_keys_that_are_there():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["method=faster_rcnn", "localization=intervals", "pseudo=teacher"])
    assert all(OmegaConf.select(cfg, name) is not None for name in RENAMED_KEYS.values())


@pytest.mark.parametrize(
    "typed", [["--cfg", "job"], ["-m", "seed=0,1"], ["--config-dir", "more/conf"], ["--info"], ["--info", "all", "x=1"]]
)
def test_flags_keep_their_values(typed):
    assert tidy(typed, GROUPS) == typed


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("+data@view=voc70", r"There is no data@view=voc70 \(did you mean 'voc07'\?\); see conf/data/"),
        ("overwrite", "'overwrite' is no setting; write key=value"),
        ("=3", "'=3' is no setting"),
        ("data=voc7", r"There is no data=voc7 \(did you mean 'voc07'"),
        ("data=scenes,voc7", "There is no data=voc7"),
        ("debug=quik", "There is no debug=quik"),
        ("data=[scenes,voc07]", r"data=\[scenes,voc07\]: give one option"),
    ],
)
def test_what_hydra_would_pass_over_or_garble_is_refused(typed, answer):
    with pytest.raises(UserError, match=answer):
        tidy([typed], GROUPS)


def test_two_sources_of_one_name_are_refused():
    once = ["+data.sources.a={format: voc}", "+data.sources.b={format: voc}", "data.sources.a.fraction=0.5"]
    assert tidy(once, GROUPS) == once
    with pytest.raises(UserError, match=r"data\.sources\.a is given twice; name one of the two sources otherwise\."):
        tidy([*once, "+data.sources.a={format: yolo}"], GROUPS)


def test_options_of_ones_own_are_found(detlab):
    Path("mine/data").mkdir(parents=True)
    Path("mine/data/ants.yaml").write_text("defaults: [custom]\nformat: voc\nroot: ants\nsplit: train\n")
    result = detlab("check", "--config-dir", "mine", "data=ants")
    assert result.status == 1
    assert (
        result.err
        == "detlab: ants: no such folder; set data.root to the folder that holds VOCdevkit, or to that of one set.\n"
    )
    assert "data/aunts" in detlab("check", "--config-dir", "mine", "data=aunts").err


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_a_run_folder_with_an_equals_sign_is_taken_as_it_is_typed(detlab):
    folder = Path("runs/squares (1)/seed=0")
    folder.parent.mkdir(parents=True)
    Path("run").rename(folder)
    for command in (["report", str(folder)], ["report", f"source={folder}"]):
        (folder / "report.html").unlink()
        result = detlab(*command)
        assert result.status == 0, result.err
        assert f"Report: {folder}/report.html" in result.out
        assert (folder / "report.html").stat().st_size > 1000
    assert detlab("eval", f"ckpt_path={folder}", "pictures=0").status == 0
    assert detlab("predict", f"ckpt_path={folder}", "source=voc/JPEGImages/0000.jpg").status == 0
    assert (folder / "predictions/0000/predictions.json").exists()


def test_flags_and_their_words_go_first():
    typed = ["a=1", "-m", "b=2", "--config-dir", "mine", "~c", "--cfg=job"]
    assert tidy(typed, {}) == ["-m", "--config-dir", "mine", "--cfg=job", "a=1", "b=2", "~c"]
