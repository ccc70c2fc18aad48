"""The language of claims, read with Python's own parser and walked node by node: nothing is ever evaluated."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from detlab.errors import UserError, nearest
from detlab.reporting.study.expression import Absolute, Expression, Measure
from detlab.reporting.study.metric_names import check_metric

LONGEST = 500  # characters; more is no claim, and deep nesting could overflow Python's parser

FAILS = "fails"

_FORM = "write it as 'METRIC: row > other_row'"
_COMPARISONS: dict[type[ast.cmpop], str] = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<="}


@dataclass(frozen=True)
class Part:
    """One comparison: `margin` is positive where it holds, and may be zero unless `strict`; `measures` is what it is
    about, in the order of the text."""

    text: str
    margin: Expression
    strict: bool
    measures: tuple[Measure, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(measure.row for measure in self.measures))


@dataclass(frozen=True)
class Claim:
    """A claim and its comparisons: one, or in a chain ``a < b < c`` one per neighbouring pair. `failing`: the row whose
    training is said to fail, in place of comparisons."""

    text: str
    parts: tuple[Part, ...]
    failing: str = ""

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of the rows it speaks of, in order."""
        named = (self.failing,) if self.failing else ()
        return tuple(dict.fromkeys([*named, *(row for part in self.parts for row in part.rows)]))


def parse_claim(text: str, rows: Collection[str]) -> Claim:
    """``METRIC: expression`` → Claim. rows: the names that it may use.

    An expression compares with ``> >= < <=``, chains included; its sides are row names, numbers in points, ``+``
    and ``-``, ``*`` and ``/`` by numbers, brackets, ``abs(…)``, and ``AP75(row)`` for a row under another metric
    than the one in front. Without ``METRIC:`` every row must be written so; the metric of one class
    (``AP/car: a > b``) can only stand in front. ``fails: row`` claims that the training of a row fails.

    Raises UserError, quoting the claim, for anything else.
    """
    text = " ".join(str(text).split())
    metric, colon, expression = (part.strip() for part in text.rpartition(":"))
    reader = _Reader(text, expression, metric, rows)
    if not expression or (colon and not metric):
        raise reader.error(_FORM)
    if len(expression) > LONGEST:
        raise reader.error(f"it is longer than {LONGEST} characters; make it several claims")
    if metric == FAILS:
        if expression not in rows:
            raise reader.error(f"there is no row '{expression}'{nearest(expression, rows)}; write 'fails: row'")
        return Claim(text, (), failing=expression)
    if metric:
        check_metric(metric, f"claim '{text}'")
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        start = (getattr(error, "offset", None) or 1) - 1
        where = f" from '{expression[start:]}' on" if 0 < start < len(expression) else ""
        raise reader.error(f"it cannot be read{where}; {_FORM}") from None
    if not isinstance(tree, ast.Compare):
        raise reader.error("it compares nothing; write one of > >= < <= between two sides")
    return Claim(text, tuple(reader.parts(tree)))


class _Reader:
    """Turns the nodes of one claim into expressions."""

    def __init__(self, text: str, source: str, metric: str, rows: Collection[str]) -> None:
        self.text, self.source, self.metric, self.names = text, source, metric, rows

    def error(self, message: str) -> UserError:
        return UserError(f"claim '{self.text}': {message}.")

    def parts(self, tree: ast.Compare) -> Sequence[Part]:
        nodes = [tree.left, *tree.comparators]
        sides = [self.side(node) for node in nodes]
        return [self.part(nodes[i : i + 2], sides[i : i + 2], op) for i, op in enumerate(tree.ops)]

    def part(self, nodes: list[ast.expr], sides: list[Expression], op: ast.cmpop) -> Part:
        sign = _COMPARISONS.get(type(op))
        if sign is None:
            raise self.error("compare with > >= < <= (for 'about the same' write abs(row - other_row) <= 0.5)")
        left, right = sides
        margin = left - right if sign.startswith(">") else right - left
        written = f"{self.written(nodes[0])} {sign} {self.written(nodes[1])}"
        if not any(margin.terms.values()):
            raise self.error(f"'{written}' does not depend on any row")
        measures = tuple(dict.fromkeys([*left.measures(), *right.measures()]))
        return Part(f"{self.metric}: {written}" if self.metric else written, margin, len(sign) == 1, measures)

    def written(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.source, node) or ast.unparse(node)

    def side(self, node: ast.expr) -> Expression:
        match node:
            case ast.Name(id=name):
                if not self.metric and name in self.names:
                    raise self.error(f"of which metric is '{name}'; begin with 'AP:', or write AP({name})")
                return self.row(name, self.metric)
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float() as number) if math.isfinite(number):
                return Expression(float(number))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.side(operand).times(-1.0)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.side(operand)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.side(left) + self.side(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self.side(left) - self.side(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self.product(self.side(left), self.side(right))
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return self.quotient(self.side(left), self.side(right))
            case ast.Call(func=ast.Name(id="abs"), args=[inner], keywords=[]):
                return self.absolute(self.side(inner))
            case ast.Call(func=ast.Name(id=metric), args=[ast.Name(id=name)], keywords=[]):
                return self.row(name, check_metric(metric, f"claim '{self.text}'"))
        raise self.error(
            f"'{self.written(node)}' is not understood; it may hold row names, numbers, + - * /, abs(...) and "
            "METRIC(row)"
        )

    def row(self, name: str, metric: str) -> Expression:
        if name not in self.names:
            raise self.error(f"there is no row '{name}'{nearest(name, self.names)}")
        return Expression(terms={Measure(name, metric): 1.0})

    def product(self, left: Expression, right: Expression) -> Expression:
        if left.terms and right.terms:
            raise self.error("it multiplies rows by rows; * and / go by numbers")
        return left.times(right.constant) if left.terms else right.times(left.constant)

    def quotient(self, left: Expression, right: Expression) -> Expression:
        if right.terms:
            raise self.error("it divides by a row; instead of a / b > 1.1 write a > 1.1 * b")
        if right.constant == 0:
            raise self.error("it divides by zero")
        return left.times(1 / right.constant)

    def absolute(self, inner: Expression) -> Expression:
        return Expression(terms={Absolute(inner): 1.0}) if inner.terms else Expression(abs(inner.constant))
