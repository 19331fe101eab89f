"""What an OTLP message must fulfil beyond its types to be recorded, and the text around data points.

The messages are in the form that strict OTLP JSON has: ids in hex, 64-bit integers as strings.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import id_bytes
from rimp_otel.otlp.lines import Envelope
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.process import BoundedCache

__all__ = [
    "FOREIGN_MAPPING",
    "NO_DATA",
    "Found",
    "check_log_record",
    "check_point",
    "check_span",
    "metric_envelope",
    "none_is_usual",
    "record_time",
    "share_envelope",
    "shown",
]

NO_DATA = "a metric without data of a kind that OTLP defines"
"""Why a metric without data points is refused."""

FOREIGN_MAPPING = "that is protobuf's own JSON mapping, not OTLP JSON"
"""Why ids in base64 and names of enumerations are refused."""

Found = tuple[int, str] | None
"""The time and the text of a record; None for one that has to be read carefully."""


def none_is_usual(*_: object) -> Found:
    """Return None for each record: those of this kind are all read carefully."""
    return None


_encode = msgspec.json.Encoder().encode


def check_span(span: messages.Span) -> None:
    """Check the ids of a span.

    Raises:
        FieldError: it has no valid ids, or that of a link or of its parent has a wrong length.
    """
    _check_own_id(span.trace_id, 16, ".traceId")
    _check_own_id(span.span_id, 8, ".spanId")
    _check_id(span.parent_span_id, 8, ".parentSpanId")
    for index, link in enumerate(span.links or ()):
        _check_id(link.trace_id, 16, f".links[{index}].traceId")
        _check_id(link.span_id, 8, f".links[{index}].spanId")


def check_log_record(record: messages.LogRecord) -> str:
    """Remove invalid ids from a log record, since OTLP wants them to be read as not there.

    Return a warning that says so, or an empty text.

    Raises:
        FieldError: an id is of protobuf's own JSON mapping.
    """
    warnings = []
    for name, key, size in (("trace_id", "traceId", 16), ("span_id", "spanId", 8)):
        text = getattr(record, name)
        wrong = _wrong_with_id(text, size)
        if wrong.endswith(FOREIGN_MAPPING):
            raise FieldError(wrong, f".{key}")
        if wrong:
            setattr(record, name, None)
            warnings.append(f"kept without its {key}, which {wrong}")
    return "; ".join(warnings)


def check_point(point: Any) -> None:
    """Check the ids of the exemplars of a data point.

    Raises:
        FieldError: one has a wrong length.
    """
    for index, exemplar in enumerate(getattr(point, "exemplars", None) or ()):
        _check_id(exemplar.trace_id, 16, f".exemplars[{index}].traceId")
        _check_id(exemplar.span_id, 8, f".exemplars[{index}].spanId")


def _check_own_id(text: str | None, size: int, place: str) -> None:
    if not text:
        raise FieldError(f"must be {size} bytes, and there is none", place)
    _check_id(text, size, place)
    if not text.strip("0"):
        raise FieldError("is invalid: all its bytes are zero", place)


def _check_id(text: str | None, size: int, place: str) -> None:
    wrong = _wrong_with_id(text, size)
    if wrong:
        raise FieldError(wrong, place)


_HEX = re.compile("[0-9a-fA-F]*")


def _wrong_with_id(text: str | None, size: int) -> str:
    """Return what is wrong with an id; nothing for a valid one, or none."""
    if not text or (len(text) == 2 * size and _HEX.fullmatch(text)):
        return ""
    try:
        id_bytes(text, size, "")
        return f"must be hex digits, got base64: {FOREIGN_MAPPING}"
    except DecodeError:
        pass
    if _HEX.fullmatch(text):
        return f"must be {size} bytes, got {len(text) / 2:g}"
    return f"must be {2 * size} hex digits, got {shown(text)}"


def shown(text: str) -> str:
    """Return a text as it stands in a reason."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def record_time(message: Any) -> int:
    """Return the time by which ranges select a span, log record or data point; 0 for none."""
    if isinstance(message, messages.Span):
        return int(message.start_time_unix_nano or 0)
    time = int(message.time_unix_nano or 0)
    if time or not isinstance(message, messages.LogRecord):
        return time
    return int(message.observed_time_unix_nano or 0)


_envelopes: BoundedCache[Envelope, Envelope] = BoundedCache(4_096)


def share_envelope(envelope: Envelope) -> Envelope:
    """Return the object that stands for all equal envelopes."""
    return _envelopes.setdefault(envelope, envelope)


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
