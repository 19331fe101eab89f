"""Points in time and durations: the forms that callers may pass, and nanoseconds."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from typing import Any, NamedTuple

from rimp_otel.errors import ConfigurationError

__all__ = [
    "TimeLike",
    "Window",
    "find_duration",
    "from_unix_nano",
    "parse_duration",
    "to_unix_nano",
]

TimeLike = datetime | str | int | float
"""A ``datetime``, an ISO 8601 string, or seconds since the epoch. Without a time zone, a
``datetime`` or string means local time, as it does for ``datetime.timestamp``."""

_FRACTION = re.compile(r"(?<=:\d\d)[.,](\d+)")
# Of the year 9999. Milliseconds since the epoch are more, from 1978 on.
_MAX_SECONDS = 253_402_300_800
_UNITS_BELOW_SECONDS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_DURATION_FORMS = "a number with a unit, such as 500us, 250ms, 1.5s, 5m, 2h or 1d"

_NANOS = {
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
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|min|s|m|h|d|w)\s*", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Window(NamedTuple):
    """A range of times in nanoseconds since the epoch, ``start <= time < end``; None is open."""

    start: int | None = None
    end: int | None = None

    def contains(self, time_unix_nano: int) -> bool:
        """Return True if the time lies in the window."""
        if self.start is not None and time_unix_nano < self.start:
            return False
        return self.end is None or time_unix_nano < self.end

    def overlaps(self, first: int, last: int) -> bool:
        """Return True if a time from ``first`` to ``last``, both included, can lie in the window."""
        if self.start is not None and last < self.start:
            return False
        return self.end is None or first < self.end

    def widened(self, nanos: int) -> Window:
        """Return the window with as many nanoseconds more at each end."""
        start = None if self.start is None else self.start - nanos
        return Window(start, None if self.end is None else self.end + nanos)


def parse_duration(text: str) -> int:
    """Return a duration such as ``250ms`` or ``1m 30s`` in nanoseconds.

    Raises:
        ConfigurationError: a unit is missing or unknown.
    """
    nanos = find_duration(text.strip().lower())
    if nanos is None:
        raise ConfigurationError(f"invalid duration {text!r}: expected {_DURATION_FORMS}")
    return nanos


def find_duration(text: str) -> int | None:
    """Return the nanoseconds of a text such as ``1h30m``; None if it is not of that form."""
    total, at = 0, 0
    while part := _DURATION_PART.match(text, at):
        total += round(float(part[1]) * _NANOS[part[2]])
        at = part.end()
    return total if at and at == len(text) else None


def to_unix_nano(time: TimeLike) -> int:
    """Return nanoseconds since the epoch; exact for a ``datetime`` and for whole seconds.

    A string that is not ISO 8601 is passed to python-dateutil, if that is installed.

    Raises:
        ConfigurationError: ``time`` has none of the accepted forms.
    """
    if isinstance(time, str):
        time = _parse_iso(time)
    if isinstance(time, datetime):
        since = _to_utc(time) - _EPOCH
        return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    return _seconds_to_nano(time)


def from_unix_nano(time_unix_nano: int) -> datetime:
    """Return an aware UTC ``datetime``, cut off (not rounded) to microseconds.

    For a time that a ``datetime`` cannot hold, return its nearest bound.
    """
    seconds, nanos = divmod(time_unix_nano, 1_000_000_000)
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=nanos // 1_000)
    except (OverflowError, ValueError, OSError):
        bound = datetime.max if time_unix_nano > 0 else datetime.min
        return bound.replace(tzinfo=timezone.utc)


def _to_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(timezone.utc)
    except (OverflowError, ValueError, OSError):
        # datetime.min and the like stand for an open end, where hours do not matter.
        return time.replace(tzinfo=timezone.utc)


def _seconds_to_nano(seconds: Any) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ConfigurationError(_time_error(seconds))
    if abs(seconds) > _MAX_SECONDS and seconds not in (math.inf, -math.inf):
        raise ConfigurationError(_implausible_seconds(seconds))
    if isinstance(seconds, int):
        return seconds * 1_000_000_000
    try:
        whole = int(seconds // 1)
    except (OverflowError, ValueError):
        raise ConfigurationError(_time_error(seconds)) from None
    # Through microseconds: a float near today's epoch resolves a quarter of one.
    return whole * 1_000_000_000 + round((seconds - whole) * 1_000_000) * 1_000


def _parse_iso(text: str) -> datetime:
    # Python 3.10 takes neither a Z nor a fraction of other than three or six digits.
    iso = _FRACTION.sub(_six_digits, text.strip())
    if iso[-1:] in {"z", "Z"}:
        iso = iso[:-1] + "+00:00"
    try:
        return datetime.fromisoformat(iso)
    except ValueError:
        return _parse_freely(text)


def _six_digits(fraction: re.Match[str]) -> str:
    return "." + fraction[1][:6].ljust(6, "0")


def _parse_freely(text: str) -> datetime:
    try:
        from dateutil import parser
    except ImportError:
        raise ConfigurationError(
            _time_error(text)
            + "; more forms are read with python-dateutil: pip install 'rimp-otel[types]'"
        ) from None
    try:
        return parser.parse(text)
    except (ValueError, OverflowError):
        raise ConfigurationError(_time_error(text)) from None


def _implausible_seconds(seconds: float) -> str:
    cure = ""
    for unit, number in _UNITS_BELOW_SECONDS.items():
        if abs(seconds) <= _MAX_SECONDS * number:
            cure = f"; if they are {unit}, divide by 1e{len(str(number)) - 1}"
            break
    return (
        f"{seconds!r} seconds since the epoch lie after the year 9999{cure}, or give a record's "
        "`timestamp` instead of its `time_unix_nano`"
    )


def _time_error(value: object) -> str:
    return (
        f"{value!r} is not a point in time: give a datetime, an ISO 8601 string such as "
        "'2026-11-23T12:00:00Z', or seconds since the epoch"
    )
