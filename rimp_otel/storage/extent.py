"""Which times the records of lines have, also of lines that are damaged."""

from __future__ import annotations

import re

from rimp_otel.storage.facts import LATEST, Facts, facts_of

__all__ = ["Extent", "times_in"]

# Quotes within a text are escaped, so that no text of a user's looks like this.
_TIMES = re.compile(rb'imeUnixNano"\s*:\s*"?([0-9]{1,20})')


class Extent:
    """A range of times that holds those of all records of the lines that were added."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0

    def add(self, line: bytes, facts: Facts | None = None) -> None:
        """Widens the range by a line's records. A damaged line may widen it too; that is harmless.

        Args:
            line: its text.
            facts: what it holds, where that was looked at before.
        """
        times = _times_in(line, facts_of(line) if facts is None else facts)
        if times is not None:
            self._first = times[0] if self._first is None else min(times[0], self._first)
            self._last = max(times[1], self._last)

    @property
    def first(self) -> int:
        """In nanoseconds since the epoch; 0 where there is no record."""
        return self._first or 0

    @property
    def last(self) -> int:
        """In nanoseconds since the epoch; 0 where there is no record."""
        return self._last


def times_in(line: bytes) -> tuple[int, int] | None:
    """The first and the last time of a line's records, as ``retrieve`` understands them, in
    nanoseconds; None where there is none.

    Of a line that is not OTLP JSON: of all that look like times.
    """
    return _times_in(line, facts_of(line))


def _times_in(line: bytes, facts: Facts) -> tuple[int, int] | None:
    if facts.is_known:
        return (facts.first, facts.last) if facts.first <= facts.last else None
    times = [min(int(text), LATEST) for text in _TIMES.findall(line)]
    return (min(times), max(times)) if times else None
