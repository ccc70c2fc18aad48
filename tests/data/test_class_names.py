import pytest

from detlab.data.class_names import likely_same, near_misses
from detlab.data.index import AnnotationIndex


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("aeroplane", "airplane"), ("motorbike", "motorcycle"), ("tvmonitor", "tv"), ("tv monitor", "tvmonitor"),
        ("sofa", "couch"), ("Potted_Plant", "pottedplant"), ("dining-table", "diningtable"), ("cat", "Cats"),
        ("bus", "buses"), ("box", "boxes"), ("horse", "horses"), ("berry", "berries"), ("Platelet", "Platelets"),
        ("person", "pedestrian"), ("scooter", "skooter"), ("traffic light", "traffic lights"),
    ],
)  # fmt: skip
def test_what_is_likely_the_same(one: str, other: str) -> None:
    assert likely_same(one, other)
    assert likely_same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "bat"), ("cat", "car"), ("star5", "star6"), ("class 1", "class 11"), ("WBC", "RBC"), ("cow", "crow"),
        ("truck", "track"), ("mouse", "house"), ("motorbike", "bicycle"), ("s", "ss"), ("bus", "car"),
    ],
)  # fmt: skip
def test_what_is_likely_not(one: str, other: str) -> None:
    assert not likely_same(one, other)
    assert not likely_same(other, one)


def test_only_names_that_no_source_tells_apart_are_near_misses() -> None:
    names = ["airplane", "cat", "aeroplane", "cats"]
    annotated = [[True, True, False, True], [False, False, True, False]]
    index = AnnotationIndex.build(
        names, paths=[], widths=[], heights=[], box_images=[], boxes=[], labels=[], source_names=["a", "b"],
        annotated=annotated,
    )  # fmt: skip
    assert list(near_misses(index)) == [(0, 2)]
