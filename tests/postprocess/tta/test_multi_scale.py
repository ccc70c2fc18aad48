"""Multi-scale testing with toy detectors whose boxes are known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from detlab.config.launch import CONFIG_DIR
from detlab.engine.module import LitDetector
from detlab.models.anchors import AnchorGenerator
from detlab.postprocess import Candidates, ClassNMS, Postprocess, ScoreVoting
from detlab.postprocess import tta as testing
from detlab.postprocess.tta import MultiScale, Single
from detlab.postprocess.tta.multi_scale import of_size, together
from detlab.structures import Anchors, Batch, Detections, Predictions, Targets

SIZES = torch.tensor([[40, 60], [64, 30]])


def batch(images: Tensor, sizes: Tensor = SIZES) -> Batch:
    empty = Targets.of(torch.zeros(0, 4), torch.zeros(0), 1)
    count = len(images)
    return Batch(
        images, [empty] * count, sizes, torch.full((count, 2), 0.5), 2 * sizes, torch.arange(count),
        [empty] * count, [torch.zeros(0)] * count,
    )  # fmt: skip


def noise() -> Tensor:
    images = torch.zeros(2, 3, 64, 64)
    generator = torch.Generator().manual_seed(0)
    for image, (height, width) in zip(images, SIZES.tolist()):
        image[:, :height, :width] = torch.randn(3, height, width, generator=generator)
    return images


class Convolution(torch.nn.Module):
    """One convolution of stride 8 as a dense head of two classes, and how it was called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 6, 8, 8)
        self.anchors = AnchorGenerator((3,), 2.0, 1, (1.0,))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        self.seen.append(images)
        out = self.conv(images).permute(0, 2, 3, 1)
        anchors = self.anchors([(out.shape[1], out.shape[2])], images.device)
        flat = out.flatten(1, 2)
        return Predictions(flat[..., :2], anchors.boxes + 4 * flat[..., 2:].tanh(), flat[..., 2:]), anchors


class Squares:
    """Finds the bright square of each picture exactly."""

    def __call__(self, images: Tensor) -> tuple[Predictions, Anchors]:
        boxes = []
        for image in images:
            rows, columns = (image[0] > 0.5).nonzero().unbind(1)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        found = torch.tensor(boxes).float()[:, None]
        anchors = Anchors(torch.zeros(1, 4), torch.zeros(1).long(), (1,))
        return Predictions(torch.full((len(images), 1, 1), 2.0), found, found), anchors


def assert_same(found: list[Detections], expected: list[Detections]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert len(other.scores) > 0
        for a, b in zip(one, other):
            assert torch.equal(a, b)


@pytest.mark.parametrize("nms", [ClassNMS(), ScoreVoting(limit=100)])
def test_one_scale_of_1_without_mirroring_is_the_usual_test(nms) -> None:
    detector, pictures, postprocess = Convolution(), batch(noise()), Postprocess(nms)
    assert_same(
        MultiScale([1.0], flip=False)(detector, pictures, postprocess), Single()(detector, pictures, postprocess)
    )


@pytest.mark.parametrize("nms", [ClassNMS(), ScoreVoting(limit=100)])
def test_of_mirrored_pictures_a_symmetric_detector_finds_mirrored_boxes(nms) -> None:
    """Picture and mirror image together, with contents of 60 and 30 pixels in a batch of 64."""
    images = torch.zeros(2, 3, 64, 64)
    images[0, :, 12:32, 8:24] = 1
    images[1, :, 40:60, 4:14] = 1
    mirrored = torch.zeros_like(images)
    for to, image, width in zip(mirrored, images, SIZES[:, 1].tolist()):
        to[..., :width] = image[..., :width].flip(-1)
    both = MultiScale([1.0, 0.5, 2.0], flip=True)
    plain = both(Squares(), batch(images), Postprocess(nms))
    turned = both(Squares(), batch(mirrored), Postprocess(nms))
    for one, other, expected, width in zip(plain, turned, [[8.0, 12, 24, 32], [4.0, 40, 14, 60]], SIZES[:, 1].tolist()):
        assert one.boxes.tolist() == [pytest.approx(expected, abs=0.6)]
        x1, y1, x2, y2 = one.boxes[0].tolist()
        assert other.boxes.tolist() == [pytest.approx([width - x2, y1, width - x1, y2], abs=1e-4)]


def test_every_view_is_looked_at_once() -> None:
    detector = Convolution()
    MultiScale([0.5, 1.0, 2.0])(detector, batch(noise()), Postprocess())
    shapes = [tuple(images.shape[2:]) for images in detector.seen]
    assert shapes == [(32, 32)] * 2 + [(64, 64)] * 2 + [(128, 128)] * 2
    assert not torch.equal(detector.seen[2], detector.seen[3])


def test_padding_is_no_place_for_boxes() -> None:
    """Whatever a view finds is inside the picture's content."""
    found = MultiScale([0.7, 1.3], flip=True)(Convolution(), batch(noise()), Postprocess(score_threshold=0.0))
    for detections, (height, width) in zip(found, SIZES.tolist()):
        assert len(detections.scores) > 10
        assert (detections.boxes >= -1e-4).all()
        assert (detections.boxes <= torch.tensor([width, height, width, height]) + 1e-4).all()
        assert (detections.scores.diff() <= 0).all()


def test_candidates_of_all_views_meet_in_one_suppression() -> None:
    """The square found at three scales gives three candidates of one score, whose mean is what voting returns."""
    images = torch.zeros(1, 3, 64, 64)
    images[0, :, 10:31, 9:24] = 1
    met: list[Candidates] = []

    class Keep:
        def __call__(self, candidates: Candidates) -> Candidates:
            met.append(candidates)
            return candidates

    pictures, scales = batch(images, torch.tensor([[50, 60]])), [0.6, 1.0, 1.4]
    MultiScale(scales, flip=False)(Squares(), pictures, Postprocess(Keep()))
    (candidates,) = met
    assert len(candidates.scores) == 3
    assert candidates.boxes[1].tolist() == [9, 10, 24, 31]
    voting = ScoreVoting(sigma=1e6)
    (found,) = MultiScale(scales, flip=False)(Squares(), pictures, Postprocess(voting))
    torch.testing.assert_close(found.boxes, candidates.boxes.mean(0, keepdim=True), atol=1e-4, rtol=0)


def test_ranges_are_in_pixels_of_the_view() -> None:
    """A square of 16 pixels is one of 8 at half the scale and one of 32 at twice."""
    images = torch.zeros(1, 3, 64, 64)
    images[0, :, 8:24, 8:24] = 1
    pictures = batch(images, torch.tensor([[64, 64]]))
    for scale, side in ((0.5, 8), (1.0, 16), (2.0, 32)):
        for low, high, count in ((side - 1, side + 1, 1), (0, side - 1, 0), (side + 1, 10000, 0)):
            scheme = MultiScale([scale], flip=True, ranges=[(low, high)])
            (found,) = scheme(Squares(), pictures, Postprocess())
            assert len(found.scores) == count
    (found,) = MultiScale([0.5, 2.0], False, [(0, 7), (30, 34)])(Squares(), pictures, Postprocess())
    assert found.boxes.tolist() == [pytest.approx([8, 8, 24, 24], abs=0.5)]


def test_a_side_at_the_end_of_the_range_does_not_count() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 9], [0, 0, 5, 9], [0, 0, 3, 9]])  # the first has an area of 6²
    zero = torch.zeros(3).long()
    candidates = Candidates(boxes, torch.ones(3), zero, zero)
    assert of_size(candidates, 6, 100).boxes.tolist() == boxes[1:2].tolist()
    assert of_size(candidates, 0, 6).boxes.tolist() == boxes[2:].tolist()


def test_views_are_sorted_together() -> None:
    a = Candidates(torch.zeros(2, 4), torch.tensor([0.9, 0.3]), torch.tensor([0, 1]), torch.tensor([0, 1]))
    b = Candidates(torch.ones(2, 4), torch.tensor([0.9, 0.5]), torch.tensor([2, 3]), torch.tensor([1, 0]))
    found = together([a, b])
    assert found.scores.tolist() == pytest.approx([0.9, 0.9, 0.5, 0.3])
    assert found.labels.tolist() == [0, 2, 3, 1]
    assert found.boxes[:, 0].tolist() == [0, 1, 1, 0]


def test_nothing_found_and_no_pictures() -> None:
    detector = Convolution()
    quiet = Postprocess(score_threshold=0.999)
    assert [len(d.scores) for d in MultiScale()(detector, batch(noise()), quiet)] == [0, 0]
    assert MultiScale()(detector, batch(torch.zeros(0, 3, 64, 64), torch.zeros(0, 2).long()), Postprocess()) == []


def module(scheme: testing.Testing | None = None) -> LitDetector:
    return LitDetector(Convolution(), None, None, Postprocess(), ["a", "b"], testing=scheme)  # type: ignore[arg-type]


def test_the_module_looks_once_in_validation_and_as_told_elsewhere() -> None:
    pictures = batch(noise())
    plain, several = module(), module(MultiScale([0.5, 1.0], flip=True))
    assert_same(several.detect(pictures, "val"), plain.detect(pictures))
    assert len(several.detector.seen) == 1
    for stage in ("test", None):
        several.detector.seen.clear()
        found = several.detect(pictures, stage)
        assert len(several.detector.seen) == 4
        expected = MultiScale([0.5, 1.0])(several.detector, pictures, several.postprocess)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.boxes, other.boxes / 0.5)  # pixels of the files
            assert torch.equal(one.scores, other.scores)


@pytest.mark.parametrize(("scales", "times"), [([0.5, 1.0, 2.0], 1), ([0.5, 2.0], 0)])
def test_the_predicted_iou_is_judged_on_the_pictures_as_they_are(scales: list[float], times: int, monkeypatch) -> None:
    several, judged = module(MultiScale(scales)), []
    monkeypatch.setattr(several.evaluation, "update_iou_error", lambda *given: judged.append(given))
    pictures = batch(noise())
    several.detect(pictures)
    assert judged == []
    several.detect(pictures, "test")
    assert len(judged) == times
    for stage, _, predictions, *_ in judged:
        assert torch.equal(predictions.logits, several(pictures.images)[0].logits)
        assert stage == "test"


@pytest.mark.slow
def test_a_bad_scale_is_refused_before_anything_is_read(detlab, tmp_path) -> None:
    result = detlab("train", "testing=multi_scale", "testing.scales=[1,0]")
    assert (result.status, result.err) == (1, "detlab: testing: Expected positive scales, got [1, 0].\n")
    result = detlab("train", "testing=multi_scale", "testing.flop=true")
    assert result.status == 1
    assert "testing.flip" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("option", sorted(path.stem for path in Path(CONFIG_DIR / "testing").glob("*.yaml")))
def test_the_configs_build(option: str, tmp_path) -> None:
    (tmp_path / "b.ckpt").touch()
    others = [f"testing.runs=[{tmp_path / 'b.ckpt'}]"] if option == "ensemble" else []
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        assert "testing" not in compose("train")  # so that runs from before keep their identity
        cfg = compose("train", [f"testing={option}", "postprocess=voting", *others])
    scheme = instantiate(cfg.testing, _convert_="all")
    assert isinstance(scheme, testing.Testing)
    if option == "multi_scale_released":
        assert [round(800 * scale) for scale in scheme.scales][::12] == [400, 1800]
        assert len(scheme.ranges) == len(scheme.scales) == 13
        for scale, (low, high) in zip(scheme.scales, scheme.ranges):
            assert (low > 0) == (scale < 1)
            assert (high < 10000) == (scale > 1.25)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scales": []},
        {"scales": [1.0, 0.0]},
        {"scales": [float("nan")]},
        {"scales": [float("inf")]},
        {"scales": [1.0], "ranges": []},
        {"scales": [1.0], "ranges": [(5, 5)]},
        {"scales": [1.0], "ranges": [(-1, 5)]},
        {"scales": [1.0], "ranges": [(1, 2, 3)]},
    ],
)
def test_refuses_impossible_arguments(arguments) -> None:
    with pytest.raises(ValueError, match="Expected"):
        MultiScale(**arguments)
