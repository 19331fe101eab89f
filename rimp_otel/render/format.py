"""Durations, numbers, times and counts as text, and recorded text that is safe to show."""

from __future__ import annotations

import re

from rimp_otel.models.times import from_unix_nano

__all__ = [
    "escape_text",
    "format_bytes",
    "format_count",
    "format_duration",
    "format_number",
    "format_time",
    "format_utc",
]

# C0, DEL, C1, and characters that are invisible or reorder others: soft hyphen, bidi marks,
# embeddings, overrides and isolates, line separators, zero-width spaces, tags, lone surrogates.
# The zero-width joiners stay: Persian, Hindi and emoji are spelt with them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape_text(text: str) -> str:
    """Return the text with control characters, and those that are invisible or reorder others, as
    escapes such as ``\\x1b``."""
    return _UNSAFE.sub(_escape_character, text)


def _escape_character(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def format_duration(nanos: int) -> str:
    """Return a duration in three significant digits, such as ``12.3 ms`` or ``4 m 7 s``."""
    if nanos < 0:
        return "-" + format_duration(-nanos)
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nanos / size < 999.5:
            return f"{nanos / size:.3g} {unit}"
    seconds = nanos / 10**9
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest} s"
    return f"{minutes // 60} h {minutes % 60} m"


def format_number(value: float) -> str:
    """Return a number as text; a float in six significant digits."""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def format_bytes(size: int) -> str:
    """Return a size in bytes as text, such as ``1.2 MB``; a kB is 1,000 bytes."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def format_time(time_unix_nano: int, layout: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time as local time, to the millisecond; ``-`` for 0."""
    if not time_unix_nano:
        return "-"
    time = from_unix_nano(time_unix_nano)
    try:
        time = time.astimezone()
    except (OverflowError, ValueError, OSError):
        pass  # there is no local time at the bounds of a datetime
    return f"{time.strftime(layout)}.{time.microsecond // 1_000:03d}"


def format_utc(time_unix_nano: int) -> str | None:
    """Return a time as ISO 8601 in UTC, to the nanosecond, for JSON; None for 0."""
    if not time_unix_nano:
        return None
    whole = from_unix_nano(time_unix_nano).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{time_unix_nano % 1_000_000_000:09d}Z"


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun, such as ``1 span`` or ``1,204 spans``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
