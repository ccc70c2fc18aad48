"""The count of the aLRP paper's Table 1, by rule, on configs written here."""

from __future__ import annotations

import pytest

from experiments.alrp.loss_parameters import FIXED, count, loss_parameters


def counted(loss):
    return [(parameter.key, parameter.value) for parameter in loss_parameters(loss) if parameter.counts]


TWO_TERMS = {
    "_target_": "x.Criterion",
    "classification": {"_target_": "x.Focal", "alpha": 0.25, "gamma": 2},
    "localization": {"_target_": "x.SmoothL1", "coder": "${detector.coder}", "beta": 0.11},
    "quality": None,
    "classification_weight": 1.0,
    "localization_weight": 2.0,
    "quality_weight": 1.0,
    "box_weighting": "none",
}


def test_numbers_count_but_one_weight_and_those_of_absent_terms():
    assert counted(TWO_TERMS) == [
        ("classification.alpha", 0.25),
        ("classification.gamma", 2),
        ("localization.beta", 0.11),
        ("localization_weight", 2.0),
    ]
    reasons = {parameter.key: parameter.reason for parameter in loss_parameters(TWO_TERMS)}
    assert reasons["classification_weight"] == "the unit of the other weights"
    assert reasons["quality_weight"] == "there is no such term"


def test_a_third_term_adds_its_weight_and_its_numbers():
    three = TWO_TERMS | {"quality": {"_target_": "x.Quality", "beta": 3}}
    assert set(counted(three)) - set(counted(TWO_TERMS)) == {("quality.beta", 3), ("quality_weight", 1.0)}


def test_the_unit_is_the_first_term_that_is_there():
    assert counted({"a": None, "b": {}, "c": {}, "a_weight": 1, "b_weight": 2, "c_weight": 3}) == [("c_weight", 3)]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({}, 0),
        ({"kind": "giou", "balance": True, "weight": None, "coder": "${detector.coder}"}, 0),
        ({"steps": [0.5, 0.7, True, {"deep": 1}]}, 3),
        ({"base": {"base": {"gamma": 0}}}, 1),
        ({"class_weight": 0.5}, 1),  # weighs no term that stands beside it: a number like others
        ({"term": 2.0, "term_weight": 1.0}, 1),
    ],
)
def test_what_is_no_number_does_not_count(loss, expected):
    assert count(loss) == expected


def test_what_a_definition_fixes_is_fixed_of_that_class_alone():
    (name, keys) = next(iter(FIXED.items()))
    numbers = dict.fromkeys(keys, 0.5)
    assert count({"_target_": name, **numbers, "delta": 1.0}) == 1
    assert count({"_target_": "x.Other", **numbers, "delta": 1.0}) == 1 + len(keys)
