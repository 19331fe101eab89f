"""Short constructors of spans and events, and one trace of a small shop."""

from __future__ import annotations

import re
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode

from rimp_otel.models.records import EventType, ResourceInfo, TelemetryEvent

T0 = 1_795_000_000_000_000_000
"""2026-11-18T11:06:40Z, in nanoseconds."""

MS = 1_000_000
TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736

HOSTILE = "\x1b[41mred\x1b[K\x07\r\n\x9b2J\x7f\u202etxt.exe\u2066\u200b\ud800\x00"
"""Text that must never be sent to a terminal: escape sequences, control and bidi characters."""

HOSTILE_SHOWN = r"\x1b[41mred\x1b[K\x07\r\n\x9b2J\x7f\u202etxt.exe\u2066\u200b\ud800\x00"


def without_our_colour(text: str) -> str:
    """Return the text without the escape sequences of Style.paint, of which HOSTILE has none."""
    return re.sub(r"\x1b\[(0|1|2|3[1-6]|9[56]|31;1|1;31)m", "", text)


def span(
    name: str,
    span_id: int,
    parent: int = 0,
    start: int | None = 0,
    end: int | None = 1,
    service: str = "shop",
    error: str | None = None,
    trace_id: int = TRACE,
    events: tuple[Event, ...] = (),
    **attributes: Any,
) -> ReadableSpan:
    """Return a span; ``start`` and ``end`` are milliseconds after T0."""
    return ReadableSpan(
        name,
        context=SpanContext(trace_id, span_id, False),
        parent=SpanContext(trace_id, parent, False) if parent else None,
        resource=Resource({"service.name": service}),
        attributes=attributes,
        events=events,
        status=Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, error),
        start_time=None if start is None else T0 + start * MS,
        end_time=None if end is None else T0 + end * MS,
    )


def event(
    message: str,
    at: int = 0,
    span_id: int = 0,
    event_type: EventType = EventType.INFO,
    service: str = "shop",
    trace_id: int = TRACE,
    source: str = "app",
    **metadata: Any,
) -> TelemetryEvent:
    """Return a log record, ``at`` milliseconds after T0."""
    return TelemetryEvent(
        source,
        message,
        event_type,
        metadata,
        time_unix_nano=T0 + at * MS,
        trace_id=trace_id,
        span_id=span_id,
        resource=ResourceInfo({"service.name": service}),
    )


def raised(kind: str, message: str, at: int, stacktrace: str = "") -> Event:
    """Return the span event of an exception, ``at`` milliseconds after T0."""
    attributes = {"exception.type": kind, "exception.message": message}
    if stacktrace:
        attributes["exception.stacktrace"] = stacktrace
    return Event("exception", attributes, T0 + at * MS)


STACK = """Traceback (most recent call last):
  File "/srv/payment/app.py", line 17, in handle
    charge(order)
  File "/srv/payment/bank.py", line 42, in charge
    raise ConnectionError("bank.example refused the connection")
"""


def checkout() -> tuple[list[ReadableSpan], list[TelemetryEvent]]:
    """Return the records of a checkout in a shop of three services, whose payment fails."""
    refused = raised("ConnectionError", "bank.example refused the connection", 219, STACK)
    return [
        span("POST /checkout", 1, 0, 0, 231, error=""),
        span("SELECT cart", 2, 1, 4, 17),
        span("GET /stock", 3, 1, 20, 101),
        span("GET /stock/{sku}", 4, 3, 24, 98, "stock"),
        span("SELECT stock", 5, 4, 31, 89, "stock"),
        span("POST /charge", 6, 1, 104, 226, error="", **{"http.response.status_code": 502}),
        span(
            "charge card",
            7,
            6,
            110,
            221,
            "payment",
            "ConnectionError: bank.example refused the connection",
            events=(refused,),
            **{"payment.provider": "bank.example", "payment.amount": 42.5, "retries": 2},
        ),
    ], [
        event("cart loaded", 18, 1, items=3),
        event("stock is low", 92, 4, EventType.WARNING, "stock", sku="A-17", left=2),
        event("payment failed, order kept", 228, 1, EventType.ERROR, order=4711),
    ]
