import pytest

from detlab.engine.callbacks.bounds import COLUMNS, ENDS
from detlab.errors import UserError
from detlab.metrics.mean_ap import DetectionMetrics
from detlab.reporting.study.metric_names import KNOWN, PER_CLASS, check_metric


def test_the_known_metrics_are_those_that_are_measured():
    with pytest.warns(UserWarning, match="before the ``update``"):
        measured = set(DetectionMetrics(["car", "dog"]).compute())
    per_class = {f"{name}/{group}" for name in PER_CLASS for group in ("car", "dog")}
    classifiers = {f"{name}{how}" for name in ("accuracy", "reject_AUROC", "ECE") for how in ("", "_patch_drop")}
    bounds = {f"{column}_{end}" for column in COLUMNS for end in ENDS}
    balance = {"gradient_imbalance", "gradient_swing"}
    assert measured | {"IoU_error", "AP_rare"} | bounds | balance | classifiers == set(KNOWN) | per_class


@pytest.mark.parametrize(
    "name", [*KNOWN, "AP/car", "AP50/traffic light", "coverage", "rank_correlation", "coverage/car"]
)
def test_known_and_new_metrics_pass(name):
    assert check_metric(name, "here") == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ap", "AP"), ("ap50", "AP50"), ("AP_75", "AP75"), ("AP91", "AP90"), ("mAP", "AP"), ("AP@75", "AP75"),
     ("mAPvoc", "mAP_voc"), ("AR10", "AR100"), ("Aps", "APs"),
     ("olrp", "oLRP"), ("oLRP-loc", "oLRP_Loc"), ("Rho", "rho"), ("iou_err", "IoU_error")],
)  # fmt: skip
def test_near_misses_are_named(name, meant):
    with pytest.raises(UserError) as error:
        check_metric(name, "t.yaml: metrics")
    assert str(error.value) == f"t.yaml: metrics: there is no metric '{name}' (did you mean '{meant}'?)."


@pytest.mark.parametrize("name", ["AP75/car", "ap/car", "AP/", "oLRP/car", "IoU_error/car"])
def test_classes_are_measured_by_two_metrics_only(name):
    with pytest.raises(UserError) as error:
        check_metric(name, "x")
    assert str(error.value) == f"x: there is no metric '{name}'; per class there are AP and AP50/<class>."
