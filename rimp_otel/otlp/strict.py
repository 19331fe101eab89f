"""What an OTLP message must fulfil beyond its types to be recorded, and the text around data points.

The messages are in the form that strict OTLP JSON has: ids in hex, 64-bit integers as strings.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rimp_otel.otlp import messages
from rimp_otel.otlp.lines import Envelope
from rimp_otel.otlp.refusals import FieldError

__all__ = [
    "NO_DATA",
    "check_log_record",
    "check_point",
    "check_span",
    "metric_envelope",
    "record_time",
]

NO_DATA = "a metric without data of a kind that OTLP defines"
"""Why a metric without data points is refused."""

_encode = msgspec.json.Encoder().encode


def check_span(span: messages.Span) -> str:
    """Check the ids of a span; return a warning, which is empty for spans.

    Raises:
        FieldError: it has no valid ids, or a link or its parent has an id of a wrong length.
    """
    _check_own_id(span.trace_id, 16, ".traceId")
    _check_own_id(span.span_id, 8, ".spanId")
    _check_size(span.parent_span_id, 8, ".parentSpanId")
    for index, link in enumerate(span.links or ()):
        _check_size(link.trace_id, 16, f".links[{index}].traceId")
        _check_size(link.span_id, 8, f".links[{index}].spanId")
    return ""


def check_log_record(record: messages.LogRecord) -> str:
    """Remove ids of a wrong length from a log record, which OTLP wants to be read as not there.

    Return a warning that says so, or an empty text.
    """
    wrong = []
    if record.trace_id is not None and len(record.trace_id) != 32:
        record.trace_id = None
        wrong.append("traceId")
    if record.span_id is not None and len(record.span_id) != 16:
        record.span_id = None
        wrong.append("spanId")
    return f"kept without its invalid {' and '.join(wrong)}" if wrong else ""


def check_point(point: Any) -> None:
    """Check the ids of the exemplars of a data point.

    Raises:
        FieldError: one has an id of a wrong length.
    """
    for index, exemplar in enumerate(getattr(point, "exemplars", None) or ()):
        _check_size(exemplar.trace_id, 16, f".exemplars[{index}].traceId")
        _check_size(exemplar.span_id, 8, f".exemplars[{index}].spanId")


def _check_own_id(text: str | None, size: int, place: str) -> None:
    if not text:
        raise FieldError(f"must be {size} bytes, and there is none", place)
    _check_size(text, size, place)
    if not text.strip("0"):
        raise FieldError("is invalid: all its bytes are zero", place)


def _check_size(text: str | None, size: int, place: str) -> None:
    if text and len(text) != 2 * size:
        raise FieldError(f"must be {size} bytes, got {len(text) // 2}", place)


def record_time(message: Any) -> int:
    """Return the time by which ranges select a span, log record or data point; 0 for none."""
    if isinstance(message, messages.Span):
        return int(message.start_time_unix_nano or 0)
    time = int(message.time_unix_nano or 0)
    if time or not isinstance(message, messages.LogRecord):
        return time
    return int(message.observed_time_unix_nano or 0)


_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def metric_envelope(metric: Any) -> Envelope:
    """Return the text around the data points of a metric, which is given without them."""
    (name,) = [name for name in _KINDS if getattr(metric, name) is not None]
    key = "exponentialHistogram" if name == "exponential_histogram" else name
    head = _encode(messages.Metric(metric.name, metric.description, metric.unit)).decode()[:-1]
    fields = _encode(getattr(metric, name)).decode()[1:-1]
    metadata = metric.metadata
    return Envelope(
        f'{head}{"," if len(head) > 1 else ""}"{key}":{{"dataPoints":[',
        f"]{',' if fields else ''}{fields}}}"
        + (f',"metadata":{_encode(metadata).decode()}}}' if metadata is not None else "}"),
    )
