"""Converts OTLP protobuf to OTLP JSON lines and back, and any JSON mapping to strict OTLP JSON.

Protobuf needs the extra ``protobuf``, which is imported when it is needed. The messages are TracesData,
LogsData and MetricsData; a request or a file of the Collector has the same form in protobuf.
"""

from __future__ import annotations

import importlib
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from rimp_otel.errors import DecodeError, MissingExtraError
from rimp_otel.models.records import Signal
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
from rimp_otel.otlp.protobuf_requests import line_from_groups
from rimp_otel.otlp.values import double_json

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = [
    "line_from_message",
    "line_from_protobuf",
    "make_strict",
    "normalize_line",
    "protobuf_from_line",
    "signal_of_protobuf",
]


# OTLP JSON, or protobuf's own JSON mapping of it, to one strict and compact line.

Converter = Callable[[Any], Any]

_encode = msgspec.json.Encoder().encode


@messages.no_recursion_error
def normalize_line(text: str | bytes) -> bytes:
    """Return the line as strict OTLP JSON, without spaces and without a line end.

    Ids become lower-case hex, enumerations and 32-bit integers numbers, 64-bit integers strings,
    bytes standard base64. Fields that OTLP does not define are lost, all others kept.

    Raises:
        DecodeError: the line is not OTLP JSON.
    """
    _, line = messages.decode_messages(text)
    return _encode(make_strict(line))


def make_strict(value: Any) -> Any:
    """Return ``value`` in the form to be encoded; a message is changed in place."""
    kind = type(value)
    if kind is str:
        return value
    if kind is messages.AnyValue and value.string_value is not None:
        return messages.AnyValue(value.string_value)  # of all messages there are most of these
    if kind is float:
        return value if value - value == 0.0 else double_json(value).strip('"')
    if kind is list or kind is tuple:
        return [make_strict(item) for item in value]
    return _make_message_strict(value) if isinstance(value, messages.OtlpMessage) else value


def _make_message_strict(message: messages.OtlpMessage) -> messages.OtlpMessage:
    if isinstance(message, _ONE_OF):
        _keep_first_alternative(message)
    for name, convert in _field_converters(type(message)):
        value = getattr(message, name)
        if value is not None:
            setattr(message, name, convert(value))
    return message


@cache
def _field_converters(kind: type[messages.OtlpMessage]) -> list[tuple[str, Converter]]:
    """Return the conversions of a message's fields. A field's name tells its meaning."""
    return [(name, _CONVERT.get(name, make_strict)) for name in kind.__struct_fields__]


def _keep_first_alternative(message: messages.OtlpMessage) -> None:
    # Protobuf refuses more than one of several alternatives. The messages define which one counts.
    is_set = [name for name in _ALTERNATIVES if getattr(message, name, None) is not None]
    for name in is_set[1:]:
        setattr(message, name, None)


def _int64_converter(field: str) -> Converter:
    return lambda value: str(check_uint64(value, field))


def _enum_converter(field: str, names: dict[str, int]) -> Converter:
    return lambda value: enum_number(value, names, field)


def _boolean_converter(field: str) -> Converter:
    return lambda value: check_boolean(value, field)


def _id_converter(field: str, size: int) -> Converter:
    return lambda text: id_bytes(text, size, field).hex() if text else None


def _convert_counts(counts: tuple[int, ...]) -> list[str]:
    return [str(check_uint64(count, "bucketCounts")) for count in counts]


_ONE_OF = (messages.AnyValue, messages.NumberDataPoint, messages.OtlpExemplar)
_ALTERNATIVES = (*messages.AnyValue.__struct_fields__, "as_double", "as_int")

_CONVERT: dict[str, Converter] = {
    "resource": lambda raw: make_strict(messages.decode_resource(raw)) if raw else raw,
    "scope": lambda raw: make_strict(messages.decode_scope(raw)) if raw else raw,
    "trace_id": _id_converter("traceId", 16),
    "span_id": _id_converter("spanId", 8),
    "parent_span_id": _id_converter("parentSpanId", 8),
    "kind": _enum_converter("kind", SPAN_KINDS),
    "code": _enum_converter("code", STATUS_CODES),
    "severity_number": _enum_converter("severityNumber", SEVERITIES),
    "aggregation_temporality": _enum_converter("aggregationTemporality", TEMPORALITIES),
    "bool_value": _boolean_converter("boolValue"),
    "is_monotonic": _boolean_converter("isMonotonic"),
    "bytes_value": lambda text: b64encode(bytes_from_base64(text)).decode(),
    "int_value": str,
    "as_int": str,
    "bucket_counts": _convert_counts,
    "time_unix_nano": _int64_converter("timeUnixNano"),
    "observed_time_unix_nano": _int64_converter("observedTimeUnixNano"),
    "start_time_unix_nano": _int64_converter("startTimeUnixNano"),
    "end_time_unix_nano": _int64_converter("endTimeUnixNano"),
    "count": _int64_converter("count"),
    "zero_count": _int64_converter("zeroCount"),
}


# Protobuf's binary form.

_MESSAGES = {
    Signal.TRACES: ("opentelemetry.proto.trace.v1.trace_pb2", "TracesData"),
    Signal.LOGS: ("opentelemetry.proto.logs.v1.logs_pb2", "LogsData"),
    Signal.METRICS: ("opentelemetry.proto.metrics.v1.metrics_pb2", "MetricsData"),
}
_SIGNALS = {signal.resource_key: signal for signal in Signal}
_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def line_from_protobuf(signal: Signal, data: bytes) -> bytes:
    """Return the strict OTLP JSON line, without its end, of a message in protobuf's binary form.

    Raises:
        DecodeError: ``data`` is not such a message.
        MissingExtraError: protobuf or opentelemetry-proto is not installed.
    """
    return line_from_groups(signal, data) or line_from_message(signal, data)


def line_from_message(signal: Signal, data: bytes) -> bytes:
    """Return what ``line_from_protobuf`` returns, by protobuf's own parser, which takes much longer.

    Raises:
        DecodeError: ``data`` is not such a message.
        MissingExtraError: protobuf or opentelemetry-proto is not installed.
    """
    message = _new_message(signal)
    protobuf = _import_protobuf("google.protobuf.message")
    try:
        message.ParseFromString(data)
    except protobuf.DecodeError as error:
        raise DecodeError(f"not OTLP protobuf: {error}") from None
    json_format = _import_protobuf("google.protobuf.json_format")
    plain = json_format.MessageToDict(message, use_integers_for_enums=True)
    return normalize_line(msgspec.json.encode(plain or {signal.resource_key: []}))


def signal_of_protobuf(data: bytes) -> Signal:
    """Return the signal of a message in protobuf's binary form, which does not tell it.

    It is the one of the three whose message type knows the most of the fields, and by which the
    data can be read as OTLP.

    Raises:
        DecodeError: ``data`` is of no signal.
        MissingExtraError: protobuf or opentelemetry-proto is not installed.
    """
    known = {signal: _known_bytes(signal, data) for signal in Signal}
    best = max(known.values())
    # A metric with a name of sixteen bytes could be a span without times; no real span is a metric.
    candidates = [signal for signal in reversed(Signal) if known[signal] == best]
    if best <= 0 < len(data):
        raise DecodeError("not OTLP protobuf: neither TracesData, LogsData nor MetricsData")
    while len(candidates) > 1:
        try:
            line_from_protobuf(candidates[0], data)
            break
        except DecodeError:
            candidates.pop(0)
    return candidates[0]


def _known_bytes(signal: Signal, data: bytes) -> int:
    message = _new_message(signal)
    protobuf = _import_protobuf("google.protobuf.message")
    try:
        message.ParseFromString(data)
    except protobuf.DecodeError:
        return -1
    message.DiscardUnknownFields()
    return int(message.ByteSize())


def protobuf_from_line(text: str | bytes) -> Message:
    """Return the TracesData, LogsData or MetricsData of a line, as protobuf's JSON parser reads it.

    Raises:
        DecodeError: the line is not OTLP JSON, or nested more deeply than protobuf allows.
        MissingExtraError: protobuf or opentelemetry-proto is not installed.
    """
    plain = msgspec.json.decode(normalize_line(text))
    message: Message = _new_message(_SIGNALS[next(iter(plain))])
    json_format = _import_protobuf("google.protobuf.json_format")
    try:
        json_format.ParseDict(_with_base64_ids(plain), message)
    except json_format.ParseError as error:
        raise DecodeError(str(error)) from None
    return message


def _new_message(signal: Signal) -> Any:
    module, name = _MESSAGES[signal]
    return getattr(_import_protobuf(module), name)()


def _import_protobuf(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError("protobuf", "protobuf") from None


def _with_base64_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: b64encode(bytes.fromhex(item)).decode() if key in _IDS else _with_base64_ids(item)
        for key, item in value.items()
    }
