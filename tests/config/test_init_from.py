"""A detector begins with the weights of another run, of other classes or another method, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from detlab.engine.callbacks.checkpoints import load_checkpoint

QUIET = ["logger=csv", "logger.pictures=0", "report=false"]
STILL = ["schedule.lr=1e-30", "schedule.weight_decay=0"]  # what it ends with is what it began with


def begin(detlab, words, name, *more):
    return detlab("train", *words, *QUIET, f"run_dir={name}", *more)


def weights(name):
    return load_checkpoint(f"{name}/checkpoints/last.ckpt")["state_dict"]


def same(one, other):
    """Names of the weights that are the same in both."""
    shared = {name for name, value in one.items() if name in other and value.shape == other[name].shape}
    return {name for name in shared if torch.allclose(one[name], other[name], rtol=0, atol=1e-20)}


@pytest.mark.slow
@pytest.mark.parametrize(("start", "extra"), [("a", []), ("a/checkpoints/last.ckpt", []), ("a", ["callbacks=ema"])])
def test_of_the_same_data_all_weights(detlab, tiny, start, extra):
    assert begin(detlab, tiny, "a", *extra).status == 0
    other = begin(detlab, tiny, "b", f"start_from={start}", "seed=1", *STILL, *extra)
    assert other.status == 0, other.err
    assert f"Begins with the weights of {start}.\n" in other.out
    a, b = weights("a"), weights("b")
    assert same(a, b) == a.keys() == b.keys()
    metrics = json.loads(Path("b/metrics.json").read_text())
    assert metrics["learned_from"].keys() == {start}
    assert load_checkpoint("b/checkpoints/last.ckpt")["detlab"]["learned_from"] == metrics["learned_from"]


@pytest.mark.slow
def test_of_other_classes_all_but_what_tells_them(detlab, tiny):
    assert begin(detlab, tiny, "a").status == 0
    turned = ["data.classes=[red,blue]", "seed=1", *STILL]
    assert begin(detlab, tiny, "alone", *turned).status == 0
    other = begin(detlab, tiny, "b", "start_from=a", *turned)
    assert other.status == 0, other.err
    assert "Begins with the weights of a, but for head.logits.\n" in other.out
    a, b, alone = weights("a"), weights("b"), weights("alone")
    fresh = a.keys() - same(a, b)
    assert fresh == {"detector.head.logits.weight", "detector.head.logits.bias"}
    assert fresh <= same(b, alone)


@pytest.mark.slow
def test_of_another_number_of_classes_and_another_method(detlab, tiny):
    assert begin(detlab, tiny, "a").status == 0
    other = begin(detlab, tiny, "b", "start_from=a", "data.classes=[red,blue,green]", "method=paa", "seed=1", *STILL)
    assert other.status == 0, other.err
    assert "Begins with the weights of a, but for head." in other.out
    a, b = weights("a"), weights("b")
    assert {name for name in a if "backbone" in name or "fpn" in name} <= same(a, b)


@pytest.mark.slow
def test_another_backbone_is_refused_before_anything_is_written(detlab, tiny):
    assert begin(detlab, tiny, "a").status == 0
    refused = begin(detlab, tiny, "b", "start_from=a", "backbone.channels=[8,8,8,8,24]")
    assert refused.status == 1
    assert "start_from=a has another backbone (backbone." in refused.err
    assert "take the one of that run (its config.yaml says which), or leave start_from out." in refused.err
    assert not Path("b").exists()


@pytest.mark.slow
def test_no_run_to_begin_with_is_refused_before_data_are_read(detlab, tiny):
    missing = begin(detlab, tiny, "b", "start_from=gone", "data.root=nowhere")
    assert missing.err == (
        "detlab: start_from=gone: there is no such run; train it, before others learn from its detector.\n"
    )
    itself = begin(detlab, tiny, "b", "start_from=b")
    assert itself.err == "detlab: start_from=b is this run itself; give this one a name of its own (name=...).\n"
    Path("a.ckpt").write_text("no weights")
    assert "a.ckpt is not a readable checkpoint" in begin(detlab, tiny, "b", "start_from=a.ckpt").err
    assert not Path("b").exists()


@pytest.mark.slow
def test_cut_off_it_ends_as_it_would_and_with_no_other_start(detlab, tiny, power_cut):
    assert begin(detlab, tiny, "a").status == 0
    words = [*tiny, "start_from=a", "save_every=1", "seed=1"]
    assert begin(detlab, words, "whole").status == 0
    with power_cut(2), pytest.raises(RuntimeError, match="power cut"):
        begin(detlab, words, "parts")
    shutil.move("a", "kept")
    assert begin(detlab, tiny, "a", "seed=2").status == 0
    replaced = begin(detlab, words, "parts")
    assert "a holds another model than the one that this run began with" in replaced.err
    shutil.rmtree("a")
    shutil.move("kept", "a")
    assert begin(detlab, words, "parts").status == 0
    whole, parts = weights("whole"), weights("parts")
    assert same(whole, parts) == whole.keys()


@pytest.mark.slow
def test_a_student_begins_with_its_teacher(detlab, tiny):
    semi = ["data=scenes_semi", "data.source.train=6", "data.source.val=2", "data.source.test=2", "data.source.size=64"]
    toy = [word for word in tiny if not word.startswith("data")]
    words = [*semi, *toy, "data.source.cache_dir=scenes", "data.labeled_fraction=0.5", "pseudo=teacher"]
    assert begin(detlab, toy, "a", *semi, "data.source.cache_dir=scenes", "data.only=labelled").status == 0
    both = begin(detlab, words, "b", "start_from=a", *STILL)
    assert both.status == 0, both.err
    assert both.out.count("Begins with the weights of a.") == 1  # the teacher
    a, teacher, student = weights("a"), weights("b/teacher"), weights("b")
    assert same(a, teacher) == same(a, student) == a.keys()
