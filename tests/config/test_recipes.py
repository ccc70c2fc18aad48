"""Papers' recipes: what scale=paper makes of them, that the other scales know nothing of them, and that every row of
every table composes and can be built at each."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from detlab.config.experiments import rows_in
from detlab.config.instantiate import build_datamodule, rehearse
from detlab.config.launch import CONFIG_DIR, groups
from detlab.config.schema import validate
from detlab.config.stages import FOLDERS
from detlab.config.training import check
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.proxy_classifier import ProxyClassifier, save
from detlab.reporting.study.definition import EXPERIMENTS, find_studies, read_study

CUSTOM = ["data.format=voc", "data.root=voc", "data.split=train"]
ROWS = rows_in([CONFIG_DIR])
COCO = 117_266  # training pictures of COCO 2017 that hold objects
STUDIES = [path for paper in sorted(EXPERIMENTS.glob("*/")) for path in find_studies(paper)]


def recipe_of(row):
    found = re.search(r"override /recipe: (\w+)", (EXPERIMENTS / f"{row}.yaml").read_text())
    return found[1] if found else ""


# Rows of one recipe differ at scale=paper in what they differ in at scale=mini: one of each will do.
ROW_OF = {recipe_of(row) or "coco_1x": row for row in ROWS if not row.endswith("/classifier")}
STUDIED = {
    "name", "method_name", "detector", "assigner", "loss", "postprocess", "callbacks", "testing", "trained_as",
}  # fmt: skip
# In which rows of a paper differ from all others, besides. Faster R-CNN takes the backbone's level 2, too; a student
# sees two views of images without labels, and begins, as its control does, with other weights.
BESIDES = {
    "proxy": {"data", "pseudo", "task"},
    "certainty": {"data", "pseudo", "backbone", "augment", "view", "stage_one", "schedule", "localization",
                  "loader", "start_from"},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        yield


@cache
def composed(*overrides):
    return compose("train", list(overrides))


def plain(*overrides):
    return OmegaConf.to_container(composed(*overrides))


@pytest.fixture(scope="module", autouse=True)
def needed(tmp_path_factory):
    """Of rows that label with finished runs: overrides that name some."""
    folder = tmp_path_factory.mktemp("runs")
    save(ProxyClassifier(["car", "cat"], torch.tensor([[16, 16]]), width=0.25), folder / "h.ckpt")
    (folder / "a/checkpoints").mkdir(parents=True)
    (folder / "a/checkpoints/last.ckpt").touch()
    (folder / "a/config.yaml").write_text("name: a")
    (folder / "a/metrics.json").write_text('{"status": "finished", "classes": ["car", "cat"]}')
    found = {
        "teacher": [f"pseudo.teacher={folder / 'a'}"],
        "second": [f"pseudo.second={folder / 'a'}"],
        "start_from": [f"start_from={folder / 'a'}"],
        "testing": [f"testing.runs=['{folder / 'a'}']"],
        "classifier": [f"pseudo.classifier={folder / 'h.ckpt'}"],
        "detectors": [f"pseudo.detectors=[{{run: '{folder / 'a'}'}}]"],
    }
    return defaultdict(list, found)


def checked(*overrides):
    cfg = composed(*overrides)
    validate(cfg)
    rehearse(cfg)
    return cfg


def at_paper_scale(recipe):
    return composed(f"experiment={ROW_OF[recipe]}", "scale=paper")


def test_every_recipe_is_a_row_s():
    assert set(ROW_OF) == set(groups()["recipe"])


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_row_at_mini_scale_differs_in_what_it_studies_alone(row, needed):
    """Whatever its recipe, so that any two rows of any papers may be compared."""
    ours, usual = plain(f"experiment={row}"), plain("scale=mini")
    studied = STUDIED | BESIDES.get(row.partition("/")[0], set()) | ({"schedule"} if row.endswith("_sgd") else set())
    assert {key for key in ours if ours[key] != usual.get(key)} <= studied
    assert ours["name"] == row
    cfg = composed(f"experiment={row}", *of_row(row, needed))
    validate(cfg)
    _build(cfg)


def of_row(row, needed):
    """The overrides for the finished runs that a row names."""
    cfg = composed(f"experiment={row}")
    keys = ("teacher", "second", "classifier", "detectors")
    named = [key for key in keys if (cfg.get("pseudo") or {}).get(key)]
    named += ["start_from"] if cfg.start_from else []
    named += ["testing"] if (cfg.get("testing") or {}).get("runs") else []
    return [word for key in named for word in needed[key]]


def _build(cfg):
    if cfg.get("task"):
        check(cfg, cfg.name)
    else:
        rehearse(cfg)


def test_one_s_own_data_know_nothing_of_a_recipe():
    assert plain("scale=small", *CUSTOM, "recipe=alrp500_x101") == plain("scale=small", *CUSTOM)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROW_OF.values())
def test_a_row_of_every_recipe_can_be_built_at_paper_scale(row, needed):
    cfg = checked(f"experiment={row}", "scale=paper", *of_row(row, needed))
    assert cfg.run_dir == f"runs/{row}/paper/seed=0"
    data = {"proxy": {"voc_split"}, "certainty": {"coco_partial", "coco_full", "voc_semi"}}
    assert cfg.data.name in data.get(row.partition("/")[0], {"coco2017"})
    assert cfg.backbone.weights == "imagenet"


@pytest.mark.parametrize(
    ("recipe", "batch", "rate", "epochs", "decays", "backbone"),
    [
        ("coco_12_epochs", 16, 0.01, 12, [8, 11], "resnet50"),
        ("coco_12_epochs_r101", 16, 0.01, 12, [8, 11], "resnet101"),
        ("iou_balanced", 16, 0.01, 12, [8, 11], "resnet50"),
        ("alrp500", 32, 0.008, 100, [60, 80], "resnet50"),
        ("alrp500_12", 32, 0.008, 12, [8, 11], "resnet50"),
        ("alrp500_r101", 32, 0.008, 160, [90, 110, 140], "resnet101"),
        ("alrp500_x101", 32, 0.008, 160, [90, 110, 140], "resnext101_32x8d"),
        ("alrp800_r101", 16, 0.004, 100, [60, 80], "resnet101"),
        ("alrp800_x101", 16, 0.004, 100, [60, 80], "resnext101_32x8d"),
        ("ap_loss500", 32, 0.002, 100, [60, 80], "resnet50"),
        ("ap_loss500_r101", 32, 0.002, 100, [60, 80], "resnet101"),
        ("ap_loss800_r101", 16, 0.001, 100, [60, 80], "resnet101"),
    ],
)  # fmt: skip
def test_schedules_are_the_papers_in_iterations(recipe, batch, rate, epochs, decays, backbone):
    cfg = at_paper_scale(recipe)
    schedule, epoch = instantiate(cfg.schedule), COCO / batch
    assert cfg.loader.batch_size == batch
    assert schedule.lr * batch / schedule.base_batch == pytest.approx(rate)
    assert schedule.iterations / epoch == pytest.approx(epochs, rel=1e-3)
    assert [milestone / epoch for milestone in schedule.milestones] == pytest.approx(decays, rel=1e-3)
    assert (schedule.optimizer, schedule.momentum, schedule.weight_decay) == ("sgd", 0.9, 1e-4)
    assert schedule.iterations % schedule.val_every == 0
    assert cfg.backbone.name == backbone


def test_schedules_of_certainty_are_printed_in_iterations():
    teachers = {1: 6_000, 2: 12_000, 5: 30_000, 10: 60_000}
    students = {
        "certainty": 90_000,
        "certainty_180k": 180_000,
        "certainty_voc": 90_000,
        "certainty_voc_teacher": 10_000,
    }
    of_teachers = {f"certainty_teacher_{share}": length for share, length in teachers.items()}
    for recipe, iterations in {**students, **of_teachers, "certainty_teacher": 12_000}.items():
        cfg = at_paper_scale(recipe)
        schedule = instantiate(cfg.schedule)
        assert cfg.loader.batch_size == schedule.base_batch == 8
        assert (schedule.lr, schedule.iterations) == (0.01, iterations)
        ends = [milestone / iterations for milestone in schedule.milestones]
        assert ends == pytest.approx([2 / 3, 8 / 9], abs=1e-4)  # 120k and 160k of 180k
        assert (schedule.optimizer, schedule.momentum, schedule.weight_decay) == ("sgd", 0.9, 1e-4)
        assert schedule.warmup == 1000  # Detectron2


def test_faster_rcnn_has_detectron2_s_numbers_at_paper_scale_and_there_alone():
    """Base-RCNN-FPN: POST_NMS_TOPK_TRAIN 1000, RoIAlignV2 (aligned), SMOOTH_L1_BETA 0 of both stages."""
    cfg = at_paper_scale("certainty")
    plain_ = composed("experiment=certainty/table5/plain", "scale=paper")
    assert (cfg.detector.rpn.train_before_nms, cfg.detector.rpn.train_proposals) == (2000, 1000)
    assert (plain_.detector.head.beta, plain_.loss.anchors_localization.beta) == (0.0, 0.0)
    assert plain_.detector.head.aligned
    assert cfg.detector.head.beta == 0.1  # in intervals (Eq. 5)
    mini = composed("experiment=certainty/table5/plain")
    assert (mini.detector.head.beta, mini.loss.anchors_localization.beta) == (0.1111, 0.1111)


@pytest.mark.parametrize(
    ("recipe", "iterations", "decays", "backbone", "deformable"),
    [
        ("paa135k", 135_000, [90_000, 120_000], "resnet50", []),
        ("paa180k_r101", 180_000, [120_000, 160_000], "resnet101", []),
        ("paa180k_x101", 180_000, [120_000, 160_000], "resnext101_64x4d", []),
        ("paa180k_r101_dcn", 180_000, [120_000, 160_000], "resnet101", [3, 4, 5]),
        ("paa180k_x101_dcn", 180_000, [120_000, 160_000], "resnext101_64x4d", [4, 5]),
        ("paa180k_x152_dcn", 180_000, [120_000, 160_000], "resnext152_32x8d", [4, 5]),
    ],
)
def test_schedules_of_paa_are_printed_in_iterations(recipe, iterations, decays, backbone, deformable):
    cfg = at_paper_scale(recipe)
    schedule = instantiate(cfg.schedule)
    assert cfg.loader.batch_size == schedule.base_batch == 16
    assert (schedule.lr, schedule.iterations, list(schedule.milestones)) == (0.01, iterations, decays)
    assert (schedule.optimizer, schedule.momentum, schedule.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (schedule.warmup, schedule.factor(0), schedule.factor(500)) == (500, pytest.approx(1 / 3, abs=1e-4), 1)
    assert schedule.iterations % schedule.val_every == 0
    assert (cfg.backbone.name, cfg.backbone.deformable_stages) == (backbone, deformable)


@pytest.mark.slow
def test_paa_and_atss_have_the_nms_of_the_authors_code_by_their_recipe_alone():
    """0.6, with voting and without; RetinaNet and everything at other scales keep 0.5."""

    def threshold(*overrides):
        nms = OmegaConf.to_container(composed(*overrides), resolve=True)["postprocess"]["nms"]
        return nms["nms"]["iou"] if "nms" in nms else nms["iou"]

    rows = [row for row in ROWS if row.startswith("paa/")]
    found = {row: threshold(f"experiment={row}", "scale=paper") for row in rows}
    retinanet = {"paa/table2_left/retinanet", "paa/table3/retinanet_r101"}
    assert found == {row: 0.5 if row in retinanet else 0.6 for row in rows}
    assert {threshold(f"experiment={row}") for row in rows} == {0.5}
    assert threshold("scale=small", *CUSTOM, "recipe=paa135k") == 0.5
    assert threshold("experiment=iou_balanced/table2/both", "scale=paper") == 0.5
    assert compose("eval", ["ckpt_path=x", "postprocess=voting"]).postprocess.nms.nms.iou == 0.5  # where no run says


def test_paa_draws_the_shorter_side_from_640_to_800():
    data = build_datamodule(at_paper_scale("paa180k_r101"))
    resize, rng = data.train_transform.resize, np.random.default_rng(0)
    drawn = {min(resize(480, 720, rng)) for _ in range(1000)}
    assert drawn == set(range(640, 801, 8))
    assert data.eval_transform.resize(480, 720, None) == (800, 1200)
    assert resize(300, 900, rng) == (444, 1333)


@pytest.mark.parametrize(
    ("recipe", "training", "evaluation"),
    [
        ("coco_1x", (800, 1200), (800, 1200)),
        ("iou_balanced", (600, 900), (600, 900)),
        ("alrp500", (512, 512), (500, 750)),
        ("alrp800_r101", (800, 800), (800, 1200)),
    ],
)
def test_pictures_are_of_the_papers_size(recipe, training, evaluation):
    data = build_datamodule(at_paper_scale(recipe))
    assert data.train_transform.resize(480, 720, None) == training
    assert data.eval_transform.resize(480, 720, None) == evaluation


@pytest.mark.parametrize(
    ("recipe", "size"), [("iou_balanced", (333, 1000)), ("alrp500", (277, 830)), ("alrp800_r101", (443, 1328))]
)
def test_long_pictures_end_at_the_papers_longest_side(recipe, size):
    data = build_datamodule(at_paper_scale(recipe))
    assert data.eval_transform.resize(300, 900, None) == size


def test_what_is_asked_for_wins_over_the_recipe():
    cfg = composed("scale=paper", "recipe=alrp500", "schedule=2x", "resize=shortest", "backbone=resnet34")
    assert (cfg.schedule.iterations, cfg.resize.size, cfg.backbone.name) == (180000, 800, "resnet34")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in groups()["recipe"] if name.startswith(("alrp", "ap_loss"))])
def test_alrp_and_ap_loss_have_their_authors_detector_at_paper_scale_alone(recipe):
    paper, mini = (composed(f"recipe={recipe}", "method=ap_loss", *words).detector for words in (["scale=paper"], []))
    assert (paper.anchors.octaves, len(paper.anchors.ratios), paper.coder.weights) == (2, 3, [10, 10, 5, 5])
    assert (mini.anchors.octaves, mini.coder.weights) == (3, [1, 1, 1, 1])


@pytest.mark.parametrize("row", ["table2/ap_loss_code", "table4/ap_loss500_r101", "table4/ap_loss800_r101"])
def test_ap_loss_has_the_box_loss_of_its_authors_at_paper_scale(row):
    """A mean over the four offsets, quadratic up to 1: a quarter of the sum."""
    cfg = composed(f"experiment=alrp/{row}", "scale=paper")
    assert (cfg.loss.localization.beta, cfg.loss.localization_weight) == (1, 0.25)
    assert (cfg.detector.anchors.octaves, cfg.detector.coder.weights) == (2, [10, 10, 5, 5])


@pytest.mark.slow
@pytest.mark.parametrize("row", ["alrp_iou", "alrp_iou_sb"])
def test_the_rows_by_sgd_differ_in_nothing_else(row):
    for scale, same in (("paper", set()), ("mini", {"schedule"})):
        ours, other = (plain(f"experiment=alrp/table2/{name}", f"scale={scale}") for name in (f"{row}_sgd", row))
        assert {key for key in ours if ours[key] != other[key]} - {"callbacks"} == {"name", *same}
    assert (ours["schedule"]["lr"], ours["schedule"]["weight_decay"]) == (0.05, 1e-4)


@pytest.mark.parametrize("row", [row for row in ROWS if row.endswith("_ms")])
def test_multi_scale_rows_differ_from_their_row_after_training_alone(row):
    ours = plain(f"experiment={row}", "scale=paper")
    other = plain(f"experiment={ours['trained_as']}", "scale=paper")
    changed = {key for key in ours if ours[key] != other.get(key)}
    assert {"testing"} <= changed - {"name", "trained_as"} <= {"testing", "postprocess"}
    assert row == f"{ours['trained_as']}_ms"


@pytest.mark.slow
def test_two_students_are_tested_together_with_the_weights_of_their_own_rows():
    """The first, once its teachers are there, is what `together` would train but for its test."""
    resolved = [OmegaConf.to_container(composed(f"experiment=certainty/table3/{row}"), resolve=True)
                for row in ("first", "together")]  # fmt: skip
    first, together = resolved
    for key, folder in FOLDERS.items():
        assert first["pseudo"][key] is None
        first["pseudo"][key] = f"{first['run_dir']}/{folder}"  # as training itself makes them
    changed = {key for key in together if together[key] != first.get(key)}
    assert changed == {"name", "run_dir", "trained_as", "testing"}
    assert together["trained_as"] == first["name"]
    second = composed("experiment=certainty/table3/second")
    assert together["testing"]["runs"] == [second.run_dir]
    assert (second.pseudo.teacher, second.pseudo.second) == (first["pseudo"]["second"], first["pseudo"]["teacher"])


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_study_can_be_read(path):
    assert read_study(path).name == f"{path.parent.name}/{path.stem}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "key", "value"),
    [
        ("iou_balanced/table4/eta_1_4", "loss.classification.eta", 1.4),
        ("iou_balanced/table4/lambda_0_5", "loss.localization.lambda_", 0.5),
        ("iou_balanced/table2/both", "loss.classification.eta", 1.5),
        ("iou_balanced/table2/both", "loss.localization.lambda_", 1.5),
        ("alrp/table2/alrp_iou", "loss.self_balance", False),
        ("alrp/table2/alrp_iou", "loss.kind", "iou"),
        ("alrp/table2/alrp_iou", "detector.coder.weights", [10, 10, 5, 5]),
        ("alrp/table2/alrp_iou_sb", "loss.self_balance", True),
        ("alrp/table2/alrp_iou_sb", "detector.coder.weights", [10, 10, 5, 5]),
        ("alrp/table2/alrp_iou_sb_sgd", "schedule.optimizer", "sgd"),
        ("alrp/table2/alrp_iou_sgd", "loss.self_balance", False),
        ("alrp/table2/ap_loss_code", "loss.localization.beta", 1.0),
        ("alrp/table2/ap_loss_code", "detector.coder.weights", [10, 10, 5, 5]),
        ("alrp/table2/ap_loss", "detector.coder.weights", [1, 1, 1, 1]),
        ("alrp/table2/alrp_giou_sb", "loss.kind", "giou"),
        ("alrp/table2/alrp_giou_sb", "postprocess.score_threshold", 0.0),
        ("alrp/table2/alrp_giou_sb", "detector.coder.weights", [10, 10, 5, 5]),
        ("alrp/atss/one_atss", "assigner._target_", "detlab.assigners.atss.ATSS"),
        ("paa/table1_right/iou", "assigner.center_inside", True),
        ("paa/table1_right/iou", "loss.localization_weight", 2.0),
        ("paa/table1_right/iou_ioupred", "assigner.center_inside", True),
        ("paa/table1_right/iou_ioupred", "loss.localization_weight", 2.0),
        ("paa/table1_right/paa", "loss.localization_weight", 1.3),
        ("paa/table2_left/retinanet", "detector.anchors.octaves", 3),
        ("paa/table3/paa_r101", "detector.head.deformable_last", None),
        ("paa/table3/paa_r101", "postprocess.nms._target_", "detlab.postprocess.ScoreVoting"),
        ("paa/table3/paa_x152_dcn", "detector.head.deformable_last", True),
        ("paa/table3/atss_x101_dcn_ms", "detector.head.deformable_last", True),
        ("paa/table3/atss_x101_dcn_ms", "detector.head.quality", "centerness"),
        ("paa/table3/paa_x101_dcn_ms", "testing._target_", "detlab.postprocess.tta.MultiScale"),
        ("paa/table3/paa_x101_dcn_ms", "trained_as", "paa/table3/paa_x101_dcn"),
    ],
)
def test_rows_are_what_they_are_called(row, key, value):
    assert OmegaConf.select(composed(f"experiment={row}"), key) == value


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["mini", "paper"])
@pytest.mark.parametrize(("control", "student"), [("control_plain", "plain"), ("control", "ca_re_dt")])
def test_a_control_is_its_student_without_pseudo_labels(control, student, scale):
    """The same weights to begin with, as many iterations, the strong view; but labeled images alone."""
    ours, other = (
        OmegaConf.to_container(composed(f"experiment=certainty/table5/{row}", f"scale={scale}"), resolve=True)
        for row in (control, student)
    )
    assert ours["start_from"] == other["pseudo"]["teacher"]
    assert ours["data"] == other["data"] | {"only": "labelled"}
    assert ours["loader"] | {"labeled_view": "weak"} == other["loader"]
    differ = {key for key in other if ours.get(key) != other[key]}
    assert differ == {"name", "run_dir", "start_from", "data", "loader", "pseudo", "view", "stage_one"}
    claims = [claim.text for claim in read_study("certainty/table5").claims]
    assert f"AP: {student} > {control}" in claims


@pytest.mark.slow
def test_students_see_labeled_images_weakly_unless_told_otherwise():
    student = ("data=scenes_semi", "method=faster_rcnn", "pseudo=teacher")
    for words, view in (([], "weak"), (["loader.labeled_view=strong"], "strong")):
        assert build_datamodule(composed(*student, *words)).labeled_view == view


def test_rows_of_fig_3_b_and_d_are_told_from_runs_of_what_the_letters_meant_once(tmp_path):
    """Neither found in the folders of those, nor taken for one where somebody has chosen the folder."""
    rows = {row.name: row.experiment for row in read_study("paa/table1_left").rows}
    for letter in "bd":
        config = plain(f"experiment={rows[f'scheme_{letter}']}")
        assert config["name"] == rows[f"scheme_{letter}"] != f"paa/table1_left/scheme_{letter}"
        folder = RunFolder(tmp_path / letter)
        folder.open(config | {"assigner": config["assigner"] | {"scheme": letter}})
        folder.release()
        with pytest.raises(UserError, match=f"assigner.scheme: '{letter}' → '{letter}_"):
            RunFolder(tmp_path / letter).open(config)


@pytest.mark.slow
def test_tables_1_of_certainty_have_the_data_lengths_and_sizes_of_their_halves():
    longer = composed("experiment=certainty/table1_full/ours_3x", "scale=paper")
    assert (longer.schedule.iterations, longer.schedule.milestones) == (540_000, [360_000, 480_000])
    assert longer.data.name == "coco_full"
    drawn = composed("experiment=certainty/table1_voc_multi/ours", "scale=paper")
    assert drawn.augment.sizes == drawn.view.sizes == drawn.stage_one.augment.sizes == [640, 672, 704, 736, 768, 800]
    assert (drawn.resize.size, drawn.resize.max_size) == (600, 1333)
    assert (drawn.schedule.iterations, drawn.stage_one.schedule.iterations) == (90_000, 10_000)
    shares = {
        row: composed(f"experiment=certainty/{row}/ours").data.labeled_fraction for row in ("table1_full", "table1_voc")
    }
    assert shares == {"table1_full": 0.5, "table1_voc": 0.3}
