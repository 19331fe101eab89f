"""Rollups: the numbers of many records by time and by what they belong to, in a bounded space.

A rollup has cells, each with a count, the failed ones and a histogram of durations: for each operation,
call between services and severity, and each step of time. The finest step is such that there are a few
hundred of them; coarser ones are sums. Besides, it has the attributes of the records with their most
frequent values.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rimp_otel.models.times import Window
from rimp_otel.viewer.rollups.terms import TermIndex

__all__ = [
    "KINDS",
    "OTHERS",
    "SEVERITY_NAMES",
    "STEPS",
    "AttributeCounts",
    "AttributeTable",
    "CallKey",
    "CallTable",
    "FailureKey",
    "Level",
    "LogKey",
    "OpenCall",
    "OperationKey",
    "Rollup",
    "RollupCell",
    "RollupFacts",
    "RollupKey",
    "coarsen_level",
]

_MILLISECOND = 10**6
_SECOND = 10**9
STEPS = (
    10 * _MILLISECOND,
    100 * _MILLISECOND,
    _SECOND,
    10 * _SECOND,
    60 * _SECOND,
    600 * _SECOND,
    3_600 * _SECOND,
    21_600 * _SECOND,
    86_400 * _SECOND,
)
"""The steps of levels, in nanoseconds: each is a multiple of the one before."""

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer", "unrecognized")
"""The names of OTLP's span kinds, by number."""

SEVERITY_NAMES = ("unspecified", "trace", "debug", "info", "warn", "error", "fatal")
"""The classes of OTLP's severity numbers."""


class OperationKey(NamedTuple):
    """The spans of one name and kind in one service."""

    service: str
    name: str
    #: One of ``KINDS``.
    kind: str
    #: True for those that a request began with: of kind server or consumer, and roots.
    is_request: bool


class CallKey(NamedTuple):
    """Calls from one service to another: spans whose parent is another service's."""

    caller: str
    called: str


class LogKey(NamedTuple):
    """The log records of one class of severity in one service."""

    service: str
    #: One of ``SEVERITY_NAMES``.
    severity: str


class FailureKey(NamedTuple):
    """Failed spans of one kind in one operation."""

    service: str
    name: str
    #: The type of the exception, or else the message of the status.
    text: str
    kind: str
    is_request: bool


RollupKey = OperationKey | CallKey | LogKey | FailureKey
OTHERS = "(others)"
"""The name of all operations beyond the number that is told apart."""


class RollupCell(NamedTuple):
    """The numbers of one key in one step of time."""

    records: int
    errors: int
    #: Of durations; see `rimp_otel.viewer.rollups.histogram`.
    histogram: int

    def plus(self, other: RollupCell) -> RollupCell:
        """Return the sum of two cells."""
        return RollupCell(
            self.records + other.records,
            self.errors + other.errors,
            self.histogram + other.histogram,
        )


Level = dict[int, dict[int, RollupCell]]
"""Cells by their time (the number of the step since the epoch) and by the number of their key."""


class AttributeCounts(NamedTuple):
    """How often a key stands in the records, and its most frequent values."""

    records: int
    values: Mapping[Any, int]


AttributeTable = dict[tuple[str, str, str], AttributeCounts]
"""By scope, key and type."""


class CallTable(NamedTuple):
    """What is left of calls whose two spans are not among the same records."""

    #: Hashes of trace and span of those of kind client and producer, in ascending order.
    callers: Sequence[int]
    #: The number of the service of each of them.
    numbers: Sequence[int]
    services: Sequence[str]
    open_calls: list[OpenCall]

    def find_callers(self, hashes: Collection[int]) -> Iterator[tuple[int, str]]:
        """Yield those of the hashes that are callers', each with the caller's service."""
        callers = self.callers
        if len(hashes) * 16 > len(callers):
            hashes = set(hashes) & set(callers)
        for hashed in hashes:
            at = bisect_left(callers, hashed)
            if at < len(callers) and callers[at] == hashed:
                yield hashed, self.services[self.numbers[at]]


class OpenCall(NamedTuple):
    """A span whose parent is not among the records."""

    #: A hash of its trace's id and its parent's.
    parent: int
    service: str
    start: int
    bin: int
    is_error: bool


def coarsen_level(level: Level, factor: int) -> Level:
    """Return a level of longer steps.

    Args:
        level: with the shorter steps.
        factor: how many of them are one.
    """
    made: Level = {}
    for bucket, cells in level.items():
        target = made.setdefault(bucket // factor, {})
        for number, cell in cells.items():
            known = target.get(number)
            target[number] = cell if known is None else known.plus(cell)
    return made


class Rollup:
    """The numbers of some records. Immutable, and safe to share between threads.

    Args:
        keys: what the cells belong to, by number.
        levels: cells by their step, from the finest on.
        attributes, calls: return those of the records.
        facts: about all of them.
        terms: finds blocks of a sealed file; None where that is not known.
    """

    def __init__(
        self,
        keys: list[RollupKey],
        levels: Mapping[int, Level],
        attributes: Callable[[], AttributeTable],
        calls: Callable[[], CallTable],
        facts: RollupFacts,
        terms: TermIndex | None = None,
    ) -> None:
        self.keys = keys
        self.levels = levels
        self.facts = facts
        self.terms = terms
        self._attributes = attributes
        self._calls = calls

    @property
    def attributes(self) -> AttributeTable:
        """The attributes of the records."""
        return self._attributes()

    @property
    def calls(self) -> CallTable:
        """The calls whose callers are not among the records, and who may have called others."""
        return self._calls()

    def step_for(self, step: int) -> int | None:
        """Return the longest step of a level that ``step`` is a multiple of; None if all are longer,
        or do not divide it."""
        return max((own for own in self.levels if step % own == 0), default=None)

    def cells(self, step: int, window: Window) -> Iterator[tuple[int, RollupKey, RollupCell]]:
        """Yield the cells of a window with the time at which each begins.

        Args:
            step: of a level.
            window: that begins and ends with a step.
        """
        level = self.levels[step]
        first, end = window.start // step, -(-window.end // step)  # type: ignore[operator]
        # Look at fewer: the buckets of the window, or of the level.
        if end - first < len(level):
            buckets: Iterable[int] = filter(level.__contains__, range(first, end))
        else:
            buckets = [bucket for bucket in level if first <= bucket < end]
        for bucket in buckets:
            for number, cell in level[bucket].items():
                yield bucket * step, self.keys[number], cell


class RollupFacts(NamedTuple):
    """What a rollup says of all its records together."""

    records: int = 0
    #: The times of the first and of the last one, in nanoseconds since the epoch; 0 without records.
    first: int = 0
    last: int = 0
    #: Spans that were open when their process died.
    interrupted: int = 0
    #: Lines that cannot be read.
    damaged: int = 0
