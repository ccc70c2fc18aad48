"""Several detectors together: what toys find whose boxes are known, and finished runs asked by `eval` and `train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from detlab.engine.module import LitDetector
from detlab.errors import UserError
from detlab.postprocess import Postprocess, ScoreVoting
from detlab.postprocess.tta import Ensemble
from detlab.structures import Anchors, Batch, Predictions, Targets

SIZES = torch.tensor([[64, 64], [40, 50]])


class Says(nn.Module):
    """Finds the same boxes ``[A, 4]`` with the same logits ``[A, C]`` in every picture."""

    def __init__(self, boxes: list[list[float]], logits: list[list[float]]) -> None:
        super().__init__()
        self.boxes, self.logits = torch.tensor(boxes), torch.tensor(logits)
        self.calls = 0

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        self.calls += 1
        boxes, logits = (x.expand(len(images), -1, -1) for x in (self.boxes, self.logits))
        anchors = Anchors(self.boxes, torch.zeros(len(self.boxes)).long(), (len(self.boxes),))
        return Predictions(logits, boxes, boxes), anchors


def module(detector: nn.Module, classes: list[str] | None = None, testing=None, **post) -> LitDetector:
    classes = classes or ["a", "b"]
    return LitDetector(detector, None, None, Postprocess(**post), classes, testing=testing)  # type: ignore[arg-type]


def batch() -> Batch:
    empty = Targets.of(torch.zeros(0, 4), torch.zeros(0), 2)
    return Batch(
        torch.zeros(2, 3, 64, 64), [empty] * 2, SIZES, torch.full((2, 2), 0.5), 2 * SIZES, torch.arange(2),
        [empty] * 2, [torch.zeros(0)] * 2,
    )  # fmt: skip


FIRST = ([[0.0, 0, 20, 20], [30, 30, 40, 40]], [[2.0, -9], [1, -9]])
OTHER = ([[2.0, 0, 22, 20], [30, 30, 40, 40]], [[3.0, -9], [-9, 0]])  # surer of the first; another class of the second


def test_the_surer_box_stays_and_what_one_alone_finds_is_found() -> None:
    ensemble = Ensemble([lambda: module(Says(*OTHER))])
    for found in module(Says(*FIRST), testing=ensemble).detect(batch(), "test"):
        assert (found.boxes * 0.5).tolist() == [[2, 0, 22, 20], [30, 30, 40, 40], [30, 30, 40, 40]]
        assert found.labels.tolist() == [0, 0, 1]
        torch.testing.assert_close(found.scores, torch.tensor([3.0, 1, 0]).sigmoid())


def test_votes_are_of_all_members() -> None:
    """Under a wide kernel the box is the mean of both, weighted by their scores."""
    ensemble = Ensemble([lambda: module(Says(*OTHER))])
    (found, _) = module(Says(*FIRST), testing=ensemble, nms=ScoreVoting(sigma=1e6)).detect(batch(), "test")
    p, q = torch.tensor([2.0, 3]).sigmoid().tolist()
    assert (found.boxes[0] * 0.5).tolist() == pytest.approx([2 * q / (p + q), 0, 20 + 2 * q / (p + q), 20])


def test_each_member_scores_in_its_own_way_and_sees_each_picture_once() -> None:
    strict = module(Says(*OTHER), score_threshold=0.9)  # of which the box with a logit of 3 alone is a candidate
    first = module(Says(*FIRST), testing=Ensemble([lambda: strict, lambda: module(Says(*FIRST))]))
    found = first.detect(batch())[0]
    assert found.labels.tolist() == [0, 0]
    assert strict.detector.calls == first.detector.calls == 1


def test_with_itself_it_finds_what_it_finds_alone() -> None:
    alone = module(Says(*FIRST)).detect(batch())
    twice = module(Says(*FIRST), testing=Ensemble([lambda: module(Says(*FIRST))])).detect(batch())
    for one, other in zip(alone, twice, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_validation_looks_alone() -> None:
    other = module(Says(*OTHER))
    module(Says(*FIRST), testing=Ensemble([lambda: other])).detect(batch(), "val")
    assert other.detector.calls == 0


def test_nobody_finds_anything_and_no_pictures() -> None:
    quiet = module(Says(*FIRST), testing=Ensemble([lambda: module(Says(*OTHER), score_threshold=0.99)]))
    quiet.postprocess.score_threshold = 0.99
    assert [len(d.scores) for d in quiet.detect(batch())] == [0, 0]
    none = batch()
    none.images, none.sizes, none.scales = none.images[:0], none.sizes[:0], none.scales[:0]
    assert quiet.detect(none) == []


def test_other_classes_or_another_order_of_them_are_refused() -> None:
    for classes in (["a", "c"], ["b", "a"]):
        ensemble = Ensemble([lambda classes=classes: module(Says(*OTHER), classes)])  # type: ignore[misc]
        with pytest.raises(UserError, match=f"a detector of {', '.join(classes)} cannot be asked together with one of"):
            module(Says(*FIRST), testing=ensemble)


def test_refuses_to_be_alone() -> None:
    with pytest.raises(ValueError, match="at least one other detector"):
        Ensemble([])


def predictions(folder: str) -> list[dict[str, object]]:
    return json.loads(Path(f"{folder}/predictions.json").read_text())


@pytest.mark.slow
def test_finished_runs_are_tested_together(detlab, trained) -> None:
    """With itself a run finds what it finds alone; with another, what that one is surer of, too."""
    run, cpu = str(trained), ["accelerator=cpu", "pictures=0"]
    same = ["testing=ensemble", f"testing.runs=[{run}]"]
    assert detlab("eval", *cpu, f"ckpt_path={run}", *same, "output=same").status == 0
    assert predictions("same") == predictions(run) != []
    assert json.loads(Path("same/metrics.json").read_text())["tested_with"].keys() == {run}

    shift = torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)
    for name, value in shift["state_dict"].items():
        if name.endswith("weight") and "head" in name:
            value.mul_(0.9)
    torch.save(shift, "other.ckpt")
    other = ["testing=ensemble", "testing.runs=[other.ckpt]"]
    assert detlab("eval", *cpu, f"ckpt_path={run}", *other, "output=both").status == 0
    assert detlab("eval", *cpu, "ckpt_path=other.ckpt", "output=other").status == 0
    both, alone = predictions("both"), predictions(run) + predictions("other")
    assert both != predictions(run)
    # The surest box of every picture is that of one of them.
    for image in {row["image_id"] for row in both}:
        best = [max(row["score"] for row in rows if row["image_id"] == image) for rows in (both, alone)]  # type: ignore[type-var]
        assert best[0] == best[1]


@pytest.mark.slow
def test_what_is_no_run_is_refused_before_anything_is_read(detlab, trained) -> None:
    (trained / "metrics.json").unlink()
    found = detlab("eval", f"ckpt_path={trained}", "testing=ensemble", f"testing.runs=[{trained}]")
    assert found.status == 1
    assert found.err == (
        f"detlab: testing.runs={trained}: that run is not finished; start it again, before it is asked together with "
        "others.\n"
    )
    Path("text.ckpt").write_text("none")
    found = detlab("eval", f"ckpt_path={trained}", "testing=ensemble", "testing.runs=[text.ckpt]", "output=none")
    assert (found.status, Path("none").exists()) == (1, False)
    assert "text.ckpt" in found.err
