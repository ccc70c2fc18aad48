"""`detlab eval` on a trained toy detector: its own data again, and the same data in other formats and orders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detlab.data.formats.coco import to_coco
from detlab.data.formats.yolo_txt import write_yolo
from detlab.data.sources.custom import CustomSource

CPU = "accelerator=cpu"  # the run was tested there, and the last digits differ elsewhere
RUN = [CPU, "ckpt_path=run"]

pytestmark = pytest.mark.usefixtures("trained")


def read(path: str) -> dict:
    return json.loads(Path(path).read_text())


def load(split: str):
    index, problems = CustomSource("voc", root="voc", split="train", val_split="val").load(split)
    assert not problems
    return index


def as_coco(change=len) -> list[str]:
    """The val pictures as `coco.json`, after `change`, and the overrides that name it."""
    content = to_coco(load("val"), "voc/JPEGImages")
    change(content)
    Path("coco.json").write_text(json.dumps(content))
    files = ["data.images=voc/JPEGImages", "data.annotations=coco.json", "data.test_annotations=coco.json"]
    return ["data=custom", "data.format=coco", *files]


def as_yolo(names: list[str] | None = None) -> list[str]:
    """The same as YOLO txt; its classes numbered in the order of `names`."""
    for split in ("train", "val"):
        write_yolo(load(split), "yolo", split)
    if names is not None:
        yaml = Path("yolo/data.yaml")
        old = ["blue", "red"]
        yaml.write_text(yaml.read_text().replace("- blue\n- red\n", "".join(f"- {name}\n" for name in names)))
        for path in Path("yolo/labels").glob("*/*.txt"):
            rows = [line.split(" ", 1) for line in path.read_text().splitlines()]
            path.write_text("".join(f"{names.index(old[int(label)])} {box}\n" for label, box in rows))
    return ["data=custom", "data.format=yolo", "data.yaml=yolo/data.yaml"]


@pytest.mark.slow
def test_on_its_own_data_it_repeats_the_metrics_of_training(detlab):
    result = detlab("eval", *RUN)
    assert result.status == 0, result.err
    assert result.err == ""
    folder = evaluation("custom-test-*-last")
    trained, evaluated = read("run/metrics.json"), read(folder / "metrics.json")
    assert trained["test"]["AP"] > 0
    assert evaluated["test"] == trained["test"]
    assert evaluated["pr_curves"] == trained["pr_curves"]
    assert read(folder / "predictions.json") == read("run/predictions.json")
    assert evaluated["images"] == 2


@pytest.mark.slow
def test_the_table_fits_a_log_and_names_the_classes(detlab):
    out = detlab("eval", *RUN, "output=elsewhere").out
    assert "custom test: 2 images" in out
    assert "…" not in out
    assert all(len(line) <= 80 for line in out.splitlines())
    values = read("elsewhere/metrics.json")["test"]
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("blue"))
    assert row[1:] == [f"{100 * values['AP/blue']:.1f}", f"{100 * values['AP50/blue']:.1f}"]
    heads, cells = next(
        (line.split(), below[1].split())
        for line, *below in zip(out.splitlines(), out.splitlines()[1:], out.splitlines()[2:])
        if "oLRP" in line
    )
    assert dict(zip(heads, cells)) == {
        **{name: f"{100 * values[name]:.1f}" for name in ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")},
        "rho": "–" if values["rho"] is None else f"{values['rho']:.3f}",
    }
    assert "Written to elsewhere" in out
    pictures = sorted(path.name for path in Path("elsewhere/figures").iterdir())
    assert pictures == ["example_00.png", "example_01.png"]


@pytest.mark.parametrize("path", ["run/checkpoints/last.ckpt", "run/checkpoints/best.ckpt", "alone.ckpt"])
def test_a_checkpoint_file_stands_for_its_run(detlab, path):
    shutil.copy("run/checkpoints/last.ckpt", "alone.ckpt")
    result = detlab("eval", CPU, f"ckpt_path={path}", "pictures=0", "output=out")
    assert result.status == 0, result.err
    assert read("out/metrics.json")["test"] == read("run/metrics.json")["test"]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_size_does_not_matter(detlab, batch):
    assert detlab("eval", *RUN, f"batch_size={batch}", "pictures=0", "output=out").status == 0
    values, expected = read("out/metrics.json")["test"], read("run/metrics.json")["test"]
    assert {k: v for k, v in values.items() if v is not None} == pytest.approx(
        {k: v for k, v in expected.items() if v is not None}, abs=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["coco", "yolo", "yolo in another order", "coco in another order"])
def test_other_formats_and_class_orders_give_the_same_metrics(detlab, form):
    def swap(content):
        for record in content["categories"]:
            record["id"] = 20 - record["id"]
        for record in content["annotations"]:
            record["category_id"] = 20 - record["category_id"]

    overrides = {
        "coco": as_coco,
        "yolo": as_yolo,
        "yolo in another order": lambda: as_yolo(["red", "blue"]),
        "coco in another order": lambda: as_coco(swap),
    }[form]()
    result = detlab("eval", *RUN, *overrides, "pictures=0", "output=out")
    assert result.status == 0, result.err
    assert read("out/metrics.json")["test"] == read("run/metrics.json")["test"]
    assert read("out/metrics.json")["pr_curves"] == read("run/metrics.json")["pr_curves"]


def evaluation(pattern: str) -> Path:
    (folder,) = Path("run/eval").glob(pattern)
    return folder


@pytest.mark.slow
def test_without_an_output_each_data_set_split_and_checkpoint_has_its_folder(detlab):
    assert detlab("eval", *RUN, *as_yolo(), "data.name=other", "split=train", "pictures=0").status == 0
    best = "ckpt_path=run/checkpoints/best.ckpt"
    assert detlab("eval", best, *as_yolo(), "data.name=other", "split=train", "pictures=0").status == 0
    content = read(evaluation("other-train-*-last") / "metrics.json")
    assert (content["data"], content["split"], content["images"]) == ("other", "train", 4)
    assert evaluation("other-train-*-best").is_dir()
    assert read("run/metrics.json")["status"] == "finished"


def test_a_class_that_nobody_drew_here_counts_for_nothing(detlab):
    def blue_only(content):
        red = next(c["id"] for c in content["categories"] if c["name"] == "red")
        content["categories"] = [c for c in content["categories"] if c["id"] != red]
        content["annotations"] = [a for a in content["annotations"] if a["category_id"] != red]

    result = detlab("eval", *RUN, *as_coco(blue_only), "pictures=0", "output=out")
    assert result.status == 0, result.err
    values, before = read("out/metrics.json")["test"], read("run/metrics.json")["test"]
    assert values["AP/red"] is None
    assert values["AP/blue"] == before["AP/blue"]
    assert values["AP"] == values["AP/blue"]


@pytest.mark.slow
def test_another_postprocess_can_be_tried(detlab):
    assert detlab("eval", *RUN, "postprocess=nms", "postprocess.max_detections=1", "output=out").status == 0
    assert len(read("out/predictions.json")) == 2  # one a picture
    found = detlab("eval", *RUN, "postprocess=nms", "postprocess.score_threshold=1.1")
    assert found.status == 1
    assert "postprocess: Expected" in found.err


@pytest.mark.slow
def test_several_scales_can_be_tried(detlab):
    one = ["testing=multi_scale", "testing.scales=[1]", "testing.flip=false"]
    assert detlab("eval", *RUN, *one, "output=same").status == 0
    assert read("same/predictions.json") == read("run/predictions.json")
    voting = ["postprocess=voting", "postprocess.score_threshold=0.01", "testing=multi_scale"]
    assert detlab("eval", *RUN, *voting, "output=several").status == 0
    assert read("several/metrics.json")["test"] != read("same/metrics.json")["test"]
    found = detlab("eval", *RUN, "testing=multi_scale", "testing.scales=[0]")
    assert found.status == 1
    assert "testing: Expected" in found.err


def test_the_predictions_fit_the_annotation_file(detlab):
    """Its image and category ids, its pixels: COCO's own code reads both and finds the same AP."""

    def other_ids(content):
        ids = {"blue": 31, "red": 7}
        names = {c["id"]: c["name"] for c in content["categories"]}
        for record in content["annotations"]:
            record["category_id"] = ids[names[record["category_id"]]]
            record["image_id"] += 500
        for record in content["categories"]:
            record["id"] = ids[record["name"]]
        for record in content["images"]:
            record["id"] += 500

    assert detlab("eval", *RUN, *as_coco(other_ids), "pictures=0", "output=out").status == 0
    truth = COCO("coco.json")
    evaluation = COCOeval(truth, truth.loadRes("out/predictions.json"), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    values = read("out/metrics.json")["test"]
    assert values == read("run/metrics.json")["test"]
    assert evaluation.stats[:2] == pytest.approx([values["AP"], values["AP50"]], abs=1e-3)


@pytest.mark.slow
def test_the_detector_of_a_moving_average_is_the_one_that_was_tested(detlab, toy):
    longer = ["schedule.iterations=20", "schedule.val_every=20", "postprocess.score_threshold=0.001"]
    extra = ["callbacks=ema", "logger=csv", "logger.pictures=0", "report=false", "run_dir=averaged"]
    data = ["data=custom", "data.format=voc", "data.root=voc", "data.split=train", "data.val_split=val"]
    assert detlab("train", *data, *toy, *longer, *extra).status == 0
    assert detlab("eval", CPU, "ckpt_path=averaged", "pictures=0", "output=out").status == 0
    assert read("out/predictions.json") == read("averaged/predictions.json") != []
    assert read("out/metrics.json")["test"] == read("averaged/metrics.json")["test"]
