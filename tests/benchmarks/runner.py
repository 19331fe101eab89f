"""Rounds in which all contenders of a case take turns, so that they meet the same noise."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.child import run_apart
from tests.benchmarks.model import Case, Contender, Figures, Row

_MODULES = {
    "prometheus-client": "prometheus_client",
    "opentelemetry-exporter-otlp-json-file": "opentelemetry.exporter.otlp.json.file",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry-instrumentation-logging": "opentelemetry.instrumentation.logging",
}


class Spread(NamedTuple):
    """Median and quartiles of a figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return median and quartiles."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


class Compared(NamedTuple):
    """A comparison with its figures."""

    row: Row
    ours: Spread
    peer: Spread | None
    #: Of each round: ours over the peer's; of an absolute row: ours.
    ratio: Spread

    @property
    def reached(self) -> bool | None:
        """Return True if the target is reached; None if there is none."""
        row, ratio = self.row, self.ratio.median
        if row.limit is None:
            return None
        return ratio >= row.limit if row.at_least else ratio <= row.limit


class Result(NamedTuple):
    """The result of a case."""

    case: Case
    records: int
    #: By contender: what each round gave.
    figures: dict[str, list[Figures]]
    rows: list[Compared]


def is_installed(distribution: str) -> bool:
    """Return True if a distribution is installed."""
    try:
        return importlib.util.find_spec(_MODULES.get(distribution, distribution)) is not None
    except ModuleNotFoundError:
        return False


def missing_packages(case: Case) -> set[str]:
    """Return the packages that the case's contenders need and that are not installed."""
    needed = {name for contender in case.contenders for name in contender.needs}
    return {name for name in needed if not is_installed(name)}


def run_case(
    case: Case,
    records: int,
    rounds: int,
    cache: Path,
    say: Callable[[str], Any] = lambda text: None,
) -> Result:
    """Measure a case with the contenders that are installed."""
    absent = missing_packages(case)
    present = [c for c in case.contenders if not absent.intersection(c.needs)]
    figures: dict[str, list[Figures]] = {contender.name: [] for contender in present}
    rounds = min(rounds, case.most_rounds or rounds)
    for number in range(rounds):
        for contender in _turned(present, number):
            say(f"case {case.number}, round {number + 1} of {rounds}: {contender.name}")
            figures[contender.name].append(run_apart(contender, records, cache))
    return Result(case, records, figures, compare(case.rows, figures))


def _turned(contenders: list[Contender], number: int) -> list[Contender]:
    """Return the contenders in another order for each round."""
    first = number % len(contenders)
    return contenders[first:] + contenders[:first]


def compare(rows: tuple[Row, ...], figures: dict[str, list[Figures]]) -> list[Compared]:
    """Return the comparisons whose contenders took part."""
    return [
        _compared(row, figures)
        for row in rows
        if row.ours in figures and (row.absolute or row.peer in figures)
    ]


def _compared(row: Row, figures: dict[str, list[Figures]]) -> Compared:
    ours = _values(row, row.ours, figures)
    peers = _values(row, row.peer, figures) if row.peer in figures else None
    ratios = ours
    if not row.absolute and peers:
        ratios = [
            own / other if other else math.inf for own, other in zip(ours, peers, strict=True)
        ]
    return Compared(row, Spread.of(ours), Spread.of(peers) if peers else None, Spread.of(ratios))


def _values(row: Row, name: str | None, figures: dict[str, list[Figures]]) -> list[float]:
    values = [given[row.quantity] for given in figures[name or ""]]
    if row.minus is None:
        return values
    common = [given[row.quantity] for given in figures[row.minus]]
    return [value - less for value, less in zip(values, common, strict=True)]
