"""The sources of choices for the builders of records, and the values that records share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, TypeVar

from opentelemetry.attributes import BoundedAttributes

__all__ = [
    "EXTENDED",
    "RandomSource",
    "Source",
    "boolean",
    "happens",
    "key",
    "number",
    "raw_attributes",
    "real",
    "schema_url",
    "some",
    "tally",
    "time",
    "value",
]

EXTENDED = "map" in BoundedAttributes(attributes={"map": {"in": None}})
"""Whether all attributes may be of any OTLP type; at the SDK's floor, only those of logs may."""

T = TypeVar("T")


class Source(Protocol):
    """A source of choices."""

    def integer(self, low: int, high: int) -> int:
        """An integer of the range, both ends included."""

    def choose(self, options: Sequence[T]) -> T:
        """One of them."""

    def text(self) -> str:
        """Any text, but for lone surrogates."""

    def real(self) -> float:
        """Any double; there is one NaN only, since JSON has no more."""

    def binary(self) -> bytes:
        """Any bytes."""


_CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789._-/: "
    "\"\\{}[],=<>&%$`'\t\n\r\0\1\x1b\x7f\x80\x85\xa0äßéñ"
    "\u2028\u2029\ufeff\ufffd\uffff\ud7ff\ue000漢字\U0001f600\U00010000\U0010ffff"
)
_EDGES = [0, 1, -1, 255, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
_REALS = [0.0, -0.0, 1.0, 1e16, 1e22, 1e-7, 0.1, 5e-324, 1.7976931348623157e308]
_NOT_FINITE = [math.nan, math.inf, -math.inf]


class RandomSource:
    """The choices of a pseudo-random generator: fast, and repeatable by its seed."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.choose: Callable[[Sequence[Any]], Any] = random.choice

    def integer(self, low: int, high: int) -> int:
        """Edges more often than chance would have them."""
        if high - low < 256:
            return low + int(self._random.random() * (high - low + 1))
        if self._random.random() < 0.3:
            edge = self._random.choice(_EDGES)
            return edge if low <= edge <= high else self._random.choice((low, high))
        return self._random.randint(low, high)

    def text(self) -> str:
        """Mostly short."""
        size = self._random.choice((0, 1, 2, 3, 5, 8, 13, 30))
        return "".join(self._random.choices(_CHARACTERS, k=size))

    def real(self) -> float:
        """Edges, numbers of any size, and what is no number."""
        kind = self._random.random()
        if kind < 0.1:
            return self._random.choice(_NOT_FINITE)
        if kind < 0.3:
            return self._random.choice(_REALS)
        if kind < 0.6:
            return self._random.uniform(-1000, 1000)
        return math.ldexp(self._random.uniform(-1, 1), self._random.randint(-1073, 1023))

    def binary(self) -> bytes:
        """Mostly short."""
        return self._random.randbytes(self._random.choice((0, 1, 2, 3, 4, 16)))


def some(source: Source, make: Callable[[Source], T], most: int = 3) -> list[T]:
    """Return none to ``most`` of them, few more often than many."""
    return [make(source) for _ in range(source.integer(0, source.integer(0, most)))]


def happens(source: Source, one_in: int = 2) -> bool:
    """Return True now and then."""
    return source.integer(1, one_in) == 1


def value(source: Source, depth: int = 3) -> Any:
    """Return a value of any type that OTLP has."""
    kind = source.integer(0, 9 if depth else 6)
    if kind < 3:
        return source.text()
    if kind == 3:
        return source.integer(-(2**63), 2**63 - 1)
    if kind == 4:
        return source.real()
    if kind == 5:
        return source.choose((True, False, None))
    if kind == 6:
        return source.binary()
    items = some(source, lambda inner: value(inner, depth - 1))
    if kind == 7:
        return {key(source): item for item in items}
    return tuple(items) if kind == 8 else items


def _old_value(source: Source) -> Any:
    """Return a value of a type that attributes could hold before they could hold any."""
    make = source.choose((text, real, int64, boolean))
    return tuple(some(source, make)) if happens(source, 3) else make(source)


def text(source: Source) -> str:
    """Any text."""
    return source.text()


def real(source: Source) -> float:
    """Any double."""
    return source.real()


def int64(source: Source) -> int:
    """Return any integer that OTLP has."""
    return source.integer(-(2**63), 2**63 - 1)


def boolean(source: Source) -> bool:
    """Return True or False."""
    return source.choose((True, False))


def key(source: Source) -> str:
    """Return an attribute's name; the SDK wants it not to be empty."""
    return source.text() or "key"


def raw_attributes(source: Source) -> dict[str, Any]:
    """Return attributes as an application passes them."""
    make = value if EXTENDED else _old_value
    return {key(source): make(source) for _ in range(source.integer(0, 4))}


def time(source: Source) -> int:
    """Return a time of these years, or any that OTLP can hold."""
    if happens(source, 4):
        return source.choose((0, 1, 2**63 - 1, 2**64 - 1))
    return source.integer(1_500_000_000_000_000_000, 1_900_000_000_000_000_000)


def schema_url(source: Source) -> str | None:
    """Return a schema URL, an empty one, or None."""
    return source.choose((None, "", "https://opentelemetry.io/schemas/1.37.0"))


def number(source: Source) -> float | int:
    """Return a measured value."""
    return source.real() if happens(source) else source.integer(-(2**63), 2**63 - 1)


def tally(source: Source) -> int:
    """Return a count of measurements."""
    return source.integer(0, 2**64 - 1)
