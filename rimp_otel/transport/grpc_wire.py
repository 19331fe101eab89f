"""What both ends of OTLP/gRPC share: the methods, the package grpc, and the details of a status."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from rimp_otel.errors import MissingExtraError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.protobuf_reader import BYTES, VARINT, read_fields
from rimp_otel.otlp.protobuf_writer import encode_varint, length_prefix
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.requests import RequestFormat, encode_status

__all__ = [
    "DETAILS_KEY",
    "METHODS",
    "claim_grpc",
    "clean_text",
    "encode_details",
    "import_grpc",
    "retry_delay_of",
]

METHODS = {
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
"""The method that takes each signal."""

DETAILS_KEY = "grpc-status-details-bin"
"""The trailing metadata that has a ``google.rpc.Status``."""

_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
# Protobuf's own bounds of a Duration: 10,000 years.
_MAX_SECONDS = 315_576_000_000
# Of a message: all metadata of an answer must fit into 8 KiB, and it is in there twice.
_MAX_TEXT = 1_000


def import_grpc() -> Any:
    """Return the package grpc.

    Where nobody has set otherwise, it writes nothing to standard error, and does nothing at a fork.

    Raises:
        MissingExtraError: it is not installed.
    """
    if "grpc" not in sys.modules:
        # It writes of each connection that fails, and of what a broken peer sends.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Its handlers of forks wait for its threads, which may wait for a peer.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    try:
        return importlib.import_module("grpc")
    except ImportError:
        raise MissingExtraError("grpcio", "grpc") from None


_users: list[int] = []


def claim_grpc() -> int:
    """Return the process that uses grpc: this one, unless one that it was forked from does already.

    What a child begins hangs then, past every deadline, since grpc's threads are not in it.
    """
    if not _users:
        _users.append(os.getpid())
    return _users[0]


def clean_text(text: str) -> str:
    """Return a text that can be shown and sent: one line of Unicode, not too long."""
    text = text[: _MAX_TEXT + 1]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"


def encode_details(code: int, message: str, retry_after: float | None = None) -> bytes:
    """Return a ``google.rpc.Status``.

    Args:
        code: a gRPC status code.
        message: for the developer who reads it.
        retry_after: seconds, for a RetryInfo; None for none.
    """
    status = encode_status(RequestFormat.PROTOBUF, code, message)
    if retry_after is None:
        return status
    nanos = round(retry_after * 1e9)
    duration = _number_field(0x08, nanos // 10**9) + _number_field(0x10, nanos % 10**9)
    info = _bytes_field(0x0A, duration)
    return status + _bytes_field(0x1A, _bytes_field(0x0A, _RETRY_INFO) + _bytes_field(0x12, info))


def retry_delay_of(details: bytes) -> float | None:
    """Return the seconds that a RetryInfo in a ``google.rpc.Status`` asks to wait.

    None if it has no RetryInfo, or cannot be read. One without a delay asks to wait 0 seconds.
    """
    try:
        for detail in _values_of(details, 3, BYTES):
            name = b"".join(_values_of(detail, 1, BYTES)).rpartition(b"/")[2]
            if name == _RETRY_INFO.rpartition(b"/")[2]:
                return _delay_of(b"".join(_values_of(detail, 2, BYTES)))
    except FieldError:
        pass
    return None


def _delay_of(info: bytes) -> float:
    duration = b"".join(_values_of(info, 1, BYTES))
    seconds = sum(_values_of(duration, 1, VARINT)[-1:])
    if seconds > _MAX_SECONDS:  # a negative one has the highest of 64 bits
        return 0.0
    nanos = sum(_values_of(duration, 2, VARINT)[-1:])
    return float(seconds + (nanos / 1e9 if nanos < 10**9 else 0.0))


def _values_of(message: bytes, number: int, wire_type: int) -> list[Any]:
    """Return the values of a field, one for each time that it is there."""
    return [field.value for field in read_fields(message) if field[:2] == (number, wire_type)]


def _number_field(tag: int, value: int) -> bytes:
    return bytes((tag,)) + encode_varint(value) if value else b""


def _bytes_field(tag: int, value: bytes) -> bytes:
    return bytes((tag,)) + length_prefix(value) + value
