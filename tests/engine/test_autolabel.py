"""Which classes `detlab label` labels."""

from __future__ import annotations

import pytest

from detlab.engine.autolabel import wanted_classes
from detlab.errors import UserError


def test_classes_are_those_named_or_those_that_the_run_had_labels_of() -> None:
    classes = ["cat", "dog", "cow"]
    assert wanted_classes(None, classes, ["cow", "cat"]) == ["cat", "cow"]
    assert wanted_classes(["dog"], classes, ["cow", "cat"]) == ["dog"]
    assert wanted_classes([], classes, ["cow"]) == []
    with pytest.raises(UserError, match="classes: the detector does not know 'dgo'"):
        wanted_classes(["dgo"], classes, classes)
