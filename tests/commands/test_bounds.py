"""`detlab bounds` on what a trained toy detector left on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from detlab.data.formats.coco import to_coco
from detlab.data.sources.custom import CustomSource

pytestmark = pytest.mark.usefixtures("trained")


def read(path: str | Path) -> dict:
    return json.loads(Path(path).read_text())


def test_of_a_run(detlab):
    result = detlab("bounds", "run=run", "output=bounds.json")
    assert result.status == 0, result.err
    assert "run/predictions.json: custom test, 2 images" in result.out
    content, metrics = read("bounds.json"), read("run/metrics.json")["test"]
    rows = content["rows"]
    assert (content["data"], content["split"]) == ("custom", "test")
    assert list(rows) == ["as it is", "as it is, matched once", "lower bound", "upper bound"]
    for name, value in rows["as it is"].items():  # predictions on disk are rounded
        assert value == pytest.approx(metrics[name], abs=2e-3), name
    assert metrics["AP50"] > 0
    ap50 = {row["AP50"] for row in rows.values()}
    assert max(ap50) - min(ap50) < 2e-6
    assert rows["lower bound"]["AP"] <= rows["as it is, matched once"]["AP"] <= rows["upper bound"]["AP"]
    printed = next(line.split() for line in result.out.splitlines() if line.strip().startswith("upper bound"))
    assert printed[2:] == [
        f"{rows['upper bound']['rho']:.3f}",
        *(f"{100 * rows['upper bound'][name]:.1f}" for name in ("AP", "AP50", "AP75", "AP90")),
    ]


def test_a_run_is_left_as_it_was(detlab):
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert detlab("bounds", "run=run/predictions.json").status == 0
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_of_an_evaluation_on_other_data(detlab):
    """In another format, with another order and other numbers of the classes; one of them is not in the data."""
    index, _ = CustomSource("voc", root="voc", split="train", val_split="val").load("train")
    content = to_coco(index, "voc/JPEGImages")
    blue = next(record["id"] for record in content["categories"] if record["name"] == "blue")
    content["categories"] = [{"id": 7, "name": "blue"}]
    content["annotations"] = [{**a, "category_id": 7} for a in content["annotations"] if a["category_id"] == blue]
    Path("coco.json").write_text(json.dumps(content))
    files = ["data.images=voc/JPEGImages", "data.annotations=coco.json", "data.test_annotations=coco.json"]
    data = ["data=custom", "data.format=coco", *files]
    assert detlab("eval", "accelerator=cpu", "ckpt_path=run", *data, "pictures=0").status == 0
    (folder,) = Path("run/eval").iterdir()
    result = detlab("bounds", f"run={folder}", *data, "output=bounds.json")
    assert result.status == 0, result.err
    rows, metrics = read("bounds.json")["rows"], read(folder / "metrics.json")["test"]
    assert rows["as it is"]["AP50"] == pytest.approx(metrics["AP50"], abs=2e-3)
    assert metrics["AP/red"] is None
    assert metrics["AP/blue"] > 0


def test_nothing_found(detlab):
    Path("run/predictions.json").write_text("[]")
    result = detlab("bounds", "run=run", "output=bounds.json")
    assert result.status == 0, result.err
    for row in read("bounds.json")["rows"].values():
        assert row == {"rho": None, "AP": 0, "AP50": 0, "AP75": 0, "AP90": 0}


@pytest.mark.slow
def test_predictions_of_unknown_data_need_their_data_named(detlab):
    shutil.copy("run/predictions.json", "found.json")
    refused = detlab("bounds", "run=found.json")
    assert refused.status == 1
    assert "found.json: it does not say what data it was made on" in refused.err
    data = ["data=custom", "data.format=voc", "data.root=voc", "data.split=train", "data.val_split=val"]
    assert detlab("bounds", "run=found.json", *data, "output=a.json").status == 0
    assert detlab("bounds", "run=run", "output=b.json").status == 0
    assert read("a.json")["rows"] == read("b.json")["rows"]
    records = json.loads(Path("found.json").read_text())
    Path("found.json").write_text(json.dumps([*records, {**records[0], "image_id": 77}]))
    strange = detlab("bounds", "run=found.json", *data)
    assert strange.status == 1
    assert "found.json: 1 of its 3 images are not in custom test (the first is id 77)" in strange.err


def test_a_run_whose_data_have_changed_is_refused(detlab):
    path = Path("voc/Annotations/0005.xml")
    path.write_text(path.read_text().replace("<name>red</name>", "<name>blue</name>"))
    for arguments in ([], ["split=train"]):
        result = detlab("bounds", "run=run", *arguments)
        assert result.status == 1
        assert "run/predictions.json: its run was tested on other annotations than those of custom t" in result.err
