"""Writes the messages of OTLP JSON in protobuf's binary form, without protobuf.

The bytes are those of protobuf's own encoder: fields by number, defaults left out. ``FIELDS`` has
the fields of each message, with their numbers and types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from rimp_otel.errors import DecodeError
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import (
    SEVERITIES,
    SPAN_KINDS,
    STATUS_CODES,
    TEMPORALITIES,
    bytes_from_base64,
    check_boolean,
    check_uint64,
    enum_number,
    id_bytes,
)
from rimp_otel.otlp.protobuf_reader import MAX_MESSAGE_DEPTH

__all__ = [
    "FIELDS",
    "Encoder",
    "FieldEncoding",
    "encode_message",
    "encode_varint",
    "keep_one_value",
    "length_prefix",
    "make_encoder",
    "register_encoder",
]

Encoder = Callable[[Any, int], bytes]
"""Encodes a message, or the value of a field with its tag, at a depth of messages; nothing for a
default."""


class FieldEncoding(NamedTuple):
    """A field of a message."""

    name: str
    number: int
    #: Makes the encoder of a field of this number.
    make_encoder: Callable[[FieldEncoding], Encoder]


# Varints and tags.


def encode_varint(value: int) -> bytes:
    """Return a number of 0 to 2**64 - 1 in groups of seven bits."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


_LENGTHS = [encode_varint(length) for length in range(2_048)]


def length_prefix(data: bytes) -> bytes:
    """Return the length of ``data`` as a varint."""
    length = len(data)
    return _LENGTHS[length] if length < 2_048 else encode_varint(length)


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _tag(field: FieldEncoding, wire_type: int) -> bytes:
    return encode_varint(field.number << 3 | wire_type)


# Types of fields.


def _varint_field(convert: Callable[[Any, str], int]) -> Callable[[FieldEncoding], Encoder]:
    def make(field: FieldEncoding) -> Encoder:
        tag = _tag(field, _VARINT)

        def encode(value: Any, _: int) -> bytes:
            number = convert(value, field.name)
            return tag + encode_varint(number) if number else b""

        return encode

    return make


def _enum(names: Mapping[str, int]) -> Callable[[FieldEncoding], Encoder]:
    return _varint_field(lambda value, name: enum_number(value, names, _camel(name)))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


_uint32 = _varint_field(lambda value, _: int(value))
_bool = _varint_field(lambda value, name: int(check_boolean(value, _camel(name))))
_sint32 = _varint_field(lambda value, _: value << 1 ^ value >> 31 if value < 0 else value << 1)


def _fixed(
    wire_type: int, format: str, check: Callable[[Any, str], Any], is_optional: bool = False
) -> Callable[[FieldEncoding], Encoder]:
    pack = struct.Struct(format).pack
    default = b"" if is_optional else pack(0)

    def make(field: FieldEncoding) -> Encoder:
        tag = _tag(field, wire_type)

        def encode(value: Any, _: int) -> bytes:
            data = pack(check(value, field.name))
            return b"" if data == default else tag + data

        return encode

    return make


def _check_uint64(value: Any, name: str) -> int:
    return check_uint64(value, _camel(name))


def _as_it_is(value: Any, _: str) -> Any:
    return value


_fixed32 = _fixed(_FIXED32, "<I", _as_it_is)
_fixed64 = _fixed(_FIXED64, "<Q", _check_uint64)
_double = _fixed(_FIXED64, "<d", _as_it_is)
_optional_double = _fixed(_FIXED64, "<d", _as_it_is, is_optional=True)
_optional_sfixed64 = _fixed(_FIXED64, "<q", _as_it_is, is_optional=True)


def _packed(
    encode_all: Callable[[Sequence[Any], str], bytes],
) -> Callable[[FieldEncoding], Encoder]:
    def make(field: FieldEncoding) -> Encoder:
        tag = _tag(field, _BYTES)

        def encode(values: Any, _: int) -> bytes:
            data = encode_all(values, field.name)
            return b"".join((tag, length_prefix(data), data)) if data else b""

        return encode

    return make


def _pack_fixed64(values: Sequence[int], name: str) -> bytes:
    try:
        return struct.pack(f"<{len(values)}Q", *values)
    except struct.error:
        return struct.pack(f"<{len(values)}Q", *[_check_uint64(value, name) for value in values])


_packed_fixed64 = _packed(_pack_fixed64)
_packed_double = _packed(lambda values, _: struct.pack(f"<{len(values)}d", *values))
_packed_uint64 = _packed(
    lambda values, name: b"".join([encode_varint(_check_uint64(value, name)) for value in values])
)


def _delimited(convert: Callable[[Any, str], bytes]) -> Callable[[FieldEncoding], Encoder]:
    def make(field: FieldEncoding) -> Encoder:
        tag = _tag(field, _BYTES)

        def encode(value: Any, _: int) -> bytes:
            data = convert(value, field.name)
            return b"".join((tag, length_prefix(data), data)) if data else b""

        return encode

    return make


def _id(size: int) -> Callable[[FieldEncoding], Encoder]:
    return _delimited(lambda text, name: id_bytes(text, size, _camel(name)) if text else b"")


_string = _delimited(lambda text, _: text.encode())
_trace_id, _span_id = _id(16), _id(8)


def _strings(field: FieldEncoding) -> Encoder:
    tag = _tag(field, _BYTES)

    def encode(texts: Any, _: int) -> bytes:
        parts = [text.encode() for text in texts]
        return b"".join([b"".join((tag, length_prefix(data), data)) for data in parts])

    return encode


def _message(field: FieldEncoding) -> Encoder:
    tag = _tag(field, _BYTES)

    def encode(message: Any, depth: int) -> bytes:
        data = encode_message(message, depth + 1)
        return b"".join((tag, length_prefix(data), data))

    return encode


def _messages(field: FieldEncoding) -> Encoder:
    tag = _tag(field, _BYTES)

    def encode(items: Any, depth: int) -> bytes:
        parts: list[bytes] = []
        for item in items:
            data = encode_message(item, depth + 1)
            parts += (tag, length_prefix(data), data)
        return b"".join(parts)

    return encode


# Values: of several alternatives one is written, also if it is a default.


def _encode_value(value: messages.AnyValue, depth: int) -> bytes:
    """Return the content of an AnyValue."""
    if value.string_value is not None:
        return _alternative(b"\x0a", value.string_value.encode())
    if value.int_value is not None:
        return b"\x18" + encode_varint(value.int_value & _MAX_UINT64)
    if value.double_value is not None:
        return b"\x21" + struct.pack("<d", value.double_value)
    if value.bool_value is not None:
        return b"\x10\x01" if check_boolean(value.bool_value, "boolValue") else b"\x10\x00"
    if value.array_value is not None:
        return _alternative(b"\x2a", encode_message(value.array_value, depth + 1))
    if value.kvlist_value is not None:
        return _alternative(b"\x32", encode_message(value.kvlist_value, depth + 1))
    if value.bytes_value is not None:
        return _alternative(b"\x3a", bytes_from_base64(value.bytes_value))
    return b""


_MAX_UINT64 = 2**64 - 1


def _alternative(tag: bytes, data: bytes) -> bytes:
    return b"".join((tag, length_prefix(data), data))


def keep_one_value(encode: Encoder) -> Encoder:
    """Have of a point's (or exemplar's) two values the one encoded that counts."""

    def encode_one(point: Any, depth: int) -> bytes:
        if point.as_double is not None:
            point.as_int = None
        return encode(point, depth)

    return encode_one


# Messages.


def _dropped(number: int) -> FieldEncoding:
    return FieldEncoding("dropped_attributes_count", number, _uint32)


def _attributes(number: int, name: str = "attributes") -> FieldEncoding:
    return FieldEncoding(name, number, _messages)


def _start_and_time() -> list[FieldEncoding]:
    return [
        FieldEncoding("start_time_unix_nano", 2, _fixed64),
        FieldEncoding("time_unix_nano", 3, _fixed64),
    ]


def _distribution() -> list[FieldEncoding]:
    return [
        *_start_and_time(),
        FieldEncoding("count", 4, _fixed64),
        FieldEncoding("sum", 5, _optional_double),
    ]


def _points(*others: FieldEncoding) -> list[FieldEncoding]:
    return [FieldEncoding("data_points", 1, _messages), *others]


_TEMPORALITY = FieldEncoding("aggregation_temporality", 2, _enum(TEMPORALITIES))


FIELDS: dict[type, list[FieldEncoding]] = {
    messages.KeyValue: [FieldEncoding("key", 1, _string), FieldEncoding("value", 2, _message)],
    messages.ArrayValue: [FieldEncoding("values", 1, _messages)],
    messages.KeyValueList: [FieldEncoding("values", 1, _messages)],
    messages.EntityRef: [
        FieldEncoding("schema_url", 1, _string),
        FieldEncoding("type", 2, _string),
        FieldEncoding("id_keys", 3, _strings),
        FieldEncoding("description_keys", 4, _strings),
    ],
    messages.Resource: [_attributes(1), _dropped(2), FieldEncoding("entity_refs", 3, _messages)],
    messages.OtlpScope: [
        FieldEncoding("name", 1, _string),
        FieldEncoding("version", 2, _string),
        _attributes(3),
        _dropped(4),
    ],
    messages.SpanEvent: [
        FieldEncoding("time_unix_nano", 1, _fixed64),
        FieldEncoding("name", 2, _string),
        _attributes(3),
        _dropped(4),
    ],
    messages.Link: [
        FieldEncoding("trace_id", 1, _trace_id),
        FieldEncoding("span_id", 2, _span_id),
        FieldEncoding("trace_state", 3, _string),
        _attributes(4),
        _dropped(5),
        FieldEncoding("flags", 6, _fixed32),
    ],
    messages.Status: [
        FieldEncoding("message", 2, _string),
        FieldEncoding("code", 3, _enum(STATUS_CODES)),
    ],
    messages.Span: [
        FieldEncoding("trace_id", 1, _trace_id),
        FieldEncoding("span_id", 2, _span_id),
        FieldEncoding("trace_state", 3, _string),
        FieldEncoding("parent_span_id", 4, _span_id),
        FieldEncoding("name", 5, _string),
        FieldEncoding("kind", 6, _enum(SPAN_KINDS)),
        FieldEncoding("start_time_unix_nano", 7, _fixed64),
        FieldEncoding("end_time_unix_nano", 8, _fixed64),
        _attributes(9),
        _dropped(10),
        FieldEncoding("events", 11, _messages),
        FieldEncoding("dropped_events_count", 12, _uint32),
        FieldEncoding("links", 13, _messages),
        FieldEncoding("dropped_links_count", 14, _uint32),
        FieldEncoding("status", 15, _message),
        FieldEncoding("flags", 16, _fixed32),
    ],
    messages.LogRecord: [
        FieldEncoding("time_unix_nano", 1, _fixed64),
        FieldEncoding("severity_number", 2, _enum(SEVERITIES)),
        FieldEncoding("severity_text", 3, _string),
        FieldEncoding("body", 5, _message),
        _attributes(6),
        _dropped(7),
        FieldEncoding("flags", 8, _fixed32),
        FieldEncoding("trace_id", 9, _trace_id),
        FieldEncoding("span_id", 10, _span_id),
        FieldEncoding("observed_time_unix_nano", 11, _fixed64),
        FieldEncoding("event_name", 12, _string),
    ],
    messages.OtlpExemplar: [
        FieldEncoding("time_unix_nano", 2, _fixed64),
        FieldEncoding("as_double", 3, _optional_double),
        FieldEncoding("span_id", 4, _span_id),
        FieldEncoding("trace_id", 5, _trace_id),
        FieldEncoding("as_int", 6, _optional_sfixed64),
        _attributes(7, "filtered_attributes"),
    ],
    messages.NumberDataPoint: [
        *_start_and_time(),
        FieldEncoding("as_double", 4, _optional_double),
        FieldEncoding("exemplars", 5, _messages),
        FieldEncoding("as_int", 6, _optional_sfixed64),
        _attributes(7),
        FieldEncoding("flags", 8, _uint32),
    ],
    messages.HistogramDataPoint: [
        *_distribution(),
        FieldEncoding("bucket_counts", 6, _packed_fixed64),
        FieldEncoding("explicit_bounds", 7, _packed_double),
        FieldEncoding("exemplars", 8, _messages),
        _attributes(9),
        FieldEncoding("flags", 10, _uint32),
        FieldEncoding("min", 11, _optional_double),
        FieldEncoding("max", 12, _optional_double),
    ],
    messages.OtlpBuckets: [
        FieldEncoding("offset", 1, _sint32),
        FieldEncoding("bucket_counts", 2, _packed_uint64),
    ],
    messages.ExponentialHistogramDataPoint: [
        _attributes(1),
        *_distribution(),
        FieldEncoding("scale", 6, _sint32),
        FieldEncoding("zero_count", 7, _fixed64),
        FieldEncoding("positive", 8, _message),
        FieldEncoding("negative", 9, _message),
        FieldEncoding("flags", 10, _uint32),
        FieldEncoding("exemplars", 11, _messages),
        FieldEncoding("min", 12, _optional_double),
        FieldEncoding("max", 13, _optional_double),
        FieldEncoding("zero_threshold", 14, _double),
    ],
    messages.ValueAtQuantile: [
        FieldEncoding("quantile", 1, _double),
        FieldEncoding("value", 2, _double),
    ],
    messages.SummaryDataPoint: [
        *_start_and_time(),
        FieldEncoding("count", 4, _fixed64),
        FieldEncoding("sum", 5, _double),
        FieldEncoding("quantile_values", 6, _messages),
        _attributes(7),
        FieldEncoding("flags", 8, _uint32),
    ],
    messages.Gauge: _points(),
    messages.Sum: _points(_TEMPORALITY, FieldEncoding("is_monotonic", 3, _bool)),
    messages.Histogram: _points(_TEMPORALITY),
    messages.ExponentialHistogram: _points(_TEMPORALITY),
    messages.Summary: _points(),
    messages.Metric: [
        FieldEncoding("name", 1, _string),
        FieldEncoding("description", 2, _string),
        FieldEncoding("unit", 3, _string),
        FieldEncoding("gauge", 5, _message),
        FieldEncoding("sum", 7, _message),
        FieldEncoding("histogram", 9, _message),
        FieldEncoding("exponential_histogram", 10, _message),
        FieldEncoding("summary", 11, _message),
        FieldEncoding("metadata", 12, _messages),
    ],
}
"""The fields of each message, by number. What is not here is text in lines: resources and scopes."""


def make_encoder(fields: Sequence[FieldEncoding]) -> Encoder:
    """Return a function that encodes these fields of a message."""
    get = _getter([field.name for field in fields])
    encoders = [field.make_encoder(field) for field in fields]

    def encode(message: Any, depth: int) -> bytes:
        return b"".join(
            [
                encode_field(value, depth)
                for value, encode_field in zip(get(message), encoders, strict=True)
                if value is not None
            ]
        )

    return encode


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda message: (get(message),)


_encoders: dict[type, Encoder] = {}


def register_encoder(kind: type, encode: Encoder) -> None:
    """Have ``encode_message`` know one more kind of message."""
    _encoders[kind] = encode


for _kind, _fields in FIELDS.items():
    register_encoder(_kind, make_encoder(_fields))
register_encoder(messages.AnyValue, _encode_value)
for _kind in (messages.NumberDataPoint, messages.OtlpExemplar):
    register_encoder(_kind, keep_one_value(_encoders[_kind]))


def encode_message(message: Any, depth: int) -> bytes:
    """Return the content of a message.

    Args:
        message: one of ``messages``.
        depth: how many messages are around it.

    Raises:
        DecodeError: a field is not OTLP's, or values are nested more deeply than protobuf allows.
    """
    if depth > MAX_MESSAGE_DEPTH:
        raise DecodeError("nested too deeply for protobuf")
    return _encoders[type(message)](message, depth)
