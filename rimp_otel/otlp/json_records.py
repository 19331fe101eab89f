"""The text of records in OTLP JSON, if their fields have the types that nearly all senders write.

msgspec decodes a record, which checks most of it; what is left are ids, numbers that are to be strings,
and values with more than one field. Then it is encoded again. What is wrong or odd in any way is left to
``json_requests``, which gives the same text and says what is wrong.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import unhexlify
from typing import Any

import msgspec
from msgspec import Raw

from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import bytes_from_base64
from rimp_otel.otlp.protobuf_reader import MAX_MESSAGE_DEPTH
from rimp_otel.otlp.strict import Found
from rimp_otel.otlp.values import MAX_FIXED64

__all__ = [
    "exponential_point_of",
    "histogram_point_of",
    "log_record_of",
    "number_point_of",
    "span_of",
    "summary_point_of",
]

_encode = msgspec.json.Encoder().encode
_decode_span = msgspec.json.Decoder(messages.Span, strict=False).decode
_decode_log_record = msgspec.json.Decoder(messages.LogRecord, strict=False).decode
_decode_number_point = msgspec.json.Decoder(messages.NumberDataPoint, strict=False).decode
_decode_histogram_point = msgspec.json.Decoder(messages.HistogramDataPoint, strict=False).decode
_decode_exponential_point = msgspec.json.Decoder(
    messages.ExponentialHistogramDataPoint, strict=False
).decode
_decode_summary_point = msgspec.json.Decoder(messages.SummaryDataPoint, strict=False).decode

_NO_TRACE_ID, _NO_SPAN_ID = "0" * 32, "0" * 16
# Quotation marks within texts are escaped, so that this ends a key for certain: of a field of a value.
_VALUE_KEY = 'Value":'


class _OddError(Exception):
    """A record is not as usual."""


_NOT_USUAL = (
    _OddError,
    msgspec.MsgspecError,
    AttributeError,
    TypeError,
    ValueError,
    RecursionError,
)


def span_of(raw: Raw) -> Found:
    """Return the start time and the text of a span."""
    try:
        span: Any = _decode_span(raw)
        span.trace_id = unhexlify(span.trace_id).hex()
        span.span_id = unhexlify(span.span_id).hex()
        if (
            len(span.trace_id) != 32
            or len(span.span_id) != 16
            or span.trace_id == _NO_TRACE_ID
            or span.span_id == _NO_SPAN_ID
        ):
            return None
        if span.parent_span_id is not None:
            span.parent_span_id = _usual_id(span.parent_span_id, 16)
        start, end = span.start_time_unix_nano, span.end_time_unix_nano
        if start > MAX_FIXED64 or end > MAX_FIXED64:
            return None
        span.start_time_unix_nano, span.end_time_unix_nano = str(start), str(end)
        if type(span.kind) is str:
            return None
        if span.status is not None and type(span.status.code) is str:
            return None
        values = _make_pairs_strict(span.attributes, 3) if span.attributes else 0
        if span.events:
            for event in span.events:
                event.time_unix_nano = _usual_number(event.time_unix_nano)
                if event.attributes:
                    values += _make_pairs_strict(event.attributes, 4)
        if span.links:
            for link in span.links:
                link.trace_id = _usual_id(link.trace_id, 32)
                link.span_id = _usual_id(link.span_id, 16)
                if link.attributes:
                    values += _make_pairs_strict(link.attributes, 4)
        text = _encode(span).decode()
        return (start, text) if text.count(_VALUE_KEY) == values else None
    except _NOT_USUAL:
        return None


def log_record_of(raw: Raw) -> Found:
    """Return the time and the text of a log record: the time when it was observed, if it has no own."""
    try:
        record: Any = _decode_log_record(raw)
        time, observed = record.time_unix_nano, record.observed_time_unix_nano
        record.time_unix_nano = _usual_number(time)
        record.observed_time_unix_nano = _usual_number(observed)
        if record.trace_id is not None:
            record.trace_id = _usual_id(record.trace_id, 32)
        if record.span_id is not None:
            record.span_id = _usual_id(record.span_id, 16)
        if type(record.severity_number) is str:
            return None
        values = 0
        if record.body is not None:
            values += _make_value_strict(record.body, 4)
        if record.attributes:
            values += _make_pairs_strict(record.attributes, 3)
        text = _encode(record).decode()
        return (time or observed or 0, text) if text.count(_VALUE_KEY) == values else None
    except _NOT_USUAL:
        return None


def number_point_of(raw: Raw) -> Found:
    """Return the time and the text of a point of a gauge or a sum."""
    try:
        point: Any = _decode_number_point(raw)
        _make_number_strict(point)
        return _finish_point(point, has_exemplars=True)
    except _NOT_USUAL:
        return None


def histogram_point_of(raw: Raw) -> Found:
    """Return the time and the text of a point of a histogram."""
    try:
        point: Any = _decode_histogram_point(raw)
        _check_finite(point.sum, point.min, point.max, *(point.explicit_bounds or ()))
        point.count = _usual_number(point.count)
        point.bucket_counts = _usual_counts(point.bucket_counts)
        return _finish_point(point, has_exemplars=True)
    except _NOT_USUAL:
        return None


def exponential_point_of(raw: Raw) -> Found:
    """Return the time and the text of a point of an exponential histogram."""
    try:
        point: Any = _decode_exponential_point(raw)
        _check_finite(point.sum, point.min, point.max, point.zero_threshold)
        point.count = _usual_number(point.count)
        point.zero_count = _usual_number(point.zero_count)
        for buckets in (point.positive, point.negative):
            if buckets is not None:
                buckets.bucket_counts = _usual_counts(buckets.bucket_counts)
        return _finish_point(point, has_exemplars=True)
    except _NOT_USUAL:
        return None


def summary_point_of(raw: Raw) -> Found:
    """Return the time and the text of a point of a summary."""
    try:
        point: Any = _decode_summary_point(raw)
        _check_finite(point.sum)
        for found in point.quantile_values or ():
            _check_finite(found.quantile, found.value)
        point.count = _usual_number(point.count)
        return _finish_point(point, has_exemplars=False)
    except _NOT_USUAL:
        return None


def _finish_point(point: Any, *, has_exemplars: bool) -> Found:
    """Return the time and the text of a point whose own fields are strict already.

    Args:
        point: the point.
        has_exemplars: False for the kind of point that can have none.
    """
    time = point.time_unix_nano
    point.time_unix_nano = _usual_number(time)
    point.start_time_unix_nano = _usual_number(point.start_time_unix_nano)
    values = _make_pairs_strict(point.attributes, 5) if point.attributes else 0
    if has_exemplars:
        for exemplar in point.exemplars or ():
            _make_number_strict(exemplar)
            exemplar.time_unix_nano = _usual_number(exemplar.time_unix_nano)
            if exemplar.trace_id is not None:
                exemplar.trace_id = _usual_id(exemplar.trace_id, 32)
            if exemplar.span_id is not None:
                exemplar.span_id = _usual_id(exemplar.span_id, 16)
            if exemplar.filtered_attributes:
                values += _make_pairs_strict(exemplar.filtered_attributes, 6)
    text = _encode(point).decode()
    return (time or 0, text) if text.count(_VALUE_KEY) == values else None


def _make_number_strict(owner: Any) -> None:
    """Change the value of a point or an exemplar, of which it has one."""
    if owner.as_int is not None:
        if owner.as_double is not None:
            raise _OddError
        owner.as_int = str(owner.as_int)
    else:
        _check_finite(owner.as_double)


def _usual_counts(counts: tuple[int, ...] | None) -> list[str] | None:
    if counts is None:
        return None
    if counts and max(counts) > MAX_FIXED64:
        raise _OddError
    return list(map(str, counts))


def _usual_id(text: str, size: int) -> str | None:
    """Return an id in lower-case hex; None for an empty one, which stands for none."""
    if not text:
        return None
    if len(text) != size:
        raise _OddError
    return unhexlify(text).hex()


def _usual_number(number: int | None) -> str | None:
    """Return an unsigned number of 64 bits as a string."""
    if number is None:
        return None
    if number > MAX_FIXED64:
        raise _OddError
    return str(number)


def _check_finite(*numbers: float | None) -> None:
    for number in numbers:
        if number is not None and number - number != 0.0:
            raise _OddError


def _make_pairs_strict(pairs: list[Any], depth: int) -> int:
    """Change the values of attributes to their strict form; return how many values there are.

    Args:
        pairs: the attributes.
        depth: how many messages the owner of the attributes lies in.
    """
    values = len(pairs)
    for pair in pairs:
        value = pair.value
        if value.string_value is not None:
            continue
        number = value.int_value
        if number is not None:
            value.int_value = str(number)
        elif value.double_value is not None:
            if value.double_value - value.double_value != 0.0:
                raise _OddError
        elif value.bool_value is not True and value.bool_value is not False:
            values += _make_nested_strict(value, depth + 2) - 1
    return values


def _make_value_strict(value: Any, depth: int) -> int:
    """Change a value, which lies in ``depth`` messages; return how many values it holds."""
    if value.string_value is not None:
        return 1
    pair = messages.KeyValue(None, value)
    return _make_pairs_strict([pair], depth - 2)


def _make_nested_strict(value: Any, depth: int) -> int:
    """Change an array, a map or bytes, which lies in ``depth`` messages."""
    if value.bool_value is not None or depth + 3 > MAX_MESSAGE_DEPTH:
        raise _OddError
    if value.array_value is not None:
        items = value.array_value.values or ()
        return 1 + sum([_make_value_strict(item, depth + 2) for item in items])
    if value.kvlist_value is not None:
        return 1 + _make_pairs_strict(value.kvlist_value.values or [], depth + 1)
    if value.bytes_value is None:
        return 0
    value.bytes_value = b64encode(bytes_from_base64(value.bytes_value)).decode()
    return 1
