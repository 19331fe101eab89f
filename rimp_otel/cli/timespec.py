"""Points in time, windows and durations as people type them."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.times import from_unix_nano, to_unix_nano

__all__ = [
    "DURATION_FORMS",
    "MOMENT_FORMS",
    "Window",
    "parse_duration",
    "parse_moment",
    "parse_window",
]

MOMENT_FORMS = (
    "an age such as 90s, 15m, 2h or 3d, now, today, yesterday, '14:00', 'today 9:30', "
    "'yesterday 14:00', ISO 8601 such as 2026-11-23T12:00:00Z, or seconds since the epoch"
)
"""What `parse_moment` takes, for help and for messages. Without a time zone, time is local."""

DURATION_FORMS = "a duration such as 500us, 250ms, 1.5s, 5m, 2h or 1d"
"""What `parse_duration` takes."""

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3_600 * 10**9,
    "d": 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|min|s|m|h|d|w)\s*", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6}))?)?", re.ASCII)
_DAYS = {"today": 0, "yesterday": 1}


class Window(NamedTuple):
    """Nanoseconds since the epoch, ``start <= time < end``; None leaves that end open."""

    start: int | None = None
    end: int | None = None

    def holds(self, time_unix_nano: int) -> bool:
        """Whether the time lies in the window."""
        if self.start is not None and time_unix_nano < self.start:
            return False
        return self.end is None or time_unix_nano < self.end

    def widened(self, nanos: int) -> Window:
        """The window and as much around it."""
        start = None if self.start is None else self.start - nanos
        return Window(start, None if self.end is None else self.end + nanos)


def parse_moment(text: str, now: int) -> int:
    """The moment in nanoseconds since the epoch.

    Args:
        text: one of `MOMENT_FORMS`. ``14:00`` and ``today 14:00`` are of the day that ``now`` is
            in, also where that is still to come.
        now: nanoseconds since the epoch.

    Raises:
        ConfigurationError: it is none of these.
    """
    words = text.strip()
    if words.lower() == "now":
        return now
    age = _sum_of_parts(words.lower().removesuffix("ago"))
    if age is not None:
        return now - age
    local = _day_and_clock(words.lower(), from_unix_nano(now).astimezone().date())
    try:
        return to_unix_nano(local or _number(words))
    except ConfigurationError:
        raise ConfigurationError(f"{text!r} is not a point in time: give {MOMENT_FORMS}") from None


def parse_duration(text: str) -> int:
    """The duration in nanoseconds.

    Raises:
        ConfigurationError: it is none of `DURATION_FORMS`.
    """
    nanos = _sum_of_parts(text.strip().lower())
    if nanos is None:
        raise ConfigurationError(f"{text!r} is not a duration: give {DURATION_FORMS}")
    return nanos


def parse_window(text: str, now: int) -> Window:
    """The window ``A..B``, of which either may be missing: ``2h..1h``, ``1h..``, ``..now``.

    Raises:
        ConfigurationError: it is none, or ends before it starts.
    """
    first, dots, last = text.partition("..")
    if not dots or not (first.strip() or last.strip()):
        raise ConfigurationError(
            f"{text!r} is not a window: give two points in time as in 2h..1h or 1h..now, each {MOMENT_FORMS}"
        )
    start = parse_moment(first, now) if first.strip() else None
    end = parse_moment(last, now) if last.strip() else None
    if start is not None and end is not None and start >= end:
        raise ConfigurationError(f"{text!r} is not a window: it ends before it starts")
    return Window(start, end)


def _sum_of_parts(text: str) -> int | None:
    """Nanoseconds of ``1h30m`` and the like; None of anything else."""
    total, at = 0, 0
    while part := _PART.match(text, at):
        total += round(float(part[1]) * _UNITS[part[2]])
        at = part.end()
    return total if at and at == len(text) else None


def _day_and_clock(text: str, today: date) -> datetime | None:
    """Local time of ``today``, ``yesterday 14:00`` or ``9:30``; None of anything else."""
    first, _, rest = text.partition(" ")
    if first in _DAYS:
        clock = _clock(rest.strip()) if rest.strip() else time()
    else:
        first, clock = "today", _clock(text)
    if clock is None:
        return None
    return datetime.combine(today - timedelta(days=_DAYS[first]), clock)


def _clock(text: str) -> time | None:
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour, minute, second = (int(group or 0) for group in found.groups()[:3])
    try:
        return time(hour, minute, second, int((found[4] or "").ljust(6, "0")))
    except ValueError:
        return None


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
