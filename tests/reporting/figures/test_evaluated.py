from __future__ import annotations

import json

import numpy as np
import pytest

from detlab.errors import UserError
from detlab.reporting.figures.evaluated import evaluated
from detlab.reporting.study.run import read_run


def test_detections_and_truth_are_those_of_the_files(make_run, squares, predictions):
    found, truth = evaluated(read_run(make_run("p/t/a", predictions=predictions)))
    assert sorted(zip(truth.image.tolist(), truth.label.tolist(), truth.box.tolist())) == sorted(squares)
    written = [(r["image_id"], r["category_id"] - 1, r["score"], *r["bbox"]) for r in predictions]
    rows = np.column_stack(
        [found.image, found.label, found.score, found.box[:, :2], found.box[:, 2:] - found.box[:, :2]]
    )
    np.testing.assert_allclose(sorted(rows.tolist()), sorted(written), rtol=1e-5, atol=1e-5)


def test_no_detection_at_all(make_run, squares):
    found, truth = evaluated(read_run(make_run("p/t/a", predictions=[])))
    assert found.box.shape == (0, 4)
    assert len(truth.label) == len(squares)


@pytest.mark.parametrize("content", ["[{", '[{"image_id": 1}]'])
def test_predictions_that_cannot_be_read(make_run, squares, content):  # noqa: ARG001
    folder = make_run("p/t/a")
    (folder / "predictions.json").write_text(content)
    with pytest.raises(UserError, match=r"predictions\.json"):
        evaluated(read_run(folder))


def test_predictions_on_other_pictures(make_run, predictions):
    other = json.loads(json.dumps(predictions[0])) | {"image_id": 12345}
    with pytest.raises(UserError, match=r"predictions\.json"):
        evaluated(read_run(make_run("p/t/a", predictions=[other])))


def test_predictions_that_are_gone(make_run, squares):  # noqa: ARG001
    with pytest.raises(UserError, match=r"predictions\.json"):
        evaluated(read_run(make_run("p/t/a")))


def test_data_that_have_changed_since(make_run, squares, predictions):  # noqa: ARG001
    folder = make_run("p/t/a", predictions=predictions)
    (folder / "metrics.json").write_text('{"status": "finished", "dataset": {"test": "0123abcd"}}')
    with pytest.raises(UserError, match=r"seed=0 was tested on other annotations"):
        evaluated(read_run(folder))
