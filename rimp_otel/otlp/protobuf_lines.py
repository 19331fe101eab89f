"""Lines of OTLP JSON in protobuf's binary form, without protobuf and without making records.

Most of the time goes into attributes. They stay text: a list is cut where one attribute ends and the
next begins, and what each is in protobuf is known by its text. Only what is new is decoded, and of
that, what is no plain text or integer.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.messages import (
    OtlpMessage,
    PartialLine,
    PartialResource,
    PartialScope,
    decode_json,
    decode_with_scopes,
)
from rimp_otel.otlp.protobuf_writer import (
    FIELDS,
    Encoder,
    FieldEncoding,
    encode_message,
    encode_varint,
    keep_one_value,
    length_prefix,
    make_encoder,
    register_encoder,
)
from rimp_otel.process import BoundedCache

__all__ = ["protobuf_of_line"]


# Messages whose attributes and values stay text.


class _SpanAsText(messages.Span):
    attributes: Raw = Raw()  # type: ignore[assignment]


class _LogAsText(messages.LogRecord):
    attributes: Raw = Raw()  # type: ignore[assignment]
    body: Raw = Raw()  # type: ignore[assignment]


class _NumberPoint(messages.NumberDataPoint):
    attributes: Raw = Raw()  # type: ignore[assignment]


class _HistogramPoint(messages.HistogramDataPoint):
    attributes: Raw = Raw()  # type: ignore[assignment]


class _ExponentialPoint(messages.ExponentialHistogramDataPoint):
    attributes: Raw = Raw()  # type: ignore[assignment]


class _GaugeAsText(messages.Gauge):
    data_points: list[_NumberPoint] | None = None  # type: ignore[assignment]


class _SumAsText(messages.Sum):
    data_points: list[_NumberPoint] | None = None  # type: ignore[assignment]


class _HistogramAsText(messages.Histogram):
    data_points: list[_HistogramPoint] | None = None  # type: ignore[assignment]


class _ExponentialAsText(messages.ExponentialHistogram):
    data_points: list[_ExponentialPoint] | None = None  # type: ignore[assignment]


class _MetricAsText(messages.Metric):
    gauge: _GaugeAsText | None = None
    sum: _SumAsText | None = None
    histogram: _HistogramAsText | None = None
    exponential_histogram: _ExponentialAsText | None = None


_ScopeOnWire = PartialScope[_SpanAsText, _LogAsText, _MetricAsText]
_ResourceOnWire = PartialResource[_SpanAsText, _LogAsText, _MetricAsText]
_LINE = msgspec.json.Decoder(PartialLine[_SpanAsText, _LogAsText, _MetricAsText], strict=False)
_TEXT = msgspec.json.Decoder(str | None)
_ATTRIBUTES = msgspec.json.Decoder(list[messages.KeyValue] | None, strict=False)
_ATTRIBUTE = msgspec.json.Decoder(messages.KeyValue, strict=False)
_VALUE = msgspec.json.Decoder(messages.AnyValue | None, strict=False)


@messages.no_recursion_error
def protobuf_of_line(signal: Signal, line: bytes) -> bytes:
    """Return the message of a line, as it stands in the body of an export request.

    Raises:
        DecodeError: the line is not OTLP JSON of this signal, or nested more deeply than protobuf's
            parsers allow.
    """
    found = decode_with_scopes(_LINE, messages.repair_line(line))
    messages.check_signal(found, signal)
    return b"".join([part for group in found.resources() for part in _encode_resource(group)])


def _encode_resource(group: _ResourceOnWire) -> list[bytes]:
    parts = [_resources(group.resource)]
    for scope in group.scopes():
        parts += _encode_scope(scope)
    parts.append(_schema_url(group.schema_url))
    return _enclosed(b"\x0a", parts)


def _encode_scope(group: _ScopeOnWire) -> list[bytes]:
    parts = [_scopes(group.scope)]
    for span in group.spans or ():
        data = _encode_usual_span(span) or encode_message(span, 3)
        parts += (b"\x12", length_prefix(data), data)
    for record in group.log_records or ():
        data = _encode_usual_log(record) or encode_message(record, 3)
        parts += (b"\x12", length_prefix(data), data)
    for metric in group.metrics or ():
        parts += _enclosed(b"\x12", [encode_message(metric, 3)])
    parts.append(_schema_url(group.schema_url))
    return _enclosed(b"\x12", parts)


def _enclosed(tag: bytes, parts: list[bytes]) -> list[bytes]:
    data = b"".join(parts)
    return [tag, length_prefix(data), data]


def _schema_url(raw: Raw) -> bytes:
    url = decode_json(_TEXT, text) if (text := bytes(raw)) else None
    return b"".join(_enclosed(b"\x1a", [url.encode()])) if url else b""


# Resources and scopes, known by their text.

_MAX_CACHED = 16_384


def _by_text(decode: Callable[[Raw], OtlpMessage], depth: int) -> Callable[[Raw], bytes]:
    cache: BoundedCache[bytes, bytes] = BoundedCache(256)

    def encode(raw: Raw) -> bytes:
        text = bytes(raw)
        if not text or text == b"null":
            return b""
        known = cache.get(text)
        if known is None:
            known = b"".join(_enclosed(b"\x0a", [encode_message(decode(raw), depth)]))
            if len(text) <= _MAX_CACHED:
                cache[text] = known
        return known

    return encode


_resources = _by_text(messages.decode_resource, 2)
_scopes = _by_text(messages.decode_scope, 3)


# Attributes.

# By the text after `{"key":`; without the tag, which depends on the message around it.
_attributes: BoundedCache[bytes, bytes] = BoundedCache(8_192)
_known_attribute = _attributes.entries.get
_MAX_ATTRIBUTE = 200
_FIRST, _NEXT = b'[{"key":', b'},{"key":'


def _encode_attributes(raw: Raw, tag: bytes, depth: int) -> bytes:
    """Return the attributes of a list that is text, each with a tag of one byte."""
    text = bytes(raw)
    if not text.startswith(_FIRST):
        return _decode_attributes(text, tag, depth) if text else b""
    # A quotation mark within a text has a backslash before it, so that the cut is never in a text.
    # If it is within a nested value, the parts are no JSON, which `_encode_attribute` finds.
    try:
        return tag + tag.join(
            [
                _known_attribute(part) or _encode_attribute(part)
                for part in text[len(_FIRST) : -2].split(_NEXT)
            ]
        )
    except _NestedError:
        return _decode_attributes(text, tag, depth)


class _NestedError(Exception):
    """A text is no attribute by itself."""


def _decode_attributes(text: bytes, tag: bytes, depth: int) -> bytes:
    parts: list[bytes] = []
    for pair in decode_json(_ATTRIBUTES, text) or ():
        parts += _enclosed(tag, [encode_message(pair, depth + 1)])
    return b"".join(parts)


_STRING, _INTEGER = b',"value":{"stringValue":"', b',"value":{"intValue":"'


def _encode_attribute(text: bytes) -> bytes:
    """Return an attribute, given its text after the name of the key, with its length before it."""
    key, found, value = text.partition(_STRING)
    if found and value.endswith(b'"}') and value.count(b'"') == 1 and b"\\" not in text:
        value = value[:-2]
        content = b"\x0a" + length_prefix(value) + value
    else:
        key, found, value = text.partition(_INTEGER)
        digits = value[1:-2] if value[:1] == b"-" else value[:-2]
        is_plain = digits.isdigit() and len(digits) < 19 and digits[:1] != b"0"
        if not (found and is_plain and value.endswith(b'"}')):
            return _decode_attribute(text)
        content = b"\x18" + encode_varint(int(value[:-2]) & _MAX_UINT64)
    if key.count(b'"') != 2 or b"\\" in key or not (key[:1] == key[-1:] == b'"'):
        return _decode_attribute(text)
    name = key[1:-1]
    data = b"".join(
        (b"\x0a", length_prefix(name), name, b"\x12", length_prefix(content), content)
        if name
        else (b"\x12", length_prefix(content), content)
    )
    return _keep_attribute(text, length_prefix(data) + data)


_MAX_UINT64 = 2**64 - 1


def _decode_attribute(text: bytes) -> bytes:
    try:
        pair = _ATTRIBUTE.decode(b'{"key":%b}' % text)
    except (msgspec.MsgspecError, UnicodeError):
        raise _NestedError from None
    data = encode_message(pair, 5)
    return _keep_attribute(text, length_prefix(data) + data)


def _keep_attribute(text: bytes, data: bytes) -> bytes:
    if len(text) <= _MAX_ATTRIBUTE:
        _attributes[text] = data
    return data


# Records with care, whatever is in them.


def _attributes_encoder(field: FieldEncoding) -> Encoder:
    tag = encode_varint(field.number << 3 | 2)
    return lambda raw, depth: _encode_attributes(raw, tag, depth)


def _value_encoder(field: FieldEncoding) -> Encoder:
    tag = encode_varint(field.number << 3 | 2)

    def encode(raw: Raw, depth: int) -> bytes:
        value = decode_json(_VALUE, text) if (text := bytes(raw)) else None
        return (
            b"" if value is None else b"".join(_enclosed(tag, [encode_message(value, depth + 1)]))
        )

    return encode


_AS_TEXT = {"attributes": _attributes_encoder, "body": _value_encoder}


def _fields_as_text(kind: type) -> list[FieldEncoding]:
    return [
        field._replace(make_encoder=_AS_TEXT.get(field.name, field.make_encoder))
        for field in FIELDS[kind]
    ]


for _kind, _base in (
    (_SpanAsText, messages.Span),
    (_LogAsText, messages.LogRecord),
    (_HistogramPoint, messages.HistogramDataPoint),
    (_ExponentialPoint, messages.ExponentialHistogramDataPoint),
    (_GaugeAsText, messages.Gauge),
    (_SumAsText, messages.Sum),
    (_HistogramAsText, messages.Histogram),
    (_ExponentialAsText, messages.ExponentialHistogram),
    (_MetricAsText, messages.Metric),
):
    register_encoder(_kind, make_encoder(_fields_as_text(_base)))
_encode_lists = make_encoder([field for field in FIELDS[messages.Span] if 10 <= field.number <= 14])
_encode_any_point = keep_one_value(make_encoder(_fields_as_text(messages.NumberDataPoint)))

# Records as the SDK makes nearly all of them.

_ODD = (TypeError, ValueError, IndexError, KeyError, struct.error)
_pack_times = struct.Struct("<BQBQ").pack
_names: BoundedCache[str, bytes] = BoundedCache(1_024)
_known_name = _names.entries.get
_flags: BoundedCache[int, bytes] = BoundedCache(1_024)
_known_flags = _flags.entries.get
_KINDS = [b"", *[b"\x30%c" % number for number in range(1, 6)]]
_STATUSES = {None: b"\x7a\x00", 0: b"\x7a\x00", 1: b"\x7a\x02\x18\x01", 2: b"\x7a\x02\x18\x02"}


def _encode_usual_span(span: Any) -> bytes | None:
    """Return the content of a span; None for one that is odd in any way."""
    try:
        parent, name, status, flags = span.parent_span_id, span.name, span.status, span.flags
        start, end = span.start_time_unix_nano, span.end_time_unix_nano
        trace_id, span_id = span.trace_id, span.span_id
        if len(trace_id) != 32 or len(span_id) != 16 or (parent and len(parent) != 16):
            return None
        ids = b"\x0a\x10%b\x12\x08%b" % (unhexlify(trace_id), unhexlify(span_id))
        if parent:
            ids += b'"\x08' + unhexlify(parent)
        if not start or not end or not name or span.trace_state or status is None or status.message:
            return None
        lists = b""
        if (
            span.events
            or span.links
            or span.dropped_attributes_count
            or span.dropped_events_count
            or span.dropped_links_count
        ):
            lists = _encode_lists(span, 3)
        return b"".join(
            (
                ids,
                _known_name(name) or _encode_name(name),
                _KINDS[span.kind],
                _pack_times(0x39, start, 0x41, end),
                _encode_attributes(span.attributes, b"\x4a", 3),
                lists,
                _STATUSES[status.code],
                (_known_flags(flags) or _encode_flags(flags)) if flags else b"",
            )
        )
    except _ODD:
        return None  # for the careful way


def _encode_name(name: str) -> bytes:
    data = name.encode()
    data = b"\x2a" + length_prefix(data) + data
    if len(data) <= _MAX_ATTRIBUTE:
        _names[name] = data
    return data


def _encode_flags(flags: int) -> bytes:
    data = _flags[flags] = b"\x85\x01" + flags.to_bytes(4, "little")
    return data


_pack_time = struct.Struct("<BQ").pack
_pack_log_flags = struct.Struct("<BI").pack
_severities: BoundedCache[tuple[object, object], bytes] = BoundedCache(256)
_known_severity = _severities.entries.get
_BODY = b'{"stringValue":"'


def _encode_usual_log(record: Any) -> bytes | None:
    """Return the content of a log record; None for one that is odd in any way."""
    try:
        time, observed = record.time_unix_nano, record.observed_time_unix_nano
        trace_id, span_id, flags = record.trace_id, record.span_id, record.flags
        if trace_id:
            if len(trace_id) != 32 or len(span_id) != 16:
                return None
            ids = b"\x4a\x10%b\x52\x08%b" % (unhexlify(trace_id), unhexlify(span_id))
        elif span_id:
            return None
        else:
            ids = b""
        if not time or record.dropped_attributes_count or record.event_name:
            return None
        severity = record.severity_number, record.severity_text
        text = bytes(record.body)
        if not (text.startswith(_BODY) and text.count(b'"') == 4 and b"\\" not in text):
            return None
        text = text[len(_BODY) : -2]
        body = b"\x0a" + length_prefix(text) + text
        return b"".join(
            (
                _pack_time(0x09, time),
                _known_severity(severity) or _encode_severity(*severity),
                b"\x2a",
                length_prefix(body),
                body,
                _encode_attributes(record.attributes, b"\x32", 3),
                _pack_log_flags(0x45, flags) if flags else b"",
                ids,
                _pack_time(0x59, observed) if observed else b"",
            )
        )
    except _ODD:
        return None  # for the careful way


_encode_severity_fields = make_encoder(
    [field for field in FIELDS[messages.LogRecord] if field.number in (2, 3)]
)


def _encode_severity(number: Any, text: Any) -> bytes:
    record = messages.LogRecord(severity_number=number, severity_text=text)
    data = _severities[number, text] = _encode_severity_fields(record, 3)
    return data


_pack_double = struct.Struct("<Bd").pack
_pack_integer = struct.Struct("<Bq").pack
# Points of one metric have a few sets of attributes, which come again and again.
_attribute_sets: BoundedCache[bytes, bytes] = BoundedCache(4_096)
_known_set = _attribute_sets.entries.get
_MAX_SET = 1_000


def _encode_point(point: Any, depth: int) -> bytes:
    """Return the content of a point of a gauge or sum."""
    start, time, double = point.start_time_unix_nano, point.time_unix_nano, point.as_double
    if point.exemplars or point.flags or (double is None and point.as_int is None):
        return _encode_any_point(point, depth)
    try:
        text = bytes(point.attributes)
        return b"".join(
            (
                _pack_time(0x11, start) if start else b"",
                _pack_time(0x19, time) if time else b"",
                _pack_integer(0x31, point.as_int) if double is None else _pack_double(0x21, double),
                _known_set(text) or _encode_set(point.attributes, text, depth),
            )
        )
    except struct.error:
        return _encode_any_point(point, depth)


def _encode_set(raw: Raw, text: bytes, depth: int) -> bytes:
    data = _encode_attributes(raw, b"\x3a", depth)
    if len(text) <= _MAX_SET:
        _attribute_sets[text] = data
    return data


register_encoder(_NumberPoint, _encode_point)
