"""The classifier in use against a loop over RoIs, and as a file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detlab.errors import UserError
from detlab.proxy_classifier import ProxyClassifier, load_classifier, save
from detlab.proxy_classifier.cutting import content_sizes, cut, whole_pixels
from detlab.proxy_classifier.patch_drop import draw_patches
from tests.proxy_classifier.test_views import decision

CENTRES = torch.tensor([[8, 8], [20, 10], [10, 20], [24, 24]])


@pytest.fixture
def classifier() -> ProxyClassifier:
    """Untrained, but sure enough of itself that its views differ."""
    torch.manual_seed(0)
    result = ProxyClassifier(["a", "b", "c"], CENTRES, largest=30, width=0.25)
    torch.nn.init.normal_(result.net.output.weight, std=0.3)
    return result.eval()


def rois(count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(count, 2, generator=generator) * 60 - 5
    boxes = torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 40], 1)
    images = torch.randn(2, 3, 48, 64, generator=generator)
    return images, torch.randint(2, (count,), generator=generator), boxes


def literal(
    classifier: ProxyClassifier, images: Tensor, image: Tensor, boxes: Tensor, patches: int, drawn: Tensor, flip: bool
) -> Tensor:
    """Eq. 1, RoI by RoI, view by view, patch by patch, in float64."""
    net = classifier.net.double()
    rows = []
    for i, box in enumerate(boxes):
        pixels = whole_pixels(box[None], 48, 64)
        w, h = (pixels[0, 2:] - pixels[0, :2]).tolist()
        if not w or not h:
            rows.append([0.0, 0.0, 0.0, 1.0])
            continue
        scale = min(1.0, 30 / max(w, h))
        distances = [(w * scale - cw) ** 2 + (h * scale - ch) ** 2 for cw, ch in CENTRES.tolist()]
        size = tuple(CENTRES[distances.index(min(distances))].tolist())
        crop = cut(images, image[i : i + 1], box[None], size)[0].double()
        cw, ch = content_sizes(torch.tensor([[w, h]]), size)[0].tolist()
        views = [crop]
        for number in drawn[:, i].tolist():
            view = crop.clone()
            row, column = divmod(number, patches)
            view[
                :,
                row * ch // patches : (row + 1) * ch // patches,
                column * cw // patches : (column + 1) * cw // patches,
            ] = 0
            views.append(view)
        if flip:
            view = crop.clone()
            view[:, :, :cw] = crop[:, :, :cw].flip(-1)
            views.append(view)
        rows.append(torch.stack([net(v[None])[0].softmax(-1) for v in views]).mean(0).tolist())
    classifier.net.float()
    return torch.tensor(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("patches", "copies", "flip"), [(3, 2, False), (4, 3, True), (3, 0, False)])
def test_equals_the_loop(classifier: ProxyClassifier, patches: int, copies: int, flip: bool) -> None:
    images, image, boxes = rois()
    found = classifier.classify(images, image, boxes, patches, copies, flip, torch.Generator().manual_seed(7))
    drawn = draw_patches(len(boxes), patches, copies, torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = literal(classifier, images, image, boxes, patches, drawn, flip)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.sum(1), torch.ones(len(boxes)))


@pytest.mark.slow
def test_half_precision_pictures_and_boxes(classifier: ProxyClassifier) -> None:
    images, image, boxes = rois()
    rough = boxes.half()
    for kind in (torch.float16, torch.bfloat16):
        found = classifier.classify(images.to(kind), image, rough, copies=0)
        assert found.dtype == torch.float32
        assert torch.equal(found, classifier.classify(images.to(kind).float(), image, rough.float(), copies=0))


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [None, 0.6])
def test_chunks_do_not_matter(
    classifier: ProxyClassifier, threshold: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, image, boxes = rois()
    generator = torch.Generator().manual_seed(7)
    whole = classifier.classify(images, image, boxes, generator=generator, threshold=threshold)
    monkeypatch.setattr("detlab.proxy_classifier.classifier.PIXELS_AT_ONCE", {"cpu": 3000})
    passes: list[int] = []
    classifier.net.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0][:, 0].numel()))
    generator = torch.Generator().manual_seed(7)
    parts = classifier.classify(images, image, boxes, generator=generator, threshold=threshold)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-5)
    assert max(passes) <= 3000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("copies", "flip", "threshold"),
    [(2, False, 0.8), (2, False, 0.6), (2, True, 0.3), (1, True, 0.8), (0, False, 0.8)],
)
def test_a_threshold_saves_views_and_changes_no_decision(
    classifier: ProxyClassifier, copies: int, flip: bool, threshold: float
) -> None:
    images, image, boxes = rois(200)
    looked_at = 0

    def count(net: object, inputs: tuple[Tensor]) -> None:  # noqa: ARG001
        nonlocal looked_at
        looked_at += len(inputs[0])

    classifier.net.register_forward_pre_hook(count)
    whole = classifier.classify(images, image, boxes, 3, copies, flip, torch.Generator().manual_seed(7))
    everything, looked_at = looked_at, 0
    generator = torch.Generator().manual_seed(7)
    quick = classifier.classify(images, image, boxes, 3, copies, flip, generator, threshold)
    kept = decision(whole, threshold)
    assert (kept < 3).any()
    assert (kept == 3).any()
    assert torch.equal(decision(quick, threshold), kept)
    torch.testing.assert_close(quick.sum(1), torch.ones(200))
    assert looked_at < everything if copies else looked_at == everything
    assert everything == 200 * (1 + copies + flip)


@pytest.mark.slow
def test_none_one_pixel_outside_and_many(classifier: ProxyClassifier) -> None:
    images, image, _ = rois()
    assert classifier.classify(images, image[:0], torch.zeros(0, 4)).shape == (0, 4)
    boxes = torch.tensor([[70.0, 0, 80, 10], [5, 5, 6, 6], [-20, -20, -1, -1], [9, 9, 2, 2]])
    found = classifier.classify(images, image[:4], boxes)
    assert found[[0, 2, 3]].tolist() == [[0, 0, 0, 1]] * 3
    assert 0 < float(found[1, 3]) < 1
    many = torch.rand(5000, 4) * 60 - 10
    found = classifier.classify(images, torch.randint(2, (5000,)), many, copies=0)
    torch.testing.assert_close(found.sum(1), torch.ones(5000))


def test_training_mode_is_left_as_it_was_and_norms_learn_nothing(classifier: ProxyClassifier) -> None:
    classifier.train()
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    classifier.classify(*rois())
    assert classifier.training
    assert classifier.net.training
    assert all(torch.equal(v, before[k]) for k, v in classifier.state_dict().items())


def test_bad_arguments_are_refused(classifier: ProxyClassifier) -> None:
    with pytest.raises(ValueError, match="patches >= 1"):
        classifier.classify(*rois(), patches=0)
    with pytest.raises(ValueError, match="each once"):
        ProxyClassifier(["a", "a"], CENTRES)


@pytest.mark.slow
def test_a_file_holds_everything(classifier: ProxyClassifier, tmp_path: Path) -> None:
    save(classifier, tmp_path / "checkpoints/last.ckpt")
    images, image, boxes = rois()
    expected = classifier.classify(images, image, boxes, generator=torch.Generator().manual_seed(1))
    for path in (tmp_path, tmp_path / "checkpoints/last.ckpt", str(tmp_path)):
        loaded = load_classifier(path)
        assert not loaded.training
        assert loaded.classes == ["a", "b", "c"]
        assert torch.equal(loaded.centres, CENTRES)
        assert (loaded.sizes.largest, loaded.mean) == (30, classifier.mean)
        found = loaded.classify(images, image, boxes, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in loaded.modules())
    copy = pickle.loads(pickle.dumps(classifier))
    assert torch.equal(copy.classify(images, image, boxes, generator=torch.Generator().manual_seed(1)), expected)


def test_other_files_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no weights")
    torch.save({"detlab": {}, "state_dict": {}}, tmp_path / "detector.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    torch.save({"proxy_classifier": 99, "classes": ["a"]}, tmp_path / "newer.ckpt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 0")
    for name, words in {
        "nothing.ckpt": "no such file",
        "text.ckpt": "not a proxy classifier",
        "detector.ckpt": "but a detector",
        "list.ckpt": "not a proxy classifier",
        "newer.ckpt": "another version",
        "run": "no classifier yet, it is unfinished",
        ".": "holds no run",
    }.items():
        with pytest.raises(UserError, match=words):
            load_classifier(tmp_path / name)
