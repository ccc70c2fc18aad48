"""`detlab cost`: a step without data or weights, the table, the JSON, and what is refused before any work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from detlab.config import cost
from detlab.config.launch import CONFIG_DIR
from detlab.config.schema import KEYS, validate
from detlab.errors import UserError
from detlab.profiling.cost_table import duration, labels, notes, number
from detlab.profiling.gpu_hours import V100_FLOPS

# ResNet-18 at the paper's schedule and data, on pictures small enough to take a second.
SMALL_PAPER = ["scale=paper", "backbone=resnet18", "resize.size=64", "resize.max_size=128", "detector.head.convs=1"]


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("cost", list(overrides))


def result(**changes):
    row = {
        "name": "t/a", "overrides": [], "iterations": 90_000, "images_per_iteration": 16, "precision": "32-true",
        "picture": [800, 1344], "mean_area": 1.0, "gpu_hours": {"V100": {}},
        "device_share": 1.0,
    }  # fmt: skip
    return row | changes


@pytest.mark.slow
def test_the_config_is_that_of_train_and_its_own_keys():
    own = {"images", "picture", "classes", "output"}
    for overrides in ([], ["scale=paper", "method=atss", "debug=quick"], ["experiment=baselines/anchors/one_giou"]):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            train = OmegaConf.to_container(compose("train", overrides))
        mine = OmegaConf.to_container(composed(*overrides))
        assert {key: value for key, value in mine.items() if key not in own} == train
        assert own <= set(mine)
    assert own | set(KEYS["train"]) == set(KEYS["cost"])


@pytest.mark.slow
def test_a_toy_through_the_command_line(detlab, toy):
    answer = detlab("cost", *toy, "output=cost.json")
    assert answer.status == 0, answer.err
    assert re.search(r"scenes-retinanet +2 × 128 × 128 ", answer.out)
    assert "too small to fill a GPU" in answer.out
    assert [path.name for path in Path().iterdir()] == ["cost.json"]  # nothing else: no data, no run, no W&B
    (row,) = json.loads(Path("cost.json").read_text())["rows"]
    assert row["picture"] == [128, 128]
    assert (row["classes"], row["images_per_step"], row["images_per_iteration"], row["iterations"]) == (12, 2, 2, 4)
    assert row["device"] == "CPU"
    assert row["device_hours"] == pytest.approx(4 * row["seconds_per_step"] / 3600)
    assert row["gpu_hours"] == {}


@pytest.mark.slow
def test_paper_hours_follow_from_the_counted_flops(detlab):
    answer = detlab("cost", *SMALL_PAPER, "images=2", "loader.batch_size=4", "schedule.iterations=250", "output=c.json",
                    "trainer.accumulate_grad_batches=8", "picture=[100,200]", "schedule.milestones=[]")  # fmt: skip
    assert answer.status == 0, answer.err
    (row,) = json.loads(Path("c.json").read_text())["rows"]
    assert row["picture"] == [64, 128]
    assert (row["classes"], row["images_per_iteration"]) == (80, 32)
    assert row["gpu_hours"] == {} or row["gpu_hours"]["V100"]["hours"] == pytest.approx(
        row["flops_per_image"] * 32 * 250 / V100_FLOPS / 3600
    )
    assert row["device_hours"] == pytest.approx(row["seconds_per_step"] / 2 * 32 * 250 / 3600)


@pytest.mark.slow
def test_hours_of_a_step_that_fills_a_gpu(detlab):
    answer = detlab("cost", *SMALL_PAPER, "loader.batch_size=300", "images=1", "output=c.json", "trainer=gpu",
                    "trainer.precision=bf16-mixed")  # fmt: skip
    assert answer.status == 0, answer.err
    content = json.loads(Path("c.json").read_text())
    (row,) = content["rows"]
    hours = row["gpu_hours"]
    assert hours["V100"]["hours"] == pytest.approx(row["flops_per_image"] * 300 * 90_000 / (1.87 * V100_FLOPS) / 3600)
    assert hours["V100"]["low"] < hours["V100"]["hours"] < hours["V100"]["high"]
    assert hours["H100"]["hours"] < hours["A100"]["hours"] < hours["V100"]["hours"]
    assert content["assumptions"]["reference"]["seconds_per_iteration"] == 0.205
    assert "300 images × 90,000 iterations / (peak × utilisation), at bf16-mixed: V100 125 TFLOP/s" in " ".join(
        answer.out.split()
    )
    assert "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md" in answer.out


@pytest.mark.slow
def test_the_rows_of_a_table_make_one_table(detlab, toy):
    answer = detlab("cost", "-m", "experiment=baselines/anchors/nine_l1,baselines/anchors/atss_centerness", *toy,
                    "output=c.json")  # fmt: skip
    assert answer.status == 0, answer.err
    assert answer.out.count("TFLOP/image") == 1
    for name in ("nine_l1", "atss_centerness"):
        assert re.search(rf"baselines/anchors/{name} +2 × 128 × 128 ", answer.out)
    rows = json.loads(Path("c.json").read_text())["rows"]
    assert [row["experiment"] for row in rows] == ["baselines/anchors/nine_l1", "baselines/anchors/atss_centerness"]
    assert set(rows[1]["losses"]) == {"classification", "localization", "quality"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        ["data=scenes_split", "pseudo=proxy", "pseudo.classifier=runs/none"],
        ["data=scenes_semi", "pseudo=teacher", "pseudo.teacher=runs/none"],
        ["data=scenes_semi", "pseudo=teacher"],
    ],
    ids=str,
)
def test_what_labels_with_finished_runs_is_left_out_and_named(detlab, toy, row):
    toy = [word for word in toy if not word.startswith("data.")]
    answer = detlab("cost", *toy, *row)
    assert answer.status == 0, answer.err
    assert "what labels from finished runs add" in " ".join(answer.out.split())


def test_a_classifier_is_no_detector(detlab):
    answer = detlab("cost", "experiment=proxy/sources/classifier")
    assert answer.status == 1
    assert "proxy/sources/classifier trains no detector (task=ProxyTask): leave it out." in answer.err


@pytest.mark.slow
def test_a_row_that_cannot_be_leaves_the_others_alone(detlab, toy):
    answer = detlab("cost", "-m", "loss=focal_l1,focal_giou_iou", *toy)
    assert answer.status == 1
    assert "loss.quality (PredictedIoU) needs quality" in answer.err
    assert re.search(r"scenes-retinanet +2 × 128 × 128 ", answer.out)  # the row that can


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["detector.head.quality=iou"], "does not train: take loss=paa, or detector.head.quality=none"),
        (["schedule.lrr=1"], "There is no key 'schedule.lrr' in the config (did you mean 'schedule.lr'?)"),
        (["imges=1"], "There is no key 'imges' in the config (did you mean 'images'"),
        (["images=0"], "images=0: input should be greater than or equal to 1"),
        (["picture=[8,100]"], "picture=[8, 100]: input should be greater than or equal to 16"),
        (["picture=[100]"], "picture=[100]: "),
        (["seed=-1"], "seed=-1: "),
        (["loss=focal"], "There is no loss=focal (did you mean 'focal_"),
        (["trainer.precision=16-true"], "take 16-mixed"),
        (["scale=small", "data.format=voc", "data.root=x", "data.split=all"], "say how many classes they have"),
        (["data=bccd_semi"], "data=bccd_semi: no data are read here, so say how many classes they have"),
    ],
)
def test_impossible_configs_are_refused_before_any_work(detlab, tmp_path, overrides, sentence):
    answer = detlab("cost", *overrides)
    assert answer.status == 1
    assert sentence in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_launchers_that_run_rows_side_by_side_are_refused(detlab, toy):
    answer = detlab("cost", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "seed=0", *toy)
    assert answer.status == 1
    assert "measures one row at a time" in answer.err


@pytest.mark.parametrize(
    ("overrides", "classes"),
    [
        (["data=scenes"], 12), (["data=voc0712"], 20), (["data=coco2017"], 80), (["data=coco2017", "classes=3"], 3),
        (["data=custom", "data.format=voc", "data.root=x", "data.split=a", "data.classes=[a,b]"], 2),
        (["data=voc_split"], 12), (["data=scenes_split"], 12), (["data=coco_partial"], 80), (["data=voc_semi"], 20),
        (["data=scenes_split", "data.groups.a=[car,van]", "data.groups.b=[bus]", "+data.source.classes=[car]"], 3),
    ],
)  # fmt: skip
def test_classes_without_data(overrides, classes):
    assert cost.classes_of(composed(*overrides)) == classes


@pytest.mark.slow
def test_pictures_of_data_sets():
    assert cost.picture_of(composed("data.size=160")) == (160, 160)
    assert cost.picture_of(composed("data=scenes_semi", "data.source.size=160")) == (160, 160)
    assert cost.picture_of(composed("scale=paper")) == (480, 800)
    assert cost.picture_of(composed("scale=paper", "picture=[300,500]")) == (300, 500)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "images"),
    [
        ([], 16), (["trainer.accumulate_grad_batches=2"], 32), (["trainer.devices=4"], 64),
        (["trainer.devices=[0,1]", "+trainer.num_nodes=3"], 96), (["trainer.devices=auto"], 16),
    ],
)  # fmt: skip
def test_images_per_iteration(overrides, images):
    assert cost.images_per_iteration(composed(*overrides)) == images


def test_a_recipe_for_gpus_is_measured_on_what_there_is(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = composed("scale=paper", "trainer=gpu", "trainer.devices=8", "+trainer.strategy=ddp")
    local = cost.on_this_device(cfg).trainer
    assert (local.accelerator, local.precision, local.devices) == ("cpu", "32-true", 1)
    assert "strategy" not in local
    assert (cfg.trainer.precision, cfg.trainer.devices) == ("16-mixed", 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    local = cost.on_this_device(cfg).trainer
    assert (local.accelerator, local.precision, local.devices) == ("gpu", "16-mixed", 1)


def test_a_row_filed_under_another_name_is_refused():
    with pytest.raises(UserError, match="name is 'other'"):
        cost.check_cost(composed("name=other"), "baselines/anchors/one_giou")
    validate(composed(), "cost")


def test_labels_tell_rows_of_one_name_apart():
    rows = [
        result(overrides=["experiment=t/a", "scale=paper", "loss=x"]),
        result(overrides=["experiment=t/b", "scale=paper", "loss=y"], name="t/b"),
    ]
    assert labels(rows) == ["t/a loss=x", "t/b loss=y"]
    assert labels(rows[:1]) == ["t/a"]


def test_what_the_notes_say():
    text = " ".join(notes([result()]))
    assert "16 images × 90,000 iterations" in text
    assert "V100 15.7 TFLOP/s × 62%" in text
    assert "padded to 1344 × 1344, 1.68 times" in text
    assert "draws sizes" not in text
    square = " ".join(notes([result(picture=[64, 64], mean_area=0.7, gpu_hours={}), result(iterations=5)]))
    assert "padded" not in square
    assert "The recipe draws sizes" in square
    assert "Rows differ" in square
    assert "busy" not in text + square
    assert "down to 30% were left" in " ".join(notes([result(device_share=0.3), result(device_share=0.4)]))
    assert "busy" not in " ".join(notes([result(device_share=None)]))  # on a GPU


def test_numbers_and_durations():
    assert [number(value) for value in (0.00123, 1.2345, 58.77, 336.4, 12345.6)] == [
        "0.00123", "1.23", "58.8", "336", "12,346"
    ]  # fmt: skip
    assert [duration(hours) for hours in (0.05, 1.5, 30, 8000)] == ["3 min", "90 min", "30 h", "333 days"]
