"""What callers give to the native API, made into what a record holds. Nothing here raises."""

from __future__ import annotations

from typing import Any

from rimp_otel.kinds import EventType
from rimp_otel.otlp.values import plain

__all__ = ["copied", "event_type_of", "number", "text_of"]

_SCALARS = frozenset({str, bool, int, float, bytes, type(None)})


def copied(attributes: Any) -> dict[str, Any]:
    """A copy that the caller cannot change any more."""
    try:
        copied = dict(attributes)
        for value in copied.values():
            if type(value) not in _SCALARS:
                return dict(plain(copied))
    except Exception:
        return {"rimp.repaired": plain(attributes)}
    return copied


def number(value: Any) -> float | int | None:
    """The number that it is, or stands for; None for what is none."""
    found = plain(value)
    if isinstance(found, (int, float)):
        return int(found) if isinstance(found, bool) else found
    try:
        return float(found)  # a Decimal, or a text that is a number
    except (TypeError, ValueError):
        return None


def text_of(value: Any) -> str:
    """What there is to read of it."""
    found = plain(value)
    try:
        return found if isinstance(found, str) else str(found)
    except Exception as error:  # such as an integer of more digits than Python turns into text
        return f"<a {type(value).__name__} that cannot be read: {type(error).__name__}>"


def event_type_of(value: Any) -> EventType:
    """The type that it names; INFO, where it names none."""
    try:
        return value if isinstance(value, EventType) else EventType(str(value).lower())
    except Exception:
        return EventType.INFO
