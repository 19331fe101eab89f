"""Points in time, windows and durations, with the clock given."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rimp_otel.cli.timespec import Window, parse_duration, parse_moment, parse_window
from rimp_otel.errors import ConfigurationError

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
def test_moment(text: str, expected: int) -> None:
    """Ages, days, clocks, ISO 8601, seconds."""
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "nan", "inf", "5 weeks", "25:00", "today 9", "yesterday soon", "m", "1h?"]
)
def test_no_moment(text: str) -> None:
    """The message names every form that is taken."""
    with pytest.raises(ConfigurationError) as raised:
        parse_moment(text, NOW)
    assert str(raised.value) == (
        f"{text!r} is not a point in time: give an age such as 90s, 15m, 2h or 3d, now, today, "
        "yesterday, '14:00', 'today 9:30', 'yesterday 14:00', ISO 8601 such as "
        "2026-11-23T12:00:00Z, or seconds since the epoch"
    )


@pytest.fixture
def in_vienna() -> Iterator[None]:
    """A zone that was at summer time until 2026-10-25T01:00Z."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_vienna")
def test_days_are_local() -> None:
    """Yesterday at 14:00 is by the clock, over a change of it too."""
    sunday = 1_792_922_400 * S  # 2026-10-25T10:00Z, eleven o'clock
    assert parse_moment("today", sunday) == (1_792_922_400 - 12 * 3_600) * S
    assert parse_moment("yesterday 14:00", sunday) == (1_792_922_400 - 22 * 3_600) * S
    assert parse_moment("1d", sunday) == (1_792_922_400 - 24 * 3_600) * S


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0s", 0),
        ("12ns", 12),
        ("500us", 500_000),
        ("500 µs", 500_000),
        ("250ms", 250_000_000),
        ("1.5s", 1_500_000_000),
        ("5m", 300 * S),
        ("2h", 7_200 * S),
        ("1d", 86_400 * S),
        ("1m 30s", 90 * S),
    ],
)
def test_duration(text: str, nanos: int) -> None:
    """In every unit, and in several."""
    assert parse_duration(text) == nanos


@pytest.mark.parametrize("text", ["", "5", "fast", "-1s", "1s-", "5 parsecs"])
def test_no_duration(text: str) -> None:
    """A number alone is none: nobody knows of what."""
    with pytest.raises(ConfigurationError, match="is not a duration: give a duration such as"):
        parse_duration(text)


def test_window() -> None:
    """Either end may be open; what ends is not in it."""
    assert parse_window("2h..1h", NOW) == (NOW - 7_200 * S, NOW - 3_600 * S)
    assert parse_window("1h..now", NOW) == (NOW - 3_600 * S, NOW)
    assert parse_window("1h..", NOW) == (NOW - 3_600 * S, None)
    assert parse_window(" ..today 9:30", NOW) == (None, MIDNIGHT + 34_200 * S)
    window = parse_window("2h..1h", NOW)
    assert window.holds(NOW - 7_200 * S)
    assert not window.holds(NOW - 3_600 * S)
    assert window.widened(5).holds(NOW - 3_600 * S)
    assert Window().widened(5).holds(0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2h", "is not a window: give two points in time as in 2h..1h"),
        ("..", "is not a window: give two points in time as in 2h..1h"),
        ("1h..2h", "is not a window: it ends before it starts"),
        ("1h..soon", "'soon' is not a point in time"),
    ],
)
def test_no_window(text: str, why: str) -> None:
    """The message says what one looks like."""
    with pytest.raises(ConfigurationError, match=why):
        parse_window(text, NOW)
