"""Summaries of traces, and the shortest unique prefixes of their ids."""

from __future__ import annotations

import sys

from rimp_otel.analysis.summaries import summarize, unique_digits
from tests.cli.records import MS, T0, TRACE, span


def test_summaries() -> None:
    """The root is the earliest span without a parent; unknown times are ignored."""
    (trace,) = summarize(
        [
            span("child", 2, 1, -5, 3),
            span("late root", 3, 0, 2, 4),
            span("root", 1, 0, 1, 9),
            span("unknown", 4, 1, None, None),
        ]
    )
    assert (trace.name, trace.spans) == ("root", 4)
    assert (trace.start, trace.end) == (T0 - 5 * MS, T0 + 9 * MS)


def test_unique_digits() -> None:
    """There are at least eight digits, and one more than the longest common prefix."""
    assert unique_digits([]) == 8
    assert unique_digits([TRACE]) == 8
    assert unique_digits([1 << 127, 1 << 126]) == 8
    assert unique_digits([0x111111112 << 92, 0x111111111 << 92]) == 9
    assert unique_digits([TRACE, TRACE + 1]) == 32
    assert sys.maxsize > unique_digits([TRACE, TRACE])
