"""Against pycocotools on random data; against itself in two processes."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from detlab.metrics.coco_match import match, ranked_classes
from detlab.metrics.mean_ap import DetectionMetrics
from detlab.metrics.olrp import OptimalLRP
from detlab.metrics.rank_correlation import rank_correlations
from detlab.structures import Detections, Targets

OLRP = ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")
CLASSES = ("a", "b", "c", "d", "never annotated", "never anything")


def random_image(rng: np.random.Generator) -> tuple[Detections, Targets, Tensor]:
    """Objects of four classes, crowds among them, areas unlike the boxes'; detections near them and anywhere."""
    num_truth = int(rng.integers(0, 9))
    corner, size = rng.uniform(0, 200, (num_truth, 2)), rng.lognormal(3.7, 0.9, (num_truth, 2))
    truth = np.concatenate([corner, corner + size], 1).astype(np.float32)
    labels = rng.integers(0, 4, num_truth)
    near = rng.integers(0, num_truth, int(rng.integers(0, 30))) if num_truth else np.empty(0, dtype=np.int64)
    far = int(rng.integers(0, 6))
    corner = rng.uniform(0, 200, (far, 2))
    found = np.concatenate(
        [truth[near] + rng.normal(0, 5, (len(near), 4)), np.concatenate([corner, corner + 40], 1)]
    ).astype(np.float32)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    found_labels = np.concatenate([labels[near], rng.integers(0, 5, far)])
    scores = rng.choice(np.arange(1, 40, dtype=np.float32) / 40, len(found))  # ties are likely
    order = np.argsort(-scores, kind="stable")
    detections = Detections(*(torch.from_numpy(x[order]) for x in (found, scores, found_labels)))
    ignore = torch.from_numpy(rng.random(num_truth) < 0.2)
    targets = Targets.of(torch.from_numpy(truth), torch.from_numpy(labels), len(CLASSES), ignore=ignore)
    areas = torch.from_numpy((size.prod(1) * rng.uniform(0.3, 1, num_truth)).astype(np.float32))
    return detections, targets, areas


def random_images(seed: int, count: int = 40) -> list[tuple[Detections, Targets, Tensor]]:
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(count)]
    found, truth, areas = images[0]
    images[0] = (Detections(*(column[:0] for column in found)), truth, areas)
    found, truth, areas = images[1]
    images[1] = (found, truth[:0], areas[:0])
    return images


def update(
    metric: DetectionMetrics, images: list[tuple[Detections, Targets, Tensor]], ids: list[int] | None = None
) -> None:
    for first in range(0, len(images), 7):
        detections, targets, areas = (list(part) for part in zip(*images[first : first + 7]))
        metric.update(detections, targets, areas, None if ids is None else torch.tensor(ids[first : first + 7]))


def pycocotools_values(images: list[tuple[Detections, Targets, Tensor]]) -> dict[str, float]:
    annotations, results = [], []
    for image_id, (detections, targets, areas) in enumerate(images, 1):
        for box, label, ignore, area in zip(targets.boxes, targets.labels, targets.ignore, areas):
            x1, y1, x2, y2 = box.double().tolist()
            record = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(label)}
            annotations.append(
                {**record, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(area), "iscrowd": int(ignore)}
            )
        for box, score, label in zip(*detections):
            x1, y1, x2, y2 = box.double().tolist()
            bbox = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": image_id, "category_id": int(label), "bbox": bbox, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": n} for n in range(1, len(images) + 1)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES)],
            "annotations": annotations,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats, precision = evaluation.stats, evaluation.eval["precision"][:, :, :, 0, 2]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else math.nan

    values = dict(zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), stats[:6].tolist())) | {"AR100": float(stats[8])}
    values |= {f"AP{50 + 5 * row}": mean(precision[row]) for row in (2, 4, 6, 8)}
    values |= {f"AP/{name}": mean(precision[:, :, k]) for k, name in enumerate(CLASSES)}
    return values | {f"AP50/{name}": mean(precision[0, :, k]) for k, name in enumerate(CLASSES)}


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed: int) -> None:
    images = random_images(seed)
    metric = DetectionMetrics(CLASSES)
    update(metric, images)
    values = metric.compute()
    expected = pycocotools_values(images)
    assert set(values) == set(expected) | {"mAP_voc", "rho", *OLRP}
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert 0.1 < values["AP"] < 0.9
    assert math.isnan(values["AP/never annotated"])
    assert math.isnan(values["AP50/never anything"])


def test_optimal_lrp_and_rank_correlation_are_of_the_same_detections() -> None:
    images = random_images(4)
    metric, lrp = DetectionMetrics(CLASSES), OptimalLRP()
    update(metric, images)
    for d, t, _ in images:
        target = {"boxes": t.boxes, "labels": t.labels, "iscrowd": t.ignore}
        lrp.update([{"boxes": d.boxes, "scores": d.scores, "labels": d.labels}], [target])
    values, expected = metric.compute(), lrp.compute()
    for name in OLRP:
        assert values[name] == pytest.approx(float(expected[name]), abs=1e-6)
    found, truth = metric.columns()
    rho = rank_correlations(ranked_classes(found, truth, match(found, truth)), len(CLASSES))
    assert values["rho"] == pytest.approx(np.nanmean(rho))
    assert 0 < abs(values["rho"]) < 1


def test_more_detections_than_counted() -> None:
    """COCO counts the best 100 of each image and class."""
    rng = np.random.default_rng(0)
    _, targets, areas = next(image for image in random_images(5) if len(image[1]) > 3)
    boxes = targets.boxes[torch.from_numpy(rng.integers(0, len(targets), 300))]
    boxes = boxes + torch.from_numpy(rng.normal(0, 3, (300, 4))).float()
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = torch.from_numpy(rng.random(300)).float().sort(descending=True).values
    images = [(Detections(boxes, scores, targets.labels[:1].expand(300)), targets, areas)]
    metric = DetectionMetrics(CLASSES)
    update(metric, images)
    expected = pycocotools_values(images)
    for name in ("AP", "AP50", "AR100"):
        assert metric.compute()[name] == pytest.approx(expected[name], abs=1e-6)


def one_box(label: int = 0, score: float = 0.9) -> Detections:
    return Detections(torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([score]), torch.tensor([label]))


NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def target(label: int = 0, **kwargs: Tensor) -> Targets:
    return Targets.of(torch.tensor([[10.0, 10, 50, 50]]), torch.tensor([label]), 2, **kwargs)


def empty_target() -> Targets:
    return Targets.of(torch.zeros(0, 4), torch.zeros(0), 2)


@pytest.mark.parametrize(
    ("found", "truth", "ap"),
    [
        (one_box(), target(), 1.0),
        (NOTHING, target(), 0.0),
        (one_box(label=1), target(), 0.0),
        (one_box(), empty_target(), math.nan),
        (NOTHING, empty_target(), math.nan),
        (one_box(), target(ignore=torch.tensor([True])), math.nan),
    ],
)
def test_single_image(found: Detections, truth: Targets, ap: float) -> None:
    metric = DetectionMetrics(["x", "y"])
    metric.update([found], [truth])
    values = metric.compute()
    for name in ("AP", "AP50", "AP90", "APm", "mAP_voc", "AP/x"):
        assert values[name] == pytest.approx(ap, nan_ok=True), name
    assert math.isnan(values["APl"])
    assert all(isinstance(value, float) for value in values.values())


def test_detections_of_classes_nobody_looked_for_do_not_count() -> None:
    metric = DetectionMetrics(["x", "y"])
    metric.update([one_box(1, 0.99), one_box(1, 0.5)], [target(0, annotated=torch.tensor([True, False])), target(1)])
    assert metric.compute()["AP/y"] == 1.0
    metric.reset()
    metric.update([one_box(1, 0.99), one_box(1, 0.5)], [target(0), target(1)])
    assert metric.compute()["AP/y"] == pytest.approx(0.5)


def test_no_update_at_all() -> None:
    with pytest.warns(UserWarning, match="before the ``update``"):
        values = DetectionMetrics(["x"]).compute()
    assert all(math.isnan(value) for value in values.values())


def test_half_precision_scores_are_taken_as_they_are() -> None:
    metric = DetectionMetrics(["x", "y"])
    found = one_box()
    metric.update([Detections(found.boxes.half(), found.scores.half(), found.labels)], [target()])
    assert metric.compute()["AP"] == 1.0


def test_repeated_images_count_once_and_order_does_not_matter() -> None:
    images, ids = random_images(1), list(range(100, 140))
    plain, shuffled = DetectionMetrics(CLASSES), DetectionMetrics(CLASSES)
    update(plain, images)
    order = np.random.default_rng(0).permutation(40).tolist()
    order += [3, 3, 20]
    update(shuffled, [images[n] for n in order], [ids[n] for n in order])
    assert shuffled.compute() == pytest.approx(plain.compute(), abs=1e-12, nan_ok=True)
    twice = DetectionMetrics(CLASSES)
    update(twice, [images[n] for n in order])
    assert twice.compute()["AP"] != plain.compute()["AP"]


def test_pr_curves_belong_to_ap() -> None:
    metric = DetectionMetrics(CLASSES)
    update(metric, random_images(2))
    values, curves = metric.compute(), metric.pr_curves()
    assert list(curves) == ["a", "b", "c", "d"]
    for name, (recall, precision) in curves.items():
        assert recall.shape == precision.shape == (101,)
        assert (np.diff(precision) <= 0).all()
        assert precision.mean() == pytest.approx(values[f"AP50/{name}"])
    assert np.mean([p.mean() for _, p in metric.pr_curves(0.75).values()]) == pytest.approx(values["AP75"])


def test_reset_forgets() -> None:
    metric = DetectionMetrics(["x", "y"])
    metric.update([NOTHING], [target()])
    metric.reset()
    metric.update([one_box()], [target()])
    assert metric.compute()["AP"] == 1.0


@pytest.mark.parametrize("classes", [[], ["x", "x"]])
def test_refuses_classes(classes: list[str]) -> None:
    with pytest.raises(ValueError, match="all different"):
        DetectionMetrics(classes)


def test_refuses_bad_input() -> None:
    metric = DetectionMetrics(["x", "y"])
    with pytest.raises(ValueError, match="got 1, 2 and None"):
        metric.update([NOTHING], [target(), target()])
    with pytest.raises(ValueError, match="id for each of 1 images, got 2"):
        metric.update([NOTHING], [target()], None, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="'area' or '11'"):
        DetectionMetrics(["x"], voc_points="12")  # type: ignore[arg-type]
    small = DetectionMetrics(["x"])
    small.update([NOTHING], [target(1)])
    with pytest.raises(ValueError, match=r"labels in 0..0, got 1..1 in a target"):
        small.compute()


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    images = random_images(3)
    metric = DetectionMetrics(CLASSES)
    mine = [*range(rank, 40, 2), rank] if rank < 2 else []  # the third process sees no image, image 0 and 1 repeat
    update(metric, [images[n] for n in mine], mine)
    torch.save(metric.compute(), Path(folder) / f"{rank}.pt")
    assert len(metric.image_ids) == -(-len(mine) // 7)  # its own states are back
    torch.distributed.destroy_process_group()


def test_three_processes_agree_with_one(tmp_path: Path) -> None:
    # forked, for three fresh imports of torch would take longer than all other tests together
    torch.multiprocessing.start_processes(_worker, (str(tmp_path),), nprocs=3, start_method="fork")
    metric = DetectionMetrics(CLASSES)
    update(metric, random_images(3))
    for rank in range(3):
        values = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert values == pytest.approx(metric.compute(), abs=1e-12, nan_ok=True)
