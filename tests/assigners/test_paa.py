"""PAA against Procedure 1 in loops, and on images small enough to check by eye."""

from __future__ import annotations

import pytest
import torch

from detlab.assigners import Assigner, overlap
from detlab.assigners.paa import PAA
from detlab.assigners.separation import Scheme
from detlab.losses.anchor_cost import AnchorCost
from detlab.losses.classification import Focal
from detlab.losses.iou import IoULoss
from detlab.structures import BACKGROUND, IGNORED, Anchors, Predictions, Targets
from tests.assigners.literal_paa import SCHEMES, paa, procedure
from tests.assigners.scored_images import costing, given_cost, image_of, random_image, random_predictions

LEVELS = (4, 8, 16, 32)


def focal_giou(weight: float = 1.0) -> AnchorCost:
    return AnchorCost(Focal(), IoULoss("giou"), weight)


def single(anchors: list[list[float]], level_sizes: tuple[int, ...] | None = None) -> Anchors:
    boxes = torch.tensor(anchors).reshape(-1, 4)
    sizes = level_sizes or (len(boxes),)
    return Anchors(boxes, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)), sizes)


def boxes_of(boxes: list[list[float]], ignore: list[bool] | None = None) -> Targets:
    flags = None if ignore is None else torch.tensor(ignore)
    return Targets.of(torch.tensor(boxes), torch.zeros(len(boxes)), 1, ignore=flags)


def images(counts: tuple[int, ...], seed: int, **options: float) -> list[Targets]:
    generator = torch.Generator().manual_seed(seed)
    return [random_image(count, generator, **options) for count in counts]  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("topk", [1, 3, 9])
def test_equals_procedure_1(grid_anchors, scheme: Scheme, topk: int) -> None:
    """The coarsest level has 4 anchors: fewer than 9."""
    anchors, targets = grid_anchors(64, LEVELS), images((0, 1, 4, 9), 0, crowd=0.2, unannotated=0.3)
    predictions = random_predictions(anchors, len(targets), torch.Generator().manual_seed(1))
    found = PAA(focal_giou(), topk, scheme)(anchors, targets, predictions).gt_index
    assert found.dtype == torch.int64
    for number, target in enumerate(targets):
        wanted = procedure(anchors, target, image_of(predictions, number), paa(topk, scheme))
        assert found[number].tolist() == wanted
    assert (found >= 0).any()
    assert (found == IGNORED).any()


@pytest.mark.parametrize(
    ("options", "others"),
    [
        ({"min_iou": "0.4", "low_quality": False}, {"min_iou": "0.4"}),
        ({"min_iou": "0.4"}, {}),
        ({"min_iou": "0"}, {}),
        ({"localization_weight": 1.3}, {}),
    ],
)
def test_options_equal_procedure_1(grid_anchors, options: dict, others: dict) -> None:
    anchors, targets = grid_anchors(32, (8, 16)), images((5, 0, 2), 2, size=32)
    predictions = random_predictions(anchors, len(targets), torch.Generator().manual_seed(3))

    def assign(min_iou: str = "0.1", low_quality: bool = True, localization_weight: float = 1.0) -> torch.Tensor:
        assigner = PAA(focal_giou(localization_weight), min_iou=float(min_iou), low_quality=low_quality)
        return assigner(anchors, targets, predictions).gt_index

    found = assign(**options)
    for number, target in enumerate(targets):
        wanted = procedure(anchors, target, image_of(predictions, number), paa(9, "c"), **options)
        assert found[number].tolist() == wanted
    assert not torch.equal(found, assign(**others)), "the option changes nothing here: nothing was tested"


def test_two_hundred_objects_equal_procedure_1(grid_anchors) -> None:
    """More objects than most anchors can serve: many get one candidate or none."""
    anchors, targets = grid_anchors(32, (4, 8)), images((200, 3), 4, size=32)
    predictions = random_predictions(anchors, len(targets), torch.Generator().manual_seed(5))
    found = PAA(focal_giou(), scheme="b_between_peaks")(anchors, targets, predictions).gt_index
    for number, target in enumerate(targets):
        assert found[number].tolist() == procedure(
            anchors, target, image_of(predictions, number), paa(9, "b_between_peaks")
        )
    matched = found[0][found[0] >= 0].unique()
    assert 20 < len(matched) < 200


@pytest.mark.parametrize("topk", [1, 9])
def test_batch_equals_its_images_one_by_one(grid_anchors, monkeypatch: pytest.MonkeyPatch, topk: int) -> None:
    anchors, targets = grid_anchors(64, LEVELS), images((3, 0, 30, 1, 7), 6, crowd=0.2, unannotated=0.3)
    predictions = random_predictions(anchors, len(targets), torch.Generator().manual_seed(7))
    assigner = PAA(focal_giou(), topk, "b_between_peaks")
    together = assigner(anchors, targets, predictions).gt_index
    for number, target in enumerate(targets):
        one = Predictions(*(None if field is None else field[number : number + 1] for field in predictions))  # type: ignore[arg-type]
        assert torch.equal(assigner(anchors, [target], one).gt_index[0], together[number])
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", 1)  # overlaps of one image at a time
    assert torch.equal(assigner(anchors, targets, predictions).gt_index, together)


# By eye. All anchors below overlap the object of 10 × 10 by at least 10/19, whatever they cost.
BOX = [0.0, 0.0, 10.0, 10.0]
NEAR = [[float(x), 0.0, 10.0 + x, 10.0] for x in range(4)]  # IoU 1, 9/11, 8/12, 7/13


@pytest.mark.parametrize(
    ("scheme", "wanted"),
    [
        ("a", [0, 0, 0, BACKGROUND, BACKGROUND, BACKGROUND]),
        ("b_between_peaks", [0, 0, IGNORED, IGNORED, BACKGROUND, BACKGROUND]),
        ("c", [0, 0, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND]),
        ("d_rest_of_low", [0, 0, IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]),
    ],
)
def test_six_anchors_with_costs_around_two_values(scheme: Scheme, wanted: list[int]) -> None:
    """The low-loss component is {0.1, 0.2, 0.3} with its peak in the middle, the other {2.0, 2.1, 2.2} likewise."""
    anchors = single([BOX] * 6)
    found = PAA(given_cost, scheme=scheme)(anchors, [boxes_of([BOX])], costing([[0.1, 0.2, 0.3, 2.0, 2.1, 2.2]]))
    assert found.gt_index.tolist() == [wanted]


def test_anchors_beyond_the_k_cheapest_of_their_level_are_background() -> None:
    """K = 2 leaves {0.1, 0.2} of the first level and {5.0, 5.1} of the second, a component each; K = 3 lets 0.3 in."""
    anchors = single([BOX] * 5, (3, 2))
    predictions = costing([[0.3, 0.1, 0.2, 5.1, 5.0]])
    assert PAA(given_cost, 2, "a")(anchors, [boxes_of([BOX])], predictions).gt_index.tolist() == [
        [BACKGROUND, 0, 0, BACKGROUND, BACKGROUND]
    ]
    assert PAA(given_cost, 3, "a")(anchors, [boxes_of([BOX])], predictions).gt_index.tolist() == [
        [0, 0, 0, BACKGROUND, BACKGROUND]
    ]


def test_one_candidate_per_level() -> None:
    """K = 1 leaves 0.4 and 0.9, a component each."""
    anchors = single([BOX] * 4, (2, 2))
    found = PAA(given_cost, topk=1)(anchors, [boxes_of([BOX])], costing([[0.5, 0.4, 0.9, 1.0]]))
    assert found.gt_index.tolist() == [[BACKGROUND, 0, BACKGROUND, BACKGROUND]]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_candidate_is_positive_whatever_it_costs(scheme: Scheme) -> None:
    anchors = single([BOX, [50.0, 0, 60, 10]])
    found = PAA(given_cost, scheme=scheme)(anchors, [boxes_of([BOX])], costing([[1000.0, 0.0]]))
    assert found.gt_index.tolist() == [[0, BACKGROUND]]


def test_candidate_needs_an_iou_of_a_tenth_or_to_be_the_best_there_is() -> None:
    """IoU 1/10 (10 of 100 pixels) is enough, 9/100 only while nothing overlaps the object more."""
    tenth, less, best = [0.0, 0, 10, 1], [0.0, 0, 9, 1], [0.0, 0, 10, 9]
    targets = [boxes_of([BOX])]
    found = PAA(given_cost)(single([best, tenth, less]), targets, costing([[0.5, 0.5, 0.5]]))
    assert found.gt_index.tolist() == [[0, 0, BACKGROUND]]
    assert PAA(given_cost)(single([less]), targets, costing([[0.5]])).gt_index.tolist() == [[0]]
    strict = PAA(given_cost, low_quality=False)
    assert strict(single([less]), targets, costing([[0.5]])).gt_index.tolist() == [[BACKGROUND]]


def test_anchor_answers_for_the_object_it_overlaps_most_however_cheap_another_would_be() -> None:
    """Both objects want the middle anchor (IoU 9/11 and 8/12); it is the first one's. Costs {0.1}, {0.2, 3.0}."""
    first, second = [0.0, 0, 10, 10], [3.0, 0, 13, 10]
    anchors = single([[1.0, 0, 11, 10], [3.0, 0, 13, 10], [4.0, 0, 14, 10]])
    found = PAA(given_cost)(anchors, [boxes_of([first, second])], costing([[0.1, 0.2, 3.0]]))
    assert found.gt_index.tolist() == [[0, 1, BACKGROUND]]


def test_second_of_two_identical_objects_gets_nothing() -> None:
    found = PAA(given_cost)(single([BOX] * 2), [boxes_of([BOX, BOX])], costing([[0.1, 0.1]]))
    assert found.gt_index.tolist() == [[0, 0]]


def test_crowd_ignores_what_is_not_positive() -> None:
    """{0.1, 0.2} positive (one component, the other {9}); 9 and the far anchor lie in the crowd, the last nowhere."""
    anchors = single([BOX, BOX, BOX, [30.0, 0, 40, 10], [90.0, 0, 100, 10]])
    targets = [boxes_of([[-50, -50, 50, 50], BOX], [True, False])]
    found = PAA(given_cost, scheme="a")(anchors, targets, costing([[0.1, 0.2, 9.0, 0.0, 0.0]]))
    assert found.gt_index.tolist() == [[1, 1, IGNORED, IGNORED, BACKGROUND]]


def test_images_without_objects_and_with_crowds_alone() -> None:
    anchors = single(NEAR)
    nothing = Targets.of(torch.zeros(0, 4), torch.zeros(0), 1)
    found = PAA(given_cost)(anchors, [nothing, nothing], costing([[0.1] * 4] * 2)).gt_index
    assert found.tolist() == [[BACKGROUND] * 4] * 2
    crowd = boxes_of([[-99, -99, 99, 99]], [True])
    found = PAA(given_cost)(anchors, [nothing, crowd], costing([[0.1] * 4] * 2)).gt_index
    assert found.tolist() == [[BACKGROUND] * 4, [IGNORED] * 4]
    empty = Predictions(torch.zeros(1, 0, 1), torch.zeros(1, 0, 4), torch.zeros(1, 0, 4))
    assert PAA(given_cost)(single([]), [boxes_of([BOX])], empty).gt_index.shape == (1, 0)


def test_object_that_touches_no_anchor_gets_none() -> None:
    found = PAA(given_cost)(single(NEAR), [boxes_of([[500, 500, 510, 510]])], costing([[0.1] * 4]))
    assert found.gt_index.tolist() == [[BACKGROUND] * 4]


def test_class_that_nobody_looked_for_costs_nothing() -> None:
    """A confident second class makes the first anchor dear, unless no annotator looked for that class."""
    anchors = single([BOX, BOX])
    boxes = torch.tensor([[BOX, BOX]])
    predictions = Predictions(torch.tensor([[[2.0, 6.0], [0.0, -6.0]]]), boxes, boxes)
    for annotated, winner in (([True, True], 1), ([True, False], 0), ([False, False], 0)):
        targets = Targets.of(torch.tensor([BOX]), torch.zeros(1), 2, annotated=torch.tensor(annotated))
        found = PAA(focal_giou())(anchors, [targets], predictions).gt_index[0]
        assert (found == 0).nonzero()[:, 0].tolist() == [winner]


def test_broken_predictions_do_not_crash_nor_disturb_other_objects(grid_anchors) -> None:
    anchors, targets = grid_anchors(64, LEVELS), images((4, 3, 5), 8)
    predictions = random_predictions(anchors, 3, torch.Generator().manual_seed(9))
    plain = PAA(focal_giou())(anchors, targets, predictions).gt_index
    for broken in (float("nan"), float("inf"), -float("inf")):
        logits, boxes = predictions.logits.clone(), predictions.boxes.clone()
        logits[1, ::3] = broken
        boxes[1, 1::3] = broken
        found = PAA(focal_giou())(anchors, targets, predictions._replace(logits=logits, boxes=boxes)).gt_index
        assert torch.equal(found[[0, 2]], plain[[0, 2]])
        assert ((found[1] >= BACKGROUND) & (found[1] < 3)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_other_types_equal_procedure_1(grid_anchors, dtype: torch.dtype) -> None:
    """They are read exactly and scored in float32 or wider."""
    anchors, targets = grid_anchors(32, (8, 16)), images((5, 2), 10, size=32)
    predictions = random_predictions(anchors, 2, torch.Generator().manual_seed(11))
    predictions = predictions._replace(logits=predictions.logits.to(dtype))
    found = PAA(focal_giou())(anchors, targets, predictions).gt_index
    for number, target in enumerate(targets):
        assert found[number].tolist() == procedure(anchors, target, image_of(predictions, number), paa(9, "c"))


def test_autocast_changes_nothing(grid_anchors) -> None:
    anchors, targets = grid_anchors(64, LEVELS), images((4, 3), 12)
    predictions = random_predictions(anchors, 2, torch.Generator().manual_seed(13))
    plain = PAA(focal_giou())(anchors, targets, predictions).gt_index
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(PAA(focal_giou())(anchors, targets, predictions).gt_index, plain)


def test_no_gradient_flows_and_nothing_is_written_into_the_predictions(grid_anchors) -> None:
    anchors, targets = grid_anchors(32, (8, 16)), images((3,), 14, size=32)
    predictions = random_predictions(anchors, 1, torch.Generator().manual_seed(15))
    before = Predictions(*(None if f is None else f.clone() for f in predictions))  # type: ignore[arg-type]
    live = Predictions(*(None if f is None else f.requires_grad_() for f in predictions))  # type: ignore[arg-type]
    seen = []

    def cost(matched) -> torch.Tensor:
        seen.append(focal_giou()(matched))
        return seen[-1] + 0 * matched.boxes.sum()

    found = PAA(cost)(anchors, targets, live).gt_index
    assert not found.requires_grad
    assert len(seen) == 1
    assert not seen[0].requires_grad
    for field, old in zip(live, before, strict=True):
        if field is None:
            assert old is None
            continue
        assert field.grad is None
        assert torch.equal(field.detach(), old)


def test_huge_k_takes_all_candidates(grid_anchors) -> None:
    anchors, targets = grid_anchors(32, (8, 16)), images((3,), 16, size=32)
    predictions = random_predictions(anchors, 1, torch.Generator().manual_seed(17))
    most, all_of_them = (PAA(focal_giou(), topk)(anchors, targets, predictions).gt_index for topk in (16, 10**12))
    assert torch.equal(most, all_of_them)


def test_is_an_assigner_that_needs_predictions(grid_anchors) -> None:
    assigner = PAA(focal_giou())
    assert isinstance(assigner, Assigner)
    with pytest.raises(ValueError, match="Expected predictions for PAA"):
        assigner(grid_anchors(), images((1,), 0))


@pytest.mark.parametrize(
    "arguments", [{"topk": 0}, {"scheme": "e"}, {"min_iou": -0.1}, {"min_iou": 1.1}, {"ignore_ioa": 0.0}]
)
def test_refuses_impossible_arguments(arguments: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        PAA(focal_giou(), **arguments)
