"""Numbers that OTLP gives a range to, brought into it where a caller left it."""

from __future__ import annotations

from typing import Any

__all__ = ["enumerated", "fixed64", "sint32", "span_id_json", "trace_id_json", "uint32"]

_FIXED64_MAX = 2**64 - 1
_TRACE_ID_MAX = 2**128 - 1


def fixed64(value: Any) -> int:
    """An unsigned 64-bit integer: what is below or above becomes the bound, no number becomes 0."""
    if type(value) is int and 0 <= value <= _FIXED64_MAX:
        return value
    return _bounded(value, _FIXED64_MAX)


def uint32(value: Any) -> int:
    """An unsigned 32-bit integer, likewise."""
    return _bounded(value, 2**32 - 1)


def enumerated(value: Any) -> int:
    """The number of an enumeration's member, likewise; OTLP has none below 0."""
    return _bounded(value, 2**31 - 1)


def sint32(value: Any) -> int:
    """A signed 32-bit integer, likewise."""
    return _bounded(value, 2**31 - 1, -(2**31))


def trace_id_json(trace_id: Any) -> str:
    """The 32 hex digits of a trace id."""
    if type(trace_id) is int and 0 <= trace_id <= _TRACE_ID_MAX:
        return f"{trace_id:032x}"
    return f"{_bounded(trace_id, _TRACE_ID_MAX):032x}"


def span_id_json(span_id: Any) -> str:
    """The 16 hex digits of a span id."""
    return f"{fixed64(span_id):016x}"


def _bounded(value: Any, most: int, least: int = 0) -> int:
    try:
        return min(max(int(value), least), most)
    except (TypeError, ValueError, OverflowError):
        return 0
