"""Every option of every group composes, fits the signatures of what it builds, and can be built."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from detlab.config.compatibility import validate_compatibility
from detlab.config.groups import NESTED
from detlab.config.instantiate import rehearse
from detlab.config.launch import CONFIG_DIR, groups
from detlab.config.schema import KEYS, validate
from detlab.errors import UserError
from detlab.proxy_classifier import ProxyClassifier, save

CUSTOM = ["data.format=voc", "data.root=voc", "data.split=train"]
SEMI = [*(key.replace("data.", "data.source.", 1) for key in CUSTOM), "data.unlabelled=pictures"]
# What an option needs beside it; to be told so is the test of `validate_compatibility`.
NEEDS = {
    "data=custom": CUSTOM,
    "data=merge": ["data.sources={a: {format: yolo, yaml: a.yaml}}"],
    "data=proxy_small": CUSTOM,
    "data=partial": ["data@data.source=scenes", "data.labeled_fraction=0.1"],
    "data=semi": SEMI,
    "data=semi_small": SEMI,
    "data=semi_full_small": SEMI,
    "data=semi_voc_small": SEMI,
    "data=split_small": ["data.sources={a: {format: yolo, yaml: a.yaml}}"],
    "scale=small": CUSTOM,
    "loss=focal_giou_centerness": ["detector.head.quality=centerness"],
    "loss=paa": ["detector.head.quality=iou"],
    "loss=paa_iou_balanced": ["detector.head.quality=iou"],
    "loss=paa_centerness": ["detector.head.quality=centerness"],
    "loss=focal_giou_iou": ["detector.head.quality=iou"],
    "detector=yolo": ["loss=yolo"],
    "loss=yolo": ["detector=yolo"],
    "loss=yolo_printed": ["detector=yolo"],
    "detector=faster_rcnn": ["loss=faster_rcnn"],
    "localization=intervals": ["method=faster_rcnn"],
    "loss=focal_intervals": ["localization=dense_intervals"],
    "loss=faster_rcnn": ["detector=faster_rcnn"],
    "loss/localization=intervals": ["localization=dense_intervals"],
    "loss/quality=centerness": ["detector.head.quality=centerness"],
    "loss/quality=iou": ["detector.head.quality=iou"],
}
YOLO_LOSSES = ["yolo", "yolo_printed"]  # of a detector with objectness, which no other loss trains
OTHERS = [*YOLO_LOSSES, "faster_rcnn"]
OPTIONS = [f"{group}={option}" for group, options in groups().items() if group != "hydra" for option in options]


@pytest.fixture(scope="module", autouse=True)
def finished_runs(tmp_path_factory) -> None:
    """What pseudo-labels are made with: a classifier, and the folder of a detector as far as configs look at it."""
    folder = tmp_path_factory.mktemp("runs")
    save(ProxyClassifier(["car"], torch.tensor([[16, 16]]), width=0.25), folder / "h.ckpt")
    (folder / "a/checkpoints").mkdir(parents=True)
    (folder / "a/checkpoints/last.ckpt").touch()
    (folder / "a/config.yaml").write_text("name: a")
    (folder / "a/metrics.json").write_text('{"status": "finished", "classes": ["car"]}')
    NEEDS["pseudo=proxy"] = [f"pseudo.classifier={folder / 'h.ckpt'}"]
    NEEDS["pseudo=offline"] = [f"pseudo.detectors=[{{run: '{folder / 'a'}'}}]"]
    NEEDS["testing=ensemble"] = [f"testing.runs=['{folder / 'a'}']"]


@pytest.fixture(scope="module", autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        yield


def options(group: str) -> list[str]:
    return groups()[group]


DENSE = [detector for detector in options("detector") if detector not in ("yolo", "faster_rcnn")]


def checked(overrides: list[str]) -> DictConfig:
    needed = [extra for override in overrides for extra in NEEDS.get(override, [])]
    if "data=voc07" in overrides:
        needed = [extra for extra in needed if extra not in CUSTOM]
    cfg = compose("train", [*overrides, *needed])
    validate(cfg)
    rehearse(cfg)
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option(option):
    if option == "trainer=gpu" and not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"trainer: .*gpu"):
            checked([option])
        return
    cfg = checked([option])
    group, name = option.split("=")
    if group == "scale":
        assert cfg.scale_name == name
    if group == "method":
        assert cfg.method_name == name


@pytest.mark.slow
@pytest.mark.parametrize(("method", "scale"), product(options("method"), options("scale")))
def test_every_method_at_every_scale(method, scale):
    cfg = checked([f"method={method}", f"scale={scale}"])
    assert cfg.run_dir == f"runs/{cfg.name}/{scale}/seed=0"
    assert cfg.name.endswith(method)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "backbone"), product(options("method"), ["small", "resnet18"]))
def test_every_method_on_other_backbones(method, backbone):
    cfg = checked([f"method={method}", f"backbone={backbone}", "seed=3"])
    assert cfg.detector.backbone == cfg.backbone
    assert cfg.run_dir.endswith("seed=3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "assigner", "loss"),
    [
        *product(DENSE, ["max_iou"], [loss for loss in options("loss") if loss not in OTHERS]),
        *product(DENSE, options("assigner"), ["focal_giou", "paa", "alrp_iou"]),
        *product(["yolo"], options("assigner"), YOLO_LOSSES),
        *product(["faster_rcnn"], options("assigner"), ["faster_rcnn"]),
    ],
)
def test_detectors_assigners_and_losses_combine_freely(detector, assigner, loss):
    checked([f"detector={detector}", f"assigner={assigner}", f"loss={loss}"])


def test_dense_intervals_follow_the_settings_of_intervals():
    words = [f"localization.{word}" for word in ("num_intervals=5", "probability=softmax", "score_threshold=0.55")]
    cfg = checked(["localization=dense_intervals", "data=scenes_semi", "pseudo=teacher", *words])
    assert (cfg.detector.intervals.intervals, cfg.detector.intervals.probability) == (5, "softmax")
    assert cfg.pseudo.tau == 0.55


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["detector=yolo"], ["detector (YOLODetector)", "objectness", "loss (Criterion)", "loss=yolo"]),
        (["method=yolo", "loss=paa"], ["objectness", "loss (Criterion)"]),
        (["method=yolo", "loss=alrp_giou"], ["objectness", "loss (ALRPCriterion)"]),
        (["loss=yolo"], ["loss (YOLOCriterion)", "objectness", "detector (DenseDetector)", "method=yolo"]),
        (["method=atss", "loss=yolo_printed"], ["loss (YOLOCriterion)", "detector (DenseDetector)"]),
        (["method=yolo", "loss.classes=sigmoid"], ["loss (YOLOCriterion)", " postprocess.classes=sigmoid"]),
        (["method=yolo", "postprocess=nms", "loss.classes=sigmoid"], ["+postprocess.classes=sigmoid"]),
        (["detector=faster_rcnn"], ["detector (FasterRCNN)", "two_stages", "loss (Criterion)", "loss=faster_rcnn"]),
        (["method=faster_rcnn", "loss=focal_l1"], ["two_stages", "loss (Criterion)"]),
        (["method=faster_rcnn", "loss=alrp_giou"], ["two_stages", "loss (ALRPCriterion)"]),
        (
            ["loss=faster_rcnn"],
            ["loss (TwoStageCriterion)", "two_stages", "detector (DenseDetector)", "method=faster_rcnn"],
        ),
        (["method=faster_rcnn", "postprocess=yolo", "postprocess.classes=sigmoid"], ["postprocess.classes=softmax"]),
        (["method=faster_rcnn", "pseudo=ignore"], ["pseudo (SoftSampling)", "one_stage", "method=retinanet"]),
        (["method=faster_rcnn", "pseudo=proxy", "pseudo.beta=0.5"], ["pseudo (ProxyPseudoLabels)", "pseudo.beta=0"]),
        (["method=faster_rcnn", "callbacks=assignments"], ["callbacks.assignments (Assignments)", "one_stage"]),
        (["method=faster_rcnn", "callbacks=gradients"], ["callbacks.gradients (ClassificationGradients)", "one_stage"]),
        (["detector.head.quality=iou"], ["detector.head (DenseHead)", "quality", "loss=paa", "quality=none"]),
        (["loss=focal_giou_iou"], ["loss.quality (PredictedIoU)", "detector.head.quality=iou"]),
        (["localization=dense_intervals", "loss=focal_l1"], ["intervals", "loss (Criterion)", "loss=focal_intervals"]),
        (["localization=intervals"], ["detector.head (IntervalHead)", "two_stages", "method=faster_rcnn"]),
        (["loss=ap_l1", "pseudo=ignore"], ["pseudo (SoftSampling)", "soft_weights", "pseudo.mode=hard"]),
        (["loss=alrp_iou", "pseudo=ignore"], ["soft_weights", "loss (ALRPCriterion)", "pseudo.mode=hard"]),
        (["loss=rank_sort", "pseudo=ignore"], ["soft_weights", "loss (RankSortCriterion)", "pseudo.mode=hard"]),
    ],
)
def test_parts_that_do_not_fit_are_refused(overrides: list[str], keys: list[str]) -> None:
    extra = [word for override in overrides for word in NEEDS.get(override, []) if word.startswith("pseudo.")]
    with pytest.raises(UserError) as refused:
        rehearse(compose("train", [*overrides, *extra]))
    message = str(refused.value)
    assert all(key in message for key in keys), message
    assert "\n" not in message


@pytest.mark.parametrize("extra", ["pseudo=mask", "pseudo=none", "pseudo=offline", "pseudo=proxy", "callbacks=ema"])
def test_what_fits_two_stages_is_not(extra: str) -> None:
    checked(["method=faster_rcnn", extra])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "levels"),
    [("mini", [2, 3, 4]), ("mini_2x", [2, 3, 4]), ("mini_wide", [2, 3, 4, 5]), ("paper", [2, 3, 4, 5, 6])],
)
def test_a_method_may_want_something_of_its_own_at_a_scale(scale: str, levels: list[int]) -> None:
    cfg = checked([f"scale={scale}", "method=faster_rcnn"])
    assert cfg.detector.fpn.levels == levels
    assert cfg.detector.anchors.levels == levels
    assert checked([f"scale={scale}", "method=faster_rcnn", "detector.fpn.levels=[3,4]"]).detector.fpn.levels == [3, 4]


@pytest.mark.parametrize("row", ["paa", "iou"])
def test_the_wide_scale_has_scenes_and_a_pyramid_of_its_own(row: str) -> None:
    experiment = f"experiment=paa/table1_right/{row}"
    wide, usual = checked([experiment, "scale=mini_wide"]), checked([experiment, "scale=mini_2x"])
    assert wide.run_dir == f"runs/paa/table1_right/{row}/mini_wide/seed=0"
    assert (wide.data.name, wide.data.size) == ("scenes_wide", 160)
    assert wide.detector.anchors.levels == [3, 4, 5, 6]
    for same in ("schedule", "assigner", "loss", "backbone", "loader"):
        assert wide[same] == usual[same]


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "tau"), [("mini", 0.6), ("mini_2x", 0.6), ("small", 0.5), ("paper", 0.7)])
def test_p_v_is_compared_with_a_threshold_of_its_own(scale: str, tau: float) -> None:
    student = [f"scale={scale}", "data=scenes_semi", "method=faster_rcnn", "pseudo=teacher"]
    assert compose("train", [*student, "localization=intervals"]).pseudo.tau == tau
    assert compose("train", student).pseudo.tau == 0.7
    assert compose("train", [*student, "localization=intervals", "pseudo.tau=0.3"]).pseudo.tau == 0.3


@pytest.mark.parametrize("loss", ["ap_l1", "alrp_iou", "rank_sort"])
def test_weights_of_0_and_1_fit_a_ranking(loss: str) -> None:
    checked([f"loss={loss}", "pseudo=ignore", "pseudo.mode=hard"])
    checked([f"loss={loss}", "pseudo=mask"])


@pytest.mark.parametrize("head", [{}, {"quality": "iou"}])
def test_parts_that_declare_nothing_are_taken_at_their_word(head: dict[str, str]) -> None:
    plain = {"_target_": "types.SimpleNamespace"}
    one_stage = {"_target_": "detlab.models.detectors.dense.DenseDetector", "head": head}
    soft = {"_target_": "detlab.pseudo_labels.soft_sampling.SoftSampling"}
    validate_compatibility(OmegaConf.create({"detector": one_stage, "loss": plain, "pseudo": soft}))
    criterion = {"_target_": "detlab.losses.criterion.Criterion"}
    validate_compatibility(OmegaConf.create({"detector": plain, "loss": criterion, "callbacks": {"own": plain}}))


def test_a_declaration_of_no_known_feature_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detlab.losses.criterion.Criterion.requires", {"objectnes"})
    with pytest.raises(ValueError, match="objectnes"):
        rehearse(compose("train", []))


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra", [[], ["postprocess=voting"], ["loss.classes=sigmoid", "+postprocess.classes=sigmoid", "postprocess=nms"]]
)
def test_a_whole_yolo_is_not(extra: list[str]) -> None:
    checked(["method=yolo", *extra])


def test_a_single_group_can_be_overridden_after_a_method():
    plain = checked(["method=atss"])
    other = checked(["method=atss", "assigner=max_iou", "schedule.lr=0.5"])
    assert other.assigner._target_.endswith("MaxIoU")
    assert other.schedule.lr == 0.5
    assert other.detector == plain.detector
    assert other.loss == plain.loss


@pytest.mark.slow
@pytest.mark.parametrize("scale", options("scale"))
@pytest.mark.parametrize(
    "choice", ["trainer=default", "resize=fixed", "backbone=resnet34", "schedule=2x", "data=voc07"]
)
def test_what_is_asked_for_wins_over_the_scale(scale, choice):
    group = choice.split("=")[0]
    asked = checked([f"scale={scale}", choice])[group]
    assert asked == compose("train", ["scale=paper", choice])[group]


def test_every_group_stands_in_the_defaults_of_train():
    named = {key for entry in OmegaConf.load(CONFIG_DIR / "train.yaml").defaults if entry != "_self_" for key in entry}
    chosen = {key.removeprefix("optional ").partition("@")[0] for key in named}  # some a second time, at another place
    assert chosen - {"experiment", "loss/w_loc"} == set(groups()) - set(NESTED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "choices"),
    [
        ("focal_l1", ["classification=focal", "localization=smooth_l1"]),
        ("focal_giou_iou", ["localization=giou", "quality=iou"]),
        ("ndcg_l1", ["classification=ndcg"]),
        ("iou_balanced", ["classification=iou_balanced", "localization=iou_balanced"]),
    ],
)
def test_a_loss_is_a_choice_for_classes_boxes_and_quality(preset: str, choices: list[str]) -> None:
    quality = ["detector.head.quality=iou"] if "quality=iou" in choices else []
    named = checked([f"loss={preset}"])
    chosen = checked(["loss=dense", *(f"loss/{choice}" for choice in choices), *quality])
    chosen.loss.localization_weight = named.loss.localization_weight
    assert chosen.loss == named.loss


@pytest.mark.slow
def test_a_choice_within_a_loss_leaves_the_rest_of_a_preset_alone() -> None:
    preset, other = (checked(["method=paa", *words]).loss for words in ([], ["loss/localization=ciou"]))
    assert (preset.localization.kind, other.localization.kind) == ("giou", "ciou")
    assert {key for key in preset if preset[key] != other[key]} == {"localization"}
    assert checked(["method=yolo", "loss/localization=ciou"]).loss.localization.kind == "ciou"


def test_any_data_set_can_be_labeled_in_part() -> None:
    data = compose("train", ["data=partial", "data@data.source=voc0712", "data.labeled_fraction=0.2"]).data
    assert data.source == checked(["scale=paper", "data=voc0712"]).data
    assert (data.labeled_fraction, data.fold, data.unlabelled) == (0.2, 1, None)


@pytest.mark.parametrize("verb", ["eval", "predict", "check", "report", "draw"])
def test_the_other_verbs(verb):
    given = {"eval": ["ckpt_path=x"], "predict": ["ckpt_path=x", "source=y"], "check": []}.get(verb, ["source=x"])
    cfg = compose(verb, given)
    validate(cfg, verb)
    plain = {key for key, value in cfg.items() if not OmegaConf.is_config(value)} - {"data", "postprocess"}
    assert plain == set(KEYS[verb])  # no key goes unchecked


def test_no_key_of_train_goes_unchecked():
    cfg = compose("train")
    plain = {key for key, value in cfg.items() if not OmegaConf.is_config(value)}
    assert plain - {"scale_name", "method_name"} == {key for key in KEYS["train"] if "." not in key}


@pytest.mark.slow
@pytest.mark.parametrize("option", [f"data={name}" for name in options("data")])
def test_every_data_set_under_check_and_eval(option):
    extra = NEEDS.get(option, [])
    validate(compose("check", [option, *extra]), "check")
    cfg = compose("eval", [option, *extra, "ckpt_path=x", "postprocess=nms"])
    validate(cfg, "eval")
    assert cfg.data.name
