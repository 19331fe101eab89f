"""OTLP JSON, or protobuf's own JSON mapping of it, to one strict and compact line."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from rimp_otel.otlp import wire
from rimp_otel.otlp.scalars import (
    SEVERITIES,
    SPAN_KINDS,
    STATUS_CODES,
    TEMPORALITIES,
    boolean,
    enum_number,
    id_bytes,
    plain_bytes,
    uint64,
)
from rimp_otel.otlp.values import double_json

__all__ = ["normalize_line"]

Convert = Callable[[Any], Any]

_encode = msgspec.json.Encoder().encode


@wire.no_recursion_error
def normalize_line(text: str | bytes) -> bytes:
    """The line as strict OTLP JSON, without spaces and without a line end.

    Ids become lower-case hex, enumerations and 32-bit integers numbers, 64-bit integers strings,
    bytes standard base64. Nothing that OTLP defines is lost; fields that it does not know are.

    Raises:
        DecodeError: it is not OTLP JSON.
    """
    _, line = wire.parse(text)
    return _encode(_strict(line))


def _strict(value: Any) -> Any:
    """``value`` as it is to be encoded; a message is changed in place."""
    kind = type(value)
    if kind is str:
        return value
    if kind is wire.AnyValue and value.string_value is not None:
        return wire.AnyValue(value.string_value)  # of all messages there are most of these
    if kind is float:
        return value if value - value == 0.0 else double_json(value).strip('"')
    if kind is list or kind is tuple:
        return [_strict(item) for item in value]
    return _strict_message(value) if isinstance(value, wire.Message) else value


def _strict_message(message: wire.Message) -> wire.Message:
    if isinstance(message, _ONE_OF):
        _keep_first(message)
    for name, convert in _plan(type(message)):
        value = getattr(message, name)
        if value is not None:
            setattr(message, name, convert(value))
    return message


@cache
def _plan(kind: type[wire.Message]) -> list[tuple[str, Convert]]:
    """What is to be done with the fields of a message. A field's name tells what it means."""
    return [(name, _CONVERT.get(name, _strict)) for name in kind.__struct_fields__]


def _keep_first(message: wire.Message) -> None:
    # Of alternatives, protobuf refuses all but one. Which one counts is for the messages to say.
    is_set = [name for name in _ALTERNATIVES if getattr(message, name, None) is not None]
    for name in is_set[1:]:
        setattr(message, name, None)


def _int64(field: str) -> Convert:
    return lambda value: str(uint64(value, field))


def _enum(field: str, names: dict[str, int]) -> Convert:
    return lambda value: enum_number(value, names, field)


def _boolean(field: str) -> Convert:
    return lambda value: boolean(value, field)


def _id(field: str, size: int) -> Convert:
    return lambda text: id_bytes(text, size, field).hex() if text else None


def _counts(counts: tuple[int, ...]) -> list[str]:
    return [str(uint64(count, "bucketCounts")) for count in counts]


_ONE_OF = (wire.AnyValue, wire.NumberDataPoint, wire.Exemplar)
_ALTERNATIVES = (*wire.AnyValue.__struct_fields__, "as_double", "as_int")

_CONVERT: dict[str, Convert] = {
    "resource": lambda raw: _strict(wire.load_resource(raw)) if raw else raw,
    "scope": lambda raw: _strict(wire.load_scope(raw)) if raw else raw,
    "trace_id": _id("traceId", 16),
    "span_id": _id("spanId", 8),
    "parent_span_id": _id("parentSpanId", 8),
    "kind": _enum("kind", SPAN_KINDS),
    "code": _enum("code", STATUS_CODES),
    "severity_number": _enum("severityNumber", SEVERITIES),
    "aggregation_temporality": _enum("aggregationTemporality", TEMPORALITIES),
    "bool_value": _boolean("boolValue"),
    "is_monotonic": _boolean("isMonotonic"),
    "bytes_value": lambda text: b64encode(plain_bytes(text)).decode(),
    "int_value": str,
    "as_int": str,
    "bucket_counts": _counts,
    "time_unix_nano": _int64("timeUnixNano"),
    "observed_time_unix_nano": _int64("observedTimeUnixNano"),
    "start_time_unix_nano": _int64("startTimeUnixNano"),
    "end_time_unix_nano": _int64("endTimeUnixNano"),
    "count": _int64("count"),
    "zero_count": _int64("zeroCount"),
}
