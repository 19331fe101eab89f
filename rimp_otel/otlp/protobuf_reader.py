"""Reads OTLP's protobuf messages, of any form that the wire format allows, without protobuf's package.

The result is the message that strict OTLP JSON has: ids in hex, 64-bit integers as strings, bytes in
base64, and no field at its default. It is what protobuf's own parser reads, or an error where that has
one; on demand, a text that is no UTF-8 costs its characters only, which become U+FFFD.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, NamedTuple, TypeVar

from rimp_otel.otlp import messages
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.values import double_json

__all__ = [
    "BYTES",
    "FIELDS",
    "MAX_FIELDS",
    "MAX_MESSAGE_DEPTH",
    "VARINT",
    "NotUnicodeError",
    "read_field",
    "read_fields",
    "read_message",
    "read_varint",
]

MAX_MESSAGE_DEPTH = 100
"""The most messages that lie within each other, counted from the request, as protobuf's parsers have it."""

MAX_FIELDS = 100_000
"""The most fields of one message that are read one by one, which takes a few microseconds each."""

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
"""The wire types."""


class NotUnicodeError(FieldError):
    """A text is no UTF-8."""


# The wire.


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer at a position, and where it ends.

    Raises:
        FieldError: there is none.
    """
    result = shift = 0
    try:
        while True:
            byte = data[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise FieldError("an integer of more than ten bytes")
    except IndexError:
        raise FieldError("cut off within an integer") from None
    return result & 0xFFFF_FFFF_FFFF_FFFF, position


class Field(NamedTuple):
    """One field on the wire."""

    #: 0 for a group, which OTLP does not have.
    number: int
    wire_type: int
    #: The bytes; of a varint, its number.
    value: Any
    #: Where it ends.
    stop: int


def read_field(data: bytes, position: int, end: int, depth: int = 0) -> Field:
    """Return the field at a position.

    Args:
        data: the message, or what it lies in.
        position: where the field begins.
        end: where the message ends.
        depth: how many messages it lies in.

    Raises:
        FieldError: it is damaged.
    """
    tag, position = _read_tag(data, position)
    number, wire_type = tag >> 3, tag & 7
    if wire_type == GROUP:
        return Field(0, GROUP, None, _skip_group(data, position, end, number, depth + 1))
    value, position = _read_value(data, position, end, wire_type)
    return Field(number, wire_type, value, position)


def read_fields(data: bytes, depth: int = 0) -> Iterator[Field]:
    """Yield the fields of a message in their order.

    Args:
        data: the message.
        depth: how many messages it lies in.

    Raises:
        FieldError: the message is damaged.
    """
    position, end = 0, len(data)
    count = 0
    while position < end:
        field = read_field(data, position, end, depth)
        position = field.stop
        count += 1
        if count > MAX_FIELDS:
            raise FieldError(f"has more than {MAX_FIELDS:,} fields")
        yield field


def _read_tag(data: bytes, position: int) -> tuple[int, int]:
    tag, stop = read_varint(data, position)
    if tag >> 3 == 0 or tag > 0xFFFF_FFFF or stop - position > 5:
        raise FieldError("not a field")
    return tag, stop


def _read_value(data: bytes, position: int, end: int, wire_type: int) -> tuple[Any, int]:
    if wire_type == VARINT:
        value, stop = read_varint(data, position)
        if stop > end:
            raise FieldError("cut off")
        return value, stop
    if wire_type == BYTES:
        size, position = read_varint(data, position)
    elif wire_type in (FIXED64, FIXED32):
        size = 8 if wire_type == FIXED64 else 4
    else:
        raise FieldError("not a field")
    if size > end - position:
        raise FieldError("cut off")
    return data[position : position + size], position + size


def _skip_group(data: bytes, position: int, end: int, number: int, depth: int) -> int:
    """Return where a group ends whose start was read."""
    if depth > MAX_MESSAGE_DEPTH:
        raise FieldError("nested too deeply")
    while True:
        tag, position = _read_tag(data, position)
        if position > end:
            raise FieldError("cut off")
        if tag & 7 == END_GROUP:
            if tag >> 3 != number:
                raise FieldError("a group that does not end")
            return position
        if tag & 7 == GROUP:
            position = _skip_group(data, position, end, tag >> 3, depth + 1)
        else:
            _, position = _read_value(data, position, end, tag & 7)


# Values.

_DOUBLE, _UINT64, _INT64, _UINT32 = (Struct(f"<{code}") for code in "dQqI")


def _utf8_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NotUnicodeError("is no UTF-8") from None


def _repaired_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _double(value: bytes) -> Any:
    number = _DOUBLE.unpack(value)[0]
    return number if number - number == 0.0 else double_json(number).strip('"')


def _unsigned(value: bytes) -> str:
    return str(_UINT64.unpack(value)[0])


def _signed(value: bytes) -> str:
    return str(_INT64.unpack(value)[0])


def _fixed32(value: bytes) -> int:
    number: int = _UINT32.unpack(value)[0]
    return number


def _int64(value: int) -> str:
    return str(value - 2**64 if value >= 2**63 else value)


def _uint32(value: int) -> int:
    return value & 0xFFFF_FFFF


def _sint32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value >> 1 ^ -(value & 1)


def _enum_reader(most: int) -> Callable[[int], int]:
    def read(value: int) -> int:
        value &= 0xFFFF_FFFF
        number = value - 2**32 if value >= 2**31 else value
        if not 0 <= number <= most:
            raise FieldError(f"must be 0 to {most}, got {number}")
        return number

    return read


class _Kind(NamedTuple):
    """How a field of a scalar type is read."""

    wire_type: int
    read: Callable[[Any], Any]
    #: The size of a packed value; 0 for varints.
    size: int = 0
    #: The bits of a varint that count.
    mask: int = 0xFFFF_FFFF

    def is_default(self, value: Any) -> bool:
        """Return True if a value on the wire is the default, which OTLP JSON leaves out."""
        if self.wire_type == VARINT:
            return bool(value & self.mask == 0)
        return not value if self.wire_type == BYTES else not any(value)


_ALL_BITS = 2**64 - 1
_STRING = _Kind(BYTES, _utf8_text)
_BASE64 = _Kind(BYTES, _base64)
_ID = _Kind(BYTES, bytes.hex)
_BOOL = _Kind(VARINT, bool, mask=_ALL_BITS)
_VAR_UINT32 = _Kind(VARINT, _uint32)
_VAR_SINT32 = _Kind(VARINT, _sint32)
_VAR_INT64 = _Kind(VARINT, _int64, mask=_ALL_BITS)
_VAR_UINT64 = _Kind(VARINT, str, mask=_ALL_BITS)
_FIXED32 = _Kind(FIXED32, _fixed32, 4)
_FIXED64 = _Kind(FIXED64, _unsigned, 8)
_SFIXED64 = _Kind(FIXED64, _signed, 8)
_FLOAT64 = _Kind(FIXED64, _double, 8)
_OPEN_ENUM = _Kind(VARINT, _enum_reader(2**31 - 1))
_CLOSED_ENUM = _Kind(VARINT, _enum_reader(2))


# The fields of the messages, by their numbers.


class _Scalar(NamedTuple):
    name: str
    kind: _Kind
    is_repeated: bool = False
    #: Written even if it is the default.
    has_presence: bool = False


class _Nested(NamedTuple):
    name: str
    type: type[messages.OtlpMessage]
    is_repeated: bool = False


class _Ignored(NamedTuple):
    """A field that is read as not there, although it unsets the others of its alternatives."""

    wire_type: int


_Described = _Scalar | _Nested | _Ignored


def _attribute_list(name: str = "attributes") -> _Nested:
    return _Nested(name, messages.KeyValue, True)


def _optional(name: str, kind: _Kind) -> _Scalar:
    return _Scalar(name, kind, has_presence=True)


_TIME = _Scalar("time_unix_nano", _FIXED64)
_START_TIME = _Scalar("start_time_unix_nano", _FIXED64)
_DROPPED = _Scalar("dropped_attributes_count", _VAR_UINT32)
_TEMPORALITY = _Scalar("aggregation_temporality", _CLOSED_ENUM)
_POINT_FLAGS = _Scalar("flags", _VAR_UINT32)
_NUMBER_POINTS = _Nested("data_points", messages.NumberDataPoint, True)

FIELDS: dict[type[messages.OtlpMessage], dict[int, _Described]] = {
    messages.Resource: {
        1: _attribute_list(),
        2: _DROPPED,
        3: _Nested("entity_refs", messages.EntityRef, True),
    },
    messages.EntityRef: {
        1: _Scalar("schema_url", _STRING),
        2: _Scalar("type", _STRING),
        3: _Scalar("id_keys", _STRING, True),
        4: _Scalar("description_keys", _STRING, True),
    },
    messages.OtlpScope: {
        1: _Scalar("name", _STRING),
        2: _Scalar("version", _STRING),
        3: _attribute_list(),
        4: _DROPPED,
    },
    messages.KeyValue: {1: _Scalar("key", _STRING), 2: _Nested("value", messages.AnyValue)},
    messages.AnyValue: {
        1: _optional("string_value", _STRING),
        2: _optional("bool_value", _BOOL),
        3: _optional("int_value", _VAR_INT64),
        4: _optional("double_value", _FLOAT64),
        5: _Nested("array_value", messages.ArrayValue),
        6: _Nested("kvlist_value", messages.KeyValueList),
        7: _optional("bytes_value", _BASE64),
        8: _Ignored(VARINT),  # an index into the strings of a profile
    },
    messages.ArrayValue: {1: _Nested("values", messages.AnyValue, True)},
    messages.KeyValueList: {1: _Nested("values", messages.KeyValue, True)},
    messages.Span: {
        1: _Scalar("trace_id", _ID),
        2: _Scalar("span_id", _ID),
        3: _Scalar("trace_state", _STRING),
        4: _Scalar("parent_span_id", _ID),
        5: _Scalar("name", _STRING),
        6: _Scalar("kind", _OPEN_ENUM),
        7: _START_TIME,
        8: _Scalar("end_time_unix_nano", _FIXED64),
        9: _attribute_list(),
        10: _DROPPED,
        11: _Nested("events", messages.SpanEvent, True),
        12: _Scalar("dropped_events_count", _VAR_UINT32),
        13: _Nested("links", messages.Link, True),
        14: _Scalar("dropped_links_count", _VAR_UINT32),
        15: _Nested("status", messages.Status),
        16: _Scalar("flags", _FIXED32),
    },
    messages.SpanEvent: {1: _TIME, 2: _Scalar("name", _STRING), 3: _attribute_list(), 4: _DROPPED},
    messages.Link: {
        1: _Scalar("trace_id", _ID),
        2: _Scalar("span_id", _ID),
        3: _Scalar("trace_state", _STRING),
        4: _attribute_list(),
        5: _DROPPED,
        6: _Scalar("flags", _FIXED32),
    },
    messages.Status: {2: _Scalar("message", _STRING), 3: _Scalar("code", _CLOSED_ENUM)},
    messages.LogRecord: {
        1: _TIME,
        2: _Scalar("severity_number", _OPEN_ENUM),
        3: _Scalar("severity_text", _STRING),
        5: _Nested("body", messages.AnyValue),
        6: _attribute_list(),
        7: _DROPPED,
        8: _Scalar("flags", _FIXED32),
        9: _Scalar("trace_id", _ID),
        10: _Scalar("span_id", _ID),
        11: _Scalar("observed_time_unix_nano", _FIXED64),
        12: _Scalar("event_name", _STRING),
    },
    messages.Metric: {
        1: _Scalar("name", _STRING),
        2: _Scalar("description", _STRING),
        3: _Scalar("unit", _STRING),
        5: _Nested("gauge", messages.Gauge),
        7: _Nested("sum", messages.Sum),
        9: _Nested("histogram", messages.Histogram),
        10: _Nested("exponential_histogram", messages.ExponentialHistogram),
        11: _Nested("summary", messages.Summary),
        12: _attribute_list("metadata"),
    },
    messages.Gauge: {1: _NUMBER_POINTS},
    messages.Sum: {1: _NUMBER_POINTS, 2: _TEMPORALITY, 3: _Scalar("is_monotonic", _BOOL)},
    messages.Histogram: {
        1: _Nested("data_points", messages.HistogramDataPoint, True),
        2: _TEMPORALITY,
    },
    messages.ExponentialHistogram: {
        1: _Nested("data_points", messages.ExponentialHistogramDataPoint, True),
        2: _TEMPORALITY,
    },
    messages.Summary: {1: _Nested("data_points", messages.SummaryDataPoint, True)},
    messages.NumberDataPoint: {
        2: _START_TIME,
        3: _TIME,
        4: _optional("as_double", _FLOAT64),
        5: _Nested("exemplars", messages.OtlpExemplar, True),
        6: _optional("as_int", _SFIXED64),
        7: _attribute_list(),
        8: _POINT_FLAGS,
    },
    messages.OtlpExemplar: {
        2: _TIME,
        3: _optional("as_double", _FLOAT64),
        4: _Scalar("span_id", _ID),
        5: _Scalar("trace_id", _ID),
        6: _optional("as_int", _SFIXED64),
        7: _attribute_list("filtered_attributes"),
    },
    messages.HistogramDataPoint: {
        2: _START_TIME,
        3: _TIME,
        4: _Scalar("count", _FIXED64),
        5: _optional("sum", _FLOAT64),
        6: _Scalar("bucket_counts", _FIXED64, True),
        7: _Scalar("explicit_bounds", _FLOAT64, True),
        8: _Nested("exemplars", messages.OtlpExemplar, True),
        9: _attribute_list(),
        10: _POINT_FLAGS,
        11: _optional("min", _FLOAT64),
        12: _optional("max", _FLOAT64),
    },
    messages.ExponentialHistogramDataPoint: {
        1: _attribute_list(),
        2: _START_TIME,
        3: _TIME,
        4: _Scalar("count", _FIXED64),
        5: _optional("sum", _FLOAT64),
        6: _Scalar("scale", _VAR_SINT32),
        7: _Scalar("zero_count", _FIXED64),
        8: _Nested("positive", messages.OtlpBuckets),
        9: _Nested("negative", messages.OtlpBuckets),
        10: _POINT_FLAGS,
        11: _Nested("exemplars", messages.OtlpExemplar, True),
        12: _optional("min", _FLOAT64),
        13: _optional("max", _FLOAT64),
        14: _Scalar("zero_threshold", _FLOAT64),
    },
    messages.OtlpBuckets: {
        1: _Scalar("offset", _VAR_SINT32),
        2: _Scalar("bucket_counts", _VAR_UINT64, True),
    },
    messages.SummaryDataPoint: {
        2: _START_TIME,
        3: _TIME,
        4: _Scalar("count", _FIXED64),
        5: _Scalar("sum", _FLOAT64),
        6: _Nested("quantile_values", messages.ValueAtQuantile, True),
        7: _attribute_list(),
        8: _POINT_FLAGS,
    },
    messages.ValueAtQuantile: {
        1: _Scalar("quantile", _FLOAT64),
        2: _Scalar("value", _FLOAT64),
    },
}
"""The fields of each message by their numbers, as opentelemetry-proto has them."""

_POINT_VALUES = ("as_double", "as_int")
# Of each message, the fields of which only the last one counts.
_ALTERNATIVES: dict[type[messages.OtlpMessage], tuple[str, ...]] = {
    messages.AnyValue: messages.AnyValue.__struct_fields__,
    messages.NumberDataPoint: _POINT_VALUES,
    messages.OtlpExemplar: _POINT_VALUES,
    messages.Metric: ("gauge", "sum", "histogram", "exponential_histogram", "summary"),
}

MessageT = TypeVar("MessageT", bound=messages.OtlpMessage)


def read_message(
    kind: type[MessageT], data: bytes, depth: int, *, skipped: str = "", repair: bool = False
) -> MessageT:
    """Return a message in the form in which strict OTLP JSON has it, ready to be encoded.

    Args:
        kind: the type of the message.
        data: its bytes.
        depth: how many messages it lies in, counted from the request.
        skipped: the name of the messages within it that are not read.
        repair: replace what is no UTF-8 with U+FFFD.

    Raises:
        NotUnicodeError: a text is no UTF-8.
        FieldError: it is damaged, nested too deeply, or has an enumeration's value that OTLP does not
            allow.
    """
    message = kind()
    _MessageReader(skipped, repair).read_into(message, data, depth)
    return message


class _MessageReader:
    """Reads one message, and those within it."""

    def __init__(self, skipped: str, repair: bool) -> None:
        self._skipped = skipped
        self._read_text = _repaired_text if repair else _utf8_text

    def read_into(self, message: messages.OtlpMessage, data: bytes, depth: int) -> None:
        """Add the fields in ``data`` to a message."""
        if depth > MAX_MESSAGE_DEPTH:
            raise FieldError("nested too deeply")
        kind = type(message)
        fields, alternatives = FIELDS[kind], _ALTERNATIVES.get(kind, ())
        for number, wire_type, value, _ in read_fields(data, depth):
            field = fields.get(number)
            if isinstance(field, _Scalar):
                if self._set(message, field, wire_type, value) and field.name in alternatives:
                    _unset_others(message, alternatives, field.name)
            elif isinstance(field, _Nested):
                if wire_type == BYTES:
                    if field.name in alternatives:
                        _unset_others(message, alternatives, field.name)
                    self._read_nested(message, field, value, depth + 1)
            elif field is not None and field.wire_type == wire_type:
                _unset_others(message, alternatives, "")

    def _set(self, message: Any, field: _Scalar, wire_type: int, value: Any) -> bool:
        """Set a field, and return True; False if the value is of another type, and no such field."""
        name, kind = field.name, field.kind
        if wire_type != kind.wire_type and not (field.is_repeated and wire_type == BYTES):
            return False
        try:
            if kind is _STRING:
                found: Any = self._read_text(value)
            elif not field.is_repeated:
                found = kind.read(value)
            elif wire_type == kind.wire_type:
                found = [kind.read(value)]
            else:
                found = _read_packed(kind, value)
        except FieldError as error:
            place = f".{_json_name(message, name)}"
            raise type(error)(error.reason, place) from None
        if field.is_repeated:
            _extend(message, name, [found] if kind is _STRING else found)
        else:
            is_left_out = not field.has_presence and kind.is_default(value)
            setattr(message, name, None if is_left_out else found)
        return True

    def _read_nested(self, message: Any, field: _Nested, data: bytes, depth: int) -> None:
        if field.name == self._skipped:
            return
        nested: Any = field.type()
        if field.is_repeated:
            _extend(message, field.name, [nested])
        else:
            # Of one that comes twice, both are merged.
            nested = getattr(message, field.name) or nested
            setattr(message, field.name, nested)
        try:
            self.read_into(nested, data, depth)
        except FieldError as error:
            index = f"[{len(getattr(message, field.name)) - 1}]" if field.is_repeated else ""
            place = f".{_json_name(message, field.name)}{index}{error.place}"
            raise type(error)(error.reason, place) from None


def _unset_others(message: Any, alternatives: tuple[str, ...], kept: str) -> None:
    for name in alternatives:
        if name != kept:
            setattr(message, name, None)


def _extend(message: Any, name: str, found: list[Any]) -> None:
    items = getattr(message, name)
    if items is not None:
        items.extend(found)
    elif found:
        setattr(message, name, found)


def _read_packed(kind: _Kind, data: bytes) -> list[Any]:
    if kind.size:
        if len(data) % kind.size:
            raise FieldError("cut off")
        return [kind.read(data[at : at + kind.size]) for at in range(0, len(data), kind.size)]
    found = []
    position = 0
    while position < len(data):
        number, position = read_varint(data, position)
        found.append(kind.read(number))
    return found


def _json_name(message: messages.OtlpMessage, name: str) -> str:
    kind = type(message)
    return kind.__struct_encode_fields__[kind.__struct_fields__.index(name)]
