"""Export requests as records, and the answers to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, join_line
from rimp_otel.otlp.protobuf import line_from_protobuf
from rimp_otel.otlp.requests import (
    PartialSuccess,
    RequestFormat,
    decode_request,
    decode_response,
    decode_status,
    encode_response,
    encode_status,
)
from tests.otlp.test_protobuf import MESSAGES, fill

PROTOBUF, JSON = RequestFormat.PROTOBUF, RequestFormat.JSON
RESPONSES: dict[Signal, Any] = {
    Signal.TRACES: ExportTraceServiceResponse,
    Signal.LOGS: ExportLogsServiceResponse,
    Signal.METRICS: ExportMetricsServiceResponse,
}
REJECTED = {
    Signal.TRACES: "rejected_spans",
    Signal.LOGS: "rejected_log_records",
    Signal.METRICS: "rejected_data_points",
}


def line_of(signal: Signal, record: EncodedRecord) -> bytes:
    """Return the line of one record."""
    return join_line(signal, {record[1:4]: record.text.encode()})


def valid_request(draw: Any, signal: Signal) -> Any:
    """Return a message of the signal with any fields, and ids that OTLP allows."""
    message = MESSAGES[signal]()
    fill(draw, message, 0)
    if signal is Signal.TRACES:
        for group in message.resource_spans:
            for scoped in group.scope_spans:
                for span in scoped.spans:
                    span.trace_id, span.span_id = b"\1" * 16, b"\2" * 8
    return message


def single_requests(signal: Signal, message: Any) -> list[Any]:
    """Return a message for each record of a message."""
    found = []
    for group in message.ListFields()[0][1] if message.ListFields() else ():
        for scoped in getattr(group, snake(signal.scope_key)):
            for record in getattr(scoped, snake(signal.record_key)):
                found += [
                    enclosed(signal, group, scoped, single) for single in single_points(record)
                ]
    return found


def single_points(record: Any) -> list[Any]:
    """Return a span or log record, and of a metric one metric for each of its points."""
    if not hasattr(record, "data_points") and "data" not in record.DESCRIPTOR.oneofs_by_name:
        return [record]
    found = []
    name = record.WhichOneof("data")
    for point in getattr(record, name).data_points if name else ():
        single = type(record)()
        single.CopyFrom(record)
        del getattr(single, name).data_points[:]
        getattr(single, name).data_points.add().CopyFrom(point)
        found.append(single)
    return found


def enclosed(signal: Signal, group: Any, scoped: Any, record: Any) -> Any:
    """Return a message with one record, in its resource and scope."""
    message = MESSAGES[signal]()
    outer = getattr(message, snake(signal.resource_key)).add()
    outer.CopyFrom(group)
    del getattr(outer, snake(signal.scope_key))[:]
    inner = getattr(outer, snake(signal.scope_key)).add()
    inner.CopyFrom(scoped)
    del getattr(inner, snake(signal.record_key))[:]
    getattr(inner, snake(signal.record_key)).add().CopyFrom(record)
    return message


def snake(camel: str) -> str:
    """Return a name of OTLP JSON as protobuf has it."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in camel)


@pytest.mark.parametrize("signal", list(Signal))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_records_of_a_protobuf_request_are_those_of_its_lines(signal, data):
    """Each record of a request is what ``line_from_protobuf`` makes of it alone."""
    message = valid_request(data.draw, signal)
    decoded = decode_request(signal, message.SerializeToString(), PROTOBUF)
    singles = single_requests(signal, message)
    lines = [line_from_protobuf(signal, single.SerializeToString()) for single in singles]
    assert [line_of(signal, record) for record in decoded.records] == lines


@pytest.mark.parametrize("signal", list(Signal))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_json_request_has_the_records_of_the_protobuf_request(signal, data):
    """The same request as OTLP JSON gives the same records."""
    request = valid_request(data.draw, signal).SerializeToString()
    decoded = decode_request(signal, request, PROTOBUF)
    line = line_from_protobuf(signal, request)
    assert decode_request(signal, line, JSON) == decoded


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize(("body", "format"), [(b"", PROTOBUF), (b"{}", JSON)])
def test_an_empty_request_has_no_records(signal, body, format):
    """An empty request is a request."""
    assert decode_request(signal, body, format) == ([], 0, "")


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b"{", b'{"resourceSpans":5}', b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body):
    """Of such a body nothing can be decoded."""
    with pytest.raises(DecodeError):
        decode_request(Signal.TRACES, body, JSON)


# Answers.


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize(("refused", "reason"), [(0, ""), (0, "warn"), (3, "why é"), (2**40, "")])
def test_a_response_is_read_by_protobufs_own_parser(signal, refused, reason):
    """An encoded response is that of the official messages, in both formats, and can be decoded."""
    official = RESPONSES[signal].FromString(encode_response(signal, PROTOBUF, refused, reason))
    assert official.HasField("partial_success") == bool(refused or reason)
    assert getattr(official.partial_success, REJECTED[signal]) == refused
    assert official.partial_success.error_message == reason
    for format in RequestFormat:
        body = encode_response(signal, format, refused, reason)
        assert decode_response(signal, format, body) == PartialSuccess(refused, reason)


@pytest.mark.parametrize(
    ("format", "body"),
    [
        (JSON, b""),
        (JSON, b"{}"),
        (JSON, b'{"partialSuccess":{}}'),
        (JSON, b'{"partialSuccess":null}'),
        (JSON, b"<html>"),
        (JSON, b"[]"),
        (PROTOBUF, b""),
        (PROTOBUF, b"\x0a\x00"),
        (PROTOBUF, b"<html>"),
    ],
)
def test_every_form_of_a_full_success_is_one(format, body):
    """The success bodies of all receivers say that nothing was rejected."""
    assert decode_response(Signal.TRACES, format, body) == PartialSuccess(0, "")


@pytest.mark.parametrize("signal", list(Signal))
def test_rejected_counts_may_be_numbers_or_texts(signal):
    """A count in JSON is a number or its text."""
    key = json.loads(encode_response(signal, JSON, 5))["partialSuccess"].popitem()[0]
    for count in (5, "5"):
        body = json.dumps({"partialSuccess": {key: count, "errorMessage": "m"}}).encode()
        assert decode_response(signal, JSON, body) == PartialSuccess(5, "m")


def test_a_status_is_googles():
    """An encoded status is that of googleapis, in both formats."""
    assert Status.FromString(encode_status(PROTOBUF, 3, "bad é")) == Status(code=3, message="bad é")
    assert json.loads(encode_status(JSON, 3, "bad")) == {"code": 3, "message": "bad"}
    for format in RequestFormat:
        body = encode_status(format, 3, "bad é")
        assert decode_status(body, f"{format.value}; charset=utf-8") == "bad é"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>404</html>", "text/html"),
        (b"<html>404</html>", "application/json"),
        (b"<html>404</html>", "application/x-protobuf"),
        (b"", ""),
        (b'{"message":5}', "application/json"),
    ],
)
def test_what_is_no_status_has_no_message(body, content_type):
    """A proxy's answer is not parsed as a status."""
    assert decode_status(body, content_type) == ""
