"""Questions to a record of any signal: its time, service and ids, whether it failed.

They do not import the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Union

# A lazy package: it loads the SDK only for `typing.get_type_hints`.
import rimp_otel.models as models
from rimp_otel.models.records import TelemetryEvent, TelemetryMetric, content_of

__all__ = [
    "RaisedException",
    "Record",
    "StackFrame",
    "brief_attributes",
    "content_of_span",
    "duration_of",
    "end_of",
    "exception_in",
    "exception_text",
    "has_failed",
    "innermost_frame",
    "is_interrupted",
    "parent_id_of",
    "service_of",
    "span_id_of",
    "stack_lines",
    "start_of",
    "time_of",
    "trace_id_of",
]

Record = Union["models.ReadableSpan", TelemetryEvent, TelemetryMetric]
"""One record of any signal."""

# The innermost frame of a Python stack is its last; those of exception groups stand behind a bar.
_FRAME = re.compile(r'^[ \t|+]*File "([^"\n]+)", line (\d+), in (.+)$', re.MULTILINE)
_STACK_END = 100_000
_MAX_STACK_LINES = 1_000


class StackFrame(NamedTuple):
    """A place in a program."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"in {self.function}, {self.file.rpartition('/')[2]}:{self.line}"


class RaisedException(NamedTuple):
    """An exception as attributes describe it."""

    type: str
    message: str
    stack: str


def time_of(record: Record) -> int:
    """Return when the record was made: for a span its end, or its start while it has none."""
    if isinstance(record, TelemetryEvent):
        return record.time_unix_nano or record.observed_time_unix_nano
    if isinstance(record, TelemetryMetric):
        return record.time_unix_nano
    return record.end_time or record.start_time or 0


def start_of(span: models.ReadableSpan) -> int:
    """Return when the span started, in nanoseconds since the epoch; 0 if that is not known."""
    return span.start_time or 0


def end_of(span: models.ReadableSpan) -> int | None:
    """Return when the span ended, in nanoseconds since the epoch; None while it has not."""
    return span.end_time or None


def duration_of(span: models.ReadableSpan) -> int | None:
    """Return the nanoseconds from start to end; None if one of them is not known."""
    start, end = start_of(span), end_of(span)
    return end - start if start and end else None


def trace_id_of(span: models.ReadableSpan) -> int:
    """Return the id of the span's trace; 0 for a span that was recorded without."""
    return span.context.trace_id if span.context else 0


def span_id_of(span: models.ReadableSpan) -> int:
    """Return the span's id; 0 for a span that was recorded without."""
    return span.context.span_id if span.context else 0


def parent_id_of(span: models.ReadableSpan) -> int:
    """Return the id of the span's parent; 0 for a root."""
    return span.parent.span_id if span.parent else 0


def has_failed(span: models.ReadableSpan) -> bool:
    """Return True if the span's status is an error."""
    return span.status.status_code.name == "ERROR"


def is_interrupted(span: models.ReadableSpan) -> bool:
    """Return True if the span was open when its process died; its end is the last sign of life then."""
    return bool((span.attributes or {}).get("rimp.interrupted"))


def content_of_span(span: models.ReadableSpan) -> list[Any]:
    """Return what is recorded of a span, so that two spans that are recorded alike are equal."""
    scope, resource = span.instrumentation_scope, span.resource
    parent = span.parent
    return [
        span.name,
        _content_of_context(span.context),
        parent and (parent.span_id, parent.is_remote),
        span.kind,
        start_of(span),
        end_of(span),
        content_of(span.attributes or {}),
        span.dropped_attributes,
        [(event.name, event.timestamp, *_attributes_with_dropped(event)) for event in span.events],
        span.dropped_events,
        [
            (_content_of_context(link.context), *_attributes_with_dropped(link))
            for link in span.links
        ],
        span.dropped_links,
        (span.status.status_code, span.status.description or ""),
        resource and (content_of(resource.attributes), resource.schema_url or ""),
        scope
        and (
            scope.name or "",
            scope.version or "",
            scope.schema_url or "",
            content_of(scope.attributes or {}),
        ),
    ]


def _attributes_with_dropped(item: Any) -> tuple[Any, int]:
    return content_of(item.attributes or {}), item.dropped_attributes or 0


def _content_of_context(context: Any) -> Any:
    if context is None:
        return None
    state = list((context.trace_state or {}).items())
    return context.trace_id, context.span_id, int(context.trace_flags), state


def service_of(record: Record) -> str:
    """Return the ``service.name`` of the record's resource; empty if it has none."""
    attributes = record.resource.attributes if record.resource else {}
    return str(attributes.get("service.name", ""))


def brief_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that tell a reader something new.

    Left out is what the instrumentation of logging says about code and thread, and what
    ``exception_text`` or a mark says better.
    """
    noise = ("code.", "thread.", "exception.", "rimp.interrupted")
    return {key: value for key, value in attributes.items() if not key.startswith(noise)}


def exception_in(attributes: Mapping[str, Any]) -> RaisedException | None:
    """Return the exception that the attributes describe; None if they describe none."""
    kind = attributes.get("exception.type", "")
    message = attributes.get("exception.message", "")
    stack = attributes.get("exception.stacktrace", "")
    return (
        RaisedException(str(kind), str(message), str(stack)) if kind or message or stack else None
    )


def innermost_frame(stack: str) -> StackFrame | None:
    """Return the last frame of a Python stack; None if there is none near the end of the text."""
    # Of a text of many MB, the end is enough.
    frames = _FRAME.findall(stack[-_STACK_END:])
    if not frames:
        return None
    file, line, function = frames[-1]
    return StackFrame(file, int(line[:18]), function)


def stack_lines(attributes: Mapping[str, Any], most: int = _MAX_STACK_LINES) -> list[str]:
    """Return the lines of the stack that the attributes hold; of more than ``most``, the first and
    the last ones."""
    stack = attributes.get("exception.stacktrace") or attributes.get("code.stacktrace") or ""
    lines = str(stack).rstrip().splitlines()
    if len(lines) <= most:
        return lines
    half = most // 2
    return [*lines[:half], f"({len(lines) - 2 * half:,} lines left out)", *lines[-half:]]


def exception_text(attributes: Mapping[str, Any]) -> str:
    """Return the exception that the attributes describe, with its place; empty for none."""
    raised = exception_in(attributes)
    if raised is None:
        return ""
    text = ": ".join(part for part in (raised.type, raised.message) if part)
    if text and (frame := innermost_frame(raised.stack)):
        text += f" ({frame})"
    return text
