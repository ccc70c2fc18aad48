import numpy as np
import pytest

from detlab.errors import UserError
from detlab.reporting.study.expression import Measure
from detlab.reporting.study.grammar import parse_claim

ROWS = ["a", "b", "c"]
HOW = "write it as 'METRIC: row > other_row'"
SIGNS = "compare with > >= < <= (for 'about the same' write abs(row - other_row) <= 0.5)"
HOLDS = "it may hold row names, numbers, + - * /, abs(...) and METRIC(row)"


def margin(text, **values):
    """The margin of a claim of one comparison; values: of a, b, c in AP, of a75, b75, c75 in AP75."""
    (part,) = parse_claim(text, ROWS).parts
    given = {Measure(name[0], "AP75" if name.endswith("75") else "AP"): np.array([v]) for name, v in values.items()}
    return part.margin.mean(given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AP: a > b", 50 - 40),
        ("AP: a < b", 40 - 50),
        ("AP: a >= b", 10),
        ("AP: a - b >= 2.5", 7.5),
        ("AP: 2.5 <= a - b", 7.5),
        ("AP: a > 1.1 * b", 6),
        ("AP: a > b * 1.1", 6),
        ("AP: (a + b) / 2 > c", 25),
        ("AP: a - (b - c) > 0", 30),
        ("AP: -a + b < +1", 11),
        ("AP: a - b > 0.5 * (b - c)", 0),
        ("AP: a - b - c < 2 * 3 / 4", 11.5),
        ("AP: abs(b - a) <= 10.5", 0.5),
        ("AP: 2 * abs(b - a) - abs(c) > abs(-1)", -1),
        ("AP: abs(abs(b - a) - 20) > 0", 10),
        ("AP: AP75(a) > b", -10),
        ("AP75: AP(a) - a > 5", 15),
        ("AP75(a) - AP75(b) > AP(a) - AP(b)", 2),
        ("  AP :\n a\n > b ", 10),
    ],
)
def test_margins_by_hand(text, expected):
    assert margin(text, a=50.0, b=40.0, c=20.0, a75=30.0, b75=18.0) == pytest.approx(expected)


def test_a_chain_has_a_comparison_per_neighbouring_pair():
    claim = parse_claim("AP: a < b <= c + 1", ROWS)
    assert [(part.text, part.rows, part.strict) for part in claim.parts] == [
        ("AP: a < b", ("a", "b"), True),
        ("AP: b <= c + 1", ("b", "c"), False),
    ]
    assert claim.rows == ("a", "b", "c")
    assert claim.text == "AP: a < b <= c + 1"


def test_rows_are_named_once_and_in_order():
    assert parse_claim("AP: c - abs(a - c) > AP75(a)", ROWS).rows == ("c", "a")


def test_a_training_may_be_said_to_fail():
    claim = parse_claim("fails:  a", ROWS)
    assert (claim.text, claim.failing, claim.rows, claim.parts) == ("fails: a", "a", ("a",), ())


def test_one_class_stands_in_front():
    (part,) = parse_claim("AP/traffic light: red: a > b", ROWS).parts
    assert set(part.margin.measures()) == {Measure("a", "AP/traffic light: red"), Measure("b", "AP/traffic light: red")}


def test_a_row_may_be_called_like_a_function():
    assert parse_claim("AP: abs > abs(AP)", ["abs", "AP"]).rows == ("abs", "AP")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"claim '': {HOW}."),
        ("AP:", f"claim 'AP:': {HOW}."),
        (": a > b", f"claim ': a > b': {HOW}."),
        ("a > b", "claim 'a > b': of which metric is 'a'; begin with 'AP:', or write AP(a)."),
        ("AP75(a) > b", "claim 'AP75(a) > b': of which metric is 'b'; begin with 'AP:', or write AP(b)."),
        ("AP: a", "claim 'AP: a': it compares nothing; write one of > >= < <= between two sides."),
        ("AP: a > b or c", "claim 'AP: a > b or c': it compares nothing; write one of > >= < <= between two sides."),
        ("AP: a = b", f"claim 'AP: a = b': it cannot be read from '= b' on; {HOW}."),
        ("AP: a ≥ b", f"claim 'AP: a ≥ b': it cannot be read from '≥ b' on; {HOW}."),
        ("AP: (a > b", f"claim 'AP: (a > b': it cannot be read; {HOW}."),
        ("AP: a >", f"claim 'AP: a >': it cannot be read; {HOW}."),
        ("AP: a > \0", f"claim 'AP: a > \0': it cannot be read; {HOW}."),
        ("AP: a == b", f"claim 'AP: a == b': {SIGNS}."),
        ("AP: a in b", f"claim 'AP: a in b': {SIGNS}."),
        ("AP: a > d", "claim 'AP: a > d': there is no row 'd' (valid: a, b, c)."),
        ("AP/car(a) > 1", "claim 'AP/car(a) > 1': there is no row 'AP' (valid: a, b, c)."),
        ("ap50: a > b", "claim 'ap50: a > b': there is no metric 'ap50' (did you mean 'AP50'?)."),
        ("AP: a > Ap75(b)", "claim 'AP: a > Ap75(b)': there is no metric 'Ap75' (did you mean 'AP75'?)."),
        ("AP: a * b > 1", "claim 'AP: a * b > 1': it multiplies rows by rows; * and / go by numbers."),
        ("AP: a / b > 1", "claim 'AP: a / b > 1': it divides by a row; instead of a / b > 1.1 write a > 1.1 * b."),
        ("fails: z", "claim 'fails: z': there is no row 'z' (valid: a, b, c); write 'fails: row'."),
        ("fails: a > b", "claim 'fails: a > b': there is no row 'a > b' (valid: a, b, c); write 'fails: row'."),
        ("AP: a / (1 - 1) > b", "claim 'AP: a / (1 - 1) > b': it divides by zero."),
        ("AP: 2 > 1", "claim 'AP: 2 > 1': '2 > 1' does not depend on any row."),
        ("AP: a - b > a - b", "claim 'AP: a - b > a - b': 'a - b > a - b' does not depend on any row."),
        ("AP: a > b > 1 > 0", "claim 'AP: a > b > 1 > 0': '1 > 0' does not depend on any row."),
        ("AP: a > True", f"claim 'AP: a > True': 'True' is not understood; {HOLDS}."),
        ("AP: a > 1e999", f"claim 'AP: a > 1e999': '1e999' is not understood; {HOLDS}."),
        ("AP: a > 1j", f"claim 'AP: a > 1j': '1j' is not understood; {HOLDS}."),
        ("AP: a > '1'", f"claim 'AP: a > '1'': ''1'' is not understood; {HOLDS}."),
        ("AP: a ** 2 > b", f"claim 'AP: a ** 2 > b': 'a ** 2' is not understood; {HOLDS}."),
        ("AP: not a > b", "claim 'AP: not a > b': it compares nothing; write one of > >= < <= between two sides."),
        ("AP: (a > b) > c", f"claim 'AP: (a > b) > c': 'a > b' is not understood; {HOLDS}."),
        ("AP: max(a, b) > c", f"claim 'AP: max(a, b) > c': 'max(a, b)' is not understood; {HOLDS}."),
        ("AP: abs(a, b) > c", f"claim 'AP: abs(a, b) > c': 'abs(a, b)' is not understood; {HOLDS}."),
        ("AP: AP75(a - b) > c", f"claim 'AP: AP75(a - b) > c': 'AP75(a - b)' is not understood; {HOLDS}."),
        ("AP: a.real > c", f"claim 'AP: a.real > c': 'a.real' is not understood; {HOLDS}."),
        ("AP: [a][0] > c", f"claim 'AP: [a][0] > c': '[a][0]' is not understood; {HOLDS}."),
        (
            "AP: __import__('os').getcwd() > 1",
            f"claim 'AP: __import__('os').getcwd() > 1': '__import__('os').getcwd()' is not understood; {HOLDS}.",
        ),
    ],
)  # fmt: skip
def test_what_is_no_claim_is_answered_in_a_sentence(text, message):
    with pytest.raises(UserError) as error:
        parse_claim(text, ROWS)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("(" * 240 + "a" + ")" * 240 + " > 1", "it cannot be read"),
        ("a > " + "1 + " * 400, "longer than 500 characters"),
    ],
)
def test_deep_or_long_claims_are_answered_too(expression, message):
    with pytest.raises(UserError, match=message):
        parse_claim(f"AP: {expression}", ROWS)
    assert margin("AP: " + "-" * 480 + "a > b", a=50.0, b=40.0) == 10
