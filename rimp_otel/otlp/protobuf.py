"""OTLP protobuf to OTLP JSON lines, and back.

Needs the extra ``protobuf``, which is imported when it is needed. The messages are TracesData,
LogsData and MetricsData; a request or a file of the Collector has the same form on the wire.
"""

from __future__ import annotations

import importlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import msgspec

from rimp_otel.errors import DecodeError, MissingExtraError
from rimp_otel.otlp.normalize import normalize_line
from rimp_otel.otlp.signals import Signal

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["line_from_protobuf", "protobuf_from_line", "signal_of_protobuf"]

_MESSAGES = {
    Signal.TRACES: ("opentelemetry.proto.trace.v1.trace_pb2", "TracesData"),
    Signal.LOGS: ("opentelemetry.proto.logs.v1.logs_pb2", "LogsData"),
    Signal.METRICS: ("opentelemetry.proto.metrics.v1.metrics_pb2", "MetricsData"),
}
_SIGNALS = {signal.resource_key: signal for signal in Signal}
_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def line_from_protobuf(signal: Signal, data: bytes) -> bytes:
    """The strict OTLP JSON line, without a line end, of a message in protobuf's binary form.

    Raises:
        DecodeError: it is no such message.
        MissingExtraError: protobuf or opentelemetry-proto is not installed.
    """
    message = _new_message(signal)
    protobuf = _import("google.protobuf.message")
    try:
        message.ParseFromString(data)
    except protobuf.DecodeError as error:
        raise DecodeError(f"not OTLP protobuf: {error}") from None
    json_format = _import("google.protobuf.json_format")
    plain = json_format.MessageToDict(message, use_integers_for_enums=True)
    return normalize_line(msgspec.json.encode(plain or {signal.resource_key: []}))


def signal_of_protobuf(data: bytes) -> Signal:
    """The signal of a message in protobuf's binary form, which does not say it: of the three, the
    one that knows the most of its fields, and can be read as OTLP.

    Raises:
        DecodeError: it is none of them.
        MissingExtraError: protobuf or opentelemetry-proto is not installed.
    """
    known = {signal: _known_bytes(signal, data) for signal in Signal}
    best = max(known.values())
    # A metric whose name has sixteen bytes could be a span without times; no real span is a metric.
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
    protobuf = _import("google.protobuf.message")
    try:
        message.ParseFromString(data)
    except protobuf.DecodeError:
        return -1
    message.DiscardUnknownFields()
    return int(message.ByteSize())


def protobuf_from_line(text: str | bytes) -> Message:
    """The TracesData, LogsData or MetricsData of a line, as protobuf's own JSON parser reads it.

    Raises:
        DecodeError: it is not OTLP JSON, or nested more deeply than protobuf allows.
        MissingExtraError: protobuf or opentelemetry-proto is not installed.
    """
    plain = msgspec.json.decode(normalize_line(text))
    message: Message = _new_message(_SIGNALS[next(iter(plain))])
    json_format = _import("google.protobuf.json_format")
    try:
        json_format.ParseDict(_with_base64_ids(plain), message)
    except json_format.ParseError as error:
        raise DecodeError(str(error)) from None
    return message


def _new_message(signal: Signal) -> Any:
    module, name = _MESSAGES[signal]
    return getattr(_import(module), name)()


def _import(module: str) -> Any:
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
