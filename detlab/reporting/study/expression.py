"""What a side of a claim says, as numbers times rows: values over seeds, and an interval for the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detlab.reporting.study.statistics import bootstrap_interval

IntervalOfMean = Callable[[NDArray[np.float64]], "tuple[float, float] | None"]  # of differences [seeds]


@dataclass(frozen=True)
class Measure:
    """One metric of one row."""

    row: str
    metric: str


@dataclass(frozen=True)
class Absolute:
    """abs(…) of an expression."""

    inner: Expression


@dataclass(frozen=True)
class Expression:
    """constant + the sum of terms, each a number times a row's metric or times an abs(…)."""

    constant: float = 0.0
    terms: Mapping[Measure | Absolute, float] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.constant, frozenset(self.terms.items())))

    def __add__(self, other: Expression) -> Expression:
        terms = dict(self.terms)
        for term, number in other.terms.items():
            terms[term] = terms.get(term, 0.0) + number
        return Expression(self.constant + other.constant, terms)

    def __sub__(self, other: Expression) -> Expression:
        return self + other.times(-1.0)

    def times(self, number: float) -> Expression:
        return Expression(self.constant * number, {term: factor * number for term, factor in self.terms.items()})

    def measures(self) -> Iterator[Measure]:
        """Every row and metric in it, in order, repetitions included."""
        for term in self.terms:
            if isinstance(term, Measure):
                yield term
            else:
                yield from term.inner.measures()

    def mean(self, values: Mapping[Measure, NDArray[np.float64]]) -> float:
        """The expression of the means over seeds; values: float ``[seeds]`` each."""
        return self.constant + sum(
            number * (float(values[term].mean()) if isinstance(term, Measure) else abs(term.inner.mean(values)))
            for term, number in self.terms.items()
        )

    def interval(
        self, values: Mapping[Measure, NDArray[np.float64]], of: IntervalOfMean = bootstrap_interval
    ) -> tuple[float, float] | None:
        """Interval of `mean` over the seeds, paired between rows; None for fewer than two seeds. of: how it is made.

        The part without abs(…) is linear, so that its interval is that of the mean of one difference per seed.
        abs(…) takes the interval of what is inside, zero included where that spans zero: between the few resamples
        of three seeds there are gaps, and |mean| must not seem far from zero because no resample fell near it.
        Where both occur, the ends add up, which makes the interval of the sum too wide rather than too narrow.
        """
        per_seed = self.constant + sum(
            (number * values[term] for term, number in self.terms.items() if isinstance(term, Measure)),
            start=np.zeros(len(next(iter(values.values())))),
        )
        ends = of(per_seed)
        for term, number in self.terms.items():
            if ends is None:
                return None
            if isinstance(term, Absolute):
                ends = _add(ends, _times(number, _absolute(term.inner.interval(values, of))))
        return ends


def _map_ends(function: Callable[[float], float], ends: tuple[float, float]) -> tuple[float, float]:
    one, other = map(function, ends)
    return min(one, other), max(one, other)


def _absolute(ends: tuple[float, float] | None) -> tuple[float, float]:
    assert ends is not None
    low, high = _map_ends(abs, ends)
    return (0.0 if ends[0] < 0 < ends[1] else low), high


def _times(number: float, ends: tuple[float, float]) -> tuple[float, float]:
    return _map_ends(lambda end: number * end, ends)


def _add(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return one[0] + other[0], one[1] + other[1]
