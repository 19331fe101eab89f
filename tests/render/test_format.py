"""Durations, numbers, times and counts as text, and escapes."""

from __future__ import annotations

import math

import pytest

from rimp_otel.render.format import (
    escape_text,
    format_bytes,
    format_count,
    format_duration,
    format_number,
    format_time,
    format_utc,
)
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, T0


def test_hostile_text_is_escaped() -> None:
    """Control characters become escapes; other text, backslashes too, stays unchanged."""
    assert escape_text(HOSTILE) == HOSTILE_SHOWN
    assert escape_text("C:\\temp 日本語") == "C:\\temp 日本語"


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1 µs"),
        (12_340, "12.3 µs"),
        (999_499, "999 µs"),
        (999_500, "1 ms"),
        (231_000_000, "231 ms"),
        (1_500_000_000, "1.5 s"),
        (59_949_000_000, "59.9 s"),
        (59_990_000_000, "1 m 0 s"),
        (247_000_000_000, "4 m 7 s"),
        (7_500_000_000_000, "2 h 5 m"),
        (-10_000_000, "-10 ms"),
    ],
)
def test_durations(nanos: int, text: str) -> None:
    """Durations have three significant digits, in the unit that fits."""
    assert format_duration(nanos) == text


def test_times() -> None:
    """Local time is exact to the millisecond, UTC to the nanosecond; bounds and 0 do not fail."""
    assert format_time(T0 + 1_500_000) == "2026-11-18 11:06:40.001"
    assert format_time(0) == "-"
    assert format_time(2**64) == "2554-07-21 23:34:33.709"
    assert format_time(10**30) == "9999-12-31 23:59:59.999"
    assert format_utc(T0 + 1) == "2026-11-18T11:06:40.000000001Z"
    assert format_utc(0) is None


def test_numbers_and_sizes() -> None:
    """Integers are unchanged, floats have six digits, sizes are in multiples of 1,000."""
    assert [format_number(n) for n in (3, 10**20, 0.1 + 0.2, math.inf)] == [
        "3",
        "100000000000000000000",
        "0.3",
        "inf",
    ]
    assert [format_bytes(n) for n in (0, 999, 1_000, 2_949_000, 10**10)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.9 MB",
        "10.0 GB",
    ]
    assert [format_count(n, "span") for n in (0, 1, 1_204)] == ["0 spans", "1 span", "1,204 spans"]
