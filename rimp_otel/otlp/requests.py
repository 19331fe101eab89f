"""OTLP's export requests as encoded records, and the answers to them, in protobuf and JSON."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import msgspec

from rimp_otel.models.records import Signal
from rimp_otel.otlp.json_dialects import snake_case
from rimp_otel.otlp.json_requests import records_from_json
from rimp_otel.otlp.lines import EncodedRecord
from rimp_otel.otlp.messages import no_recursion_error
from rimp_otel.otlp.protobuf_reader import BYTES, VARINT, read_fields
from rimp_otel.otlp.protobuf_requests import records_from_protobuf
from rimp_otel.otlp.protobuf_writer import encode_varint
from rimp_otel.otlp.refusals import FieldError, Refusals

__all__ = [
    "DecodedRequest",
    "PartialSuccess",
    "RequestFormat",
    "decode_request",
    "decode_response",
    "decode_status",
    "encode_response",
    "encode_status",
]


class RequestFormat(enum.Enum):
    """How requests and answers are encoded; the value is the content type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


class DecodedRequest(NamedTuple):
    """The records of one export request."""

    #: The valid ones, in the request's order, as strict OTLP JSON.
    records: list[EncodedRecord]
    #: How many spans, log records or data points were refused.
    refused: int
    #: The first reasons, each with its place in the request; also of what was repaired. Else empty.
    reason: str


def decode_request(signal: Signal, body: bytes, format: RequestFormat) -> DecodedRequest:
    """Return the records of an ``Export…ServiceRequest``; each that is not valid costs itself alone.

    Equal resources, scopes and metrics become the same envelopes.

    Raises:
        DecodeError: nothing of the request can be decoded.
    """
    refusals = Refusals()
    read = records_from_json if format is RequestFormat.JSON else records_from_protobuf
    records = _guarded(read, signal, body, refusals)
    return DecodedRequest(records, refusals.count, str(refusals))


@no_recursion_error
def _guarded(read: Any, *arguments: Any) -> list[EncodedRecord]:
    found: list[EncodedRecord] = read(*arguments)
    return found


# Answers.

_REJECTED_KEYS = {
    Signal.TRACES: "rejectedSpans",
    Signal.LOGS: "rejectedLogRecords",
    Signal.METRICS: "rejectedDataPoints",
}


class PartialSuccess(NamedTuple):
    """What a destination says about the records that it did not take."""

    #: How many it refused for good; 0 with a message is a warning.
    rejected: int = 0
    message: str = ""


def encode_response(
    signal: Signal, format: RequestFormat, refused: int = 0, reason: str = ""
) -> bytes:
    """Return an ``Export…ServiceResponse``: of a full success, one without ``partialSuccess``.

    Args:
        signal: of the request.
        format: of the request, which is that of the answer.
        refused: how many records were refused.
        reason: why; with 0 refused, a warning.
    """
    if format is RequestFormat.JSON:
        partial: dict[str, str] = {}
        if refused:
            partial[_REJECTED_KEYS[signal]] = str(refused)
        if reason:
            partial["errorMessage"] = reason
        return msgspec.json.encode({"partialSuccess": partial} if partial else {})
    body = (b"\x08" + encode_varint(refused) if refused else b"") + _encode_text(0x12, reason)
    return b"\x0a" + encode_varint(len(body)) + body if body else b""


def decode_response(signal: Signal, format: RequestFormat, body: bytes) -> PartialSuccess:
    """Return what an ``Export…ServiceResponse`` says of refused records.

    An answer that cannot be read, as of a proxy, is that of a full success, since only its HTTP or
    gRPC status says that it is one.
    """
    try:
        if format is RequestFormat.JSON:
            return _partial_success_of_json(signal, body)
        return _partial_success_of_protobuf(body)
    except (msgspec.MsgspecError, RecursionError, FieldError, UnicodeError):
        return PartialSuccess()


def _partial_success_of_json(signal: Signal, body: bytes) -> PartialSuccess:
    found = msgspec.json.decode(body) if body.strip() else {}
    partial = _get_either(found, "partialSuccess")
    message = _get_either(partial, "errorMessage")
    return PartialSuccess(
        _to_count(_get_either(partial, _REJECTED_KEYS[signal])),
        message if isinstance(message, str) else "",
    )


def _get_either(found: object, key: str) -> object:
    """Return a field of a JSON object, also by its name in snake case, which is not OTLP JSON: whoever
    answers so has refused records all the same."""
    if not isinstance(found, dict):
        return None
    value = found.get(key)
    return found.get(snake_case(key)) if value is None else value


def _to_count(value: object) -> int:
    try:
        return max(0, int(value)) if isinstance(value, (int, str)) else 0
    except ValueError:
        return 0


def _partial_success_of_protobuf(body: bytes) -> PartialSuccess:
    parts = [field.value for field in read_fields(body) if field[:2] == (1, BYTES)]
    rejected, message = 0, ""
    for number, wire_type, value, _ in read_fields(b"".join(parts)):
        if (number, wire_type) == (1, VARINT):
            rejected = value if value < 2**63 else 0
        elif (number, wire_type) == (2, BYTES):
            message = value.decode("utf-8", "replace")
    return PartialSuccess(rejected, message)


def encode_status(format: RequestFormat, code: int, message: str) -> bytes:
    """Return a ``google.rpc.Status``, the body of an answer that is no success.

    Args:
        format: of the request, which is that of the answer.
        code: a gRPC status code.
        message: for the developer who reads it.
    """
    if format is RequestFormat.JSON:
        return msgspec.json.encode({"code": code, "message": message})
    return (b"\x08" + encode_varint(code) if code else b"") + _encode_text(0x12, message)


def decode_status(body: bytes, content_type: str) -> str:
    """Return the message of a ``google.rpc.Status``; empty if the body is none, as HTML of a proxy."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == RequestFormat.JSON.value:
            found = msgspec.json.decode(body)
            message = found.get("message") if isinstance(found, dict) else None
            return message if isinstance(message, str) else ""
        if kind == RequestFormat.PROTOBUF.value:
            texts = [field.value for field in read_fields(body) if field[:2] == (2, BYTES)]
            return texts[-1].decode() if texts else ""
    except (msgspec.MsgspecError, RecursionError, FieldError, UnicodeError):
        pass
    return ""


def _encode_text(tag: int, text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return bytes((tag,)) + encode_varint(len(data)) + data if data else b""
