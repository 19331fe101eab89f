"""Times and time ranges as people type them."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.times import Window, find_duration, from_unix_nano, to_unix_nano

__all__ = ["parse_time", "parse_window"]

_TIME_FORMS = (
    "an age (90s, 15m, 2h, 3d), now, today, yesterday, '14:00', 'yesterday 14:00', "
    "ISO 8601 (2026-11-23T12:00:00Z) or seconds since the epoch"
)

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6}))?)?", re.ASCII)
_DAYS_AGO = {"today": 0, "yesterday": 1}


def parse_time(text: str, now: int) -> int:
    """Return a point in time in nanoseconds since the epoch.

    Args:
        text: an age (``90s``, ``15m ago``), ``now``, ``today``, ``yesterday``, a time of day
            (``14:00``, ``yesterday 9:30``), ISO 8601, or seconds since the epoch. Without a time
            zone, times are local. A time of day is of the day of ``now``, even if still to come.
        now: nanoseconds since the epoch.

    Raises:
        ConfigurationError: the text is none of these.
    """
    words = text.strip()
    if words.lower() == "now":
        return now
    age = find_duration(words.lower().removesuffix("ago"))
    if age is not None:
        return now - age
    local = _parse_day_and_clock(words.lower(), from_unix_nano(now).astimezone().date())
    try:
        return to_unix_nano(local or _float_or_text(words))
    except ConfigurationError:
        raise ConfigurationError(f"invalid time {text!r}: expected {_TIME_FORMS}") from None


def parse_window(text: str, now: int) -> Window:
    """Return the time range ``START..END``; either end may be missing, as in ``1h..``.

    Args:
        text: two points in time as `parse_time` accepts them.
        now: nanoseconds since the epoch.

    Raises:
        ConfigurationError: the text is no time range, or one that ends before it starts.
    """
    first, dots, last = text.partition("..")
    if not dots or not (first.strip() or last.strip()):
        raise ConfigurationError(
            f"invalid time range {text!r}: expected START..END, such as 2h..1h or 1h..now, "
            f"each end {_TIME_FORMS}"
        )
    start = parse_time(first, now) if first.strip() else None
    end = parse_time(last, now) if last.strip() else None
    if start is not None and end is not None and start >= end:
        raise ConfigurationError(f"invalid time range {text!r}: the end is not after the start")
    return Window(start, end)


def _parse_day_and_clock(text: str, today: date) -> datetime | None:
    """Return the local time of ``today``, ``yesterday 14:00`` or ``9:30``; None of other texts."""
    first, _, rest = text.partition(" ")
    if first in _DAYS_AGO:
        clock = _parse_clock(rest.strip()) if rest.strip() else time()
    else:
        first, clock = "today", _parse_clock(text)
    if clock is None:
        return None
    return datetime.combine(today - timedelta(days=_DAYS_AGO[first]), clock)


def _parse_clock(text: str) -> time | None:
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour, minute, second = (int(group or 0) for group in found.groups()[:3])
    try:
        return time(hour, minute, second, int((found[4] or "").ljust(6, "0")))
    except ValueError:
        return None


def _float_or_text(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
