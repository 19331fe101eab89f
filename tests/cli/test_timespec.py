"""Times, time ranges and durations, relative to a known time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rimp_otel.cli.timespec import parse_time, parse_window
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.times import Window

S = 10**9
NOW = 1_795_000_000 * S
"""2026-11-18T11:06:40Z."""
MIDNIGHT = 1_794_960_000 * S


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("90s", NOW - 90 * S),
        ("1.5m", NOW - 90 * S),
        ("15m ago", NOW - 900 * S),
        ("2h", NOW - 7_200 * S),
        ("1h30m", NOW - 5_400 * S),
        ("3d", NOW - 3 * 86_400 * S),
        ("1w", NOW - 7 * 86_400 * S),
        (" Today ", MIDNIGHT),
        ("today 9:30", MIDNIGHT + 34_200 * S),
        ("9:30", MIDNIGHT + 34_200 * S),
        ("14:00", MIDNIGHT + 50_400 * S),
        ("14:00:01.25", MIDNIGHT + 50_401 * S + S // 4),
        ("yesterday", MIDNIGHT - 86_400 * S),
        ("yesterday 14:00", MIDNIGHT - 36_000 * S),
        ("2026-11-18", MIDNIGHT),
        ("2026-11-18T11:06:40Z", NOW),
        ("2026-11-18T12:06:40+01:00", NOW),
        ("1795000000", NOW),
        ("60.5", 60_500_000_000),
    ],
)
def test_time(text: str, expected: int) -> None:
    """A time is an age, a day, a time of day, ISO 8601, or seconds since the epoch."""
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "nan", "inf", "5 weeks", "25:00", "today 9", "yesterday soon", "m", "1h?"]
)
def test_invalid_time(text: str) -> None:
    """The message names every form."""
    with pytest.raises(ConfigurationError) as raised:
        parse_time(text, NOW)
    assert str(raised.value) == (
        f"invalid time {text!r}: expected an age (90s, 15m, 2h, 3d), now, today, yesterday, "
        "'14:00', 'yesterday 14:00', ISO 8601 (2026-11-23T12:00:00Z) or seconds since the epoch"
    )


@pytest.fixture
def in_vienna() -> Iterator[None]:
    """Set a time zone whose summer time ended on 2026-10-25T01:00Z."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_vienna")
def test_days_are_local() -> None:
    """Yesterday at 14:00 is wall-clock time, also across a change to or from summer time."""
    sunday = 1_792_922_400 * S  # 2026-10-25T10:00Z, eleven o'clock
    assert parse_time("today", sunday) == (1_792_922_400 - 12 * 3_600) * S
    assert parse_time("yesterday 14:00", sunday) == (1_792_922_400 - 22 * 3_600) * S
    assert parse_time("1d", sunday) == (1_792_922_400 - 24 * 3_600) * S


def test_window() -> None:
    """Either end can be open, and the end itself is excluded."""
    assert parse_window("2h..1h", NOW) == (NOW - 7_200 * S, NOW - 3_600 * S)
    assert parse_window("1h..now", NOW) == (NOW - 3_600 * S, NOW)
    assert parse_window("1h..", NOW) == (NOW - 3_600 * S, None)
    assert parse_window(" ..today 9:30", NOW) == (None, MIDNIGHT + 34_200 * S)
    window = parse_window("2h..1h", NOW)
    assert window.contains(NOW - 7_200 * S)
    assert not window.contains(NOW - 3_600 * S)
    assert window.widened(5).contains(NOW - 3_600 * S)
    assert Window().widened(5).contains(0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2h", "^invalid time range '{}': expected START..END, such as 2h..1h"),
        ("..", "^invalid time range '{}': expected START..END, such as 2h..1h"),
        ("1h..2h", "^invalid time range '{}': the end is not after the start"),
        ("1h..soon", "^invalid time 'soon': expected an age"),
    ],
)
def test_invalid_window(text: str, why: str) -> None:
    """The message says what a time range looks like."""
    with pytest.raises(ConfigurationError, match=why.format(text)):
        parse_window(text, NOW)
