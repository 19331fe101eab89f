"""Export requests as records, and the answers to them."""

from __future__ import annotations

import json
import random
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
from rimp_otel.otlp import refusals
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.lines import EncodedRecord, join_line
from rimp_otel.otlp.protobuf import line_from_protobuf, normalize_line, protobuf_from_line
from rimp_otel.otlp.protobuf_reader import BYTES, read_fields
from rimp_otel.otlp.requests import (
    PartialSuccess,
    RequestFormat,
    decode_request,
    decode_response,
    decode_status,
    encode_response,
    encode_status,
)
from tests.otlp.mutate import damage, fill_at_random, twisted_json
from tests.otlp.test_protobuf import MESSAGES, fill
from tests.otlp.test_protobuf_reader import enclosed_span, nested_value

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
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_records_of_a_protobuf_request_are_those_of_its_lines(signal, data):
    """Each record of a request is what ``line_from_protobuf`` makes of it alone."""
    message = valid_request(data.draw, signal)
    decoded = decode_request(signal, message.SerializeToString(), PROTOBUF)
    singles = single_requests(signal, message)
    lines = [line_from_protobuf(signal, single.SerializeToString()) for single in singles]
    assert [line_of(signal, record) for record in decoded.records] == lines


@pytest.mark.parametrize("signal", list(Signal))
@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_json_request_has_the_records_of_the_protobuf_request(signal, data):
    """The same request as OTLP JSON gives the same records."""
    request = valid_request(data.draw, signal).SerializeToString()
    decoded = decode_request(signal, request, PROTOBUF)
    line = line_from_protobuf(signal, request)
    assert decode_request(signal, line, JSON) == decoded


def padded(data: bytes, descriptor: Any, *, has_short_texts: bool) -> bytes:
    """Return a message with sizes of four bytes, as .NET's exporter writes those of messages before it
    knows them; perhaps also of texts, ids and lists."""
    made = b""
    for number, wire_type, value, _ in read_fields(data):
        field = descriptor.fields_by_number[number]
        tag = varint(number << 3 | wire_type)
        if wire_type != BYTES:
            made += tag + (varint(value) if isinstance(value, int) else value)
            continue
        if field.message_type is not None:
            value = padded(value, field.message_type, has_short_texts=has_short_texts)
        elif has_short_texts:
            made += tag + varint(len(value)) + value
            continue
        size = len(value)
        made += tag + bytes(size >> shift & 0x7F | 0x80 for shift in (0, 7, 14))
        made += bytes([size >> 21]) + value
    return made


def varint(value: int) -> bytes:
    """Return an integer as it stands on the wire."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


@pytest.mark.parametrize("signal", list(Signal))
def test_sizes_may_be_longer_than_they_need_to_be(signal):
    """The records of such a request are those of the same one with short sizes."""
    chance = random.Random(4)
    for _ in range(30):
        message = MESSAGES[signal]()
        fill_at_random(chance, message, 0)
        body = message.SerializeToString()
        for has_short_texts in (True, False):
            long = padded(body, message.DESCRIPTOR, has_short_texts=has_short_texts)
            assert MESSAGES[signal].FromString(long).SerializeToString() == body
            assert decode_request(signal, long, PROTOBUF) == decode_request(signal, body, PROTOBUF)


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


# What is refused, and what it costs.

TRACE_ID, SPAN_ID = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def json_span(**fields: Any) -> dict[str, Any]:
    """Return a valid span in OTLP JSON, with other fields."""
    times = {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    return {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "good", **times, **fields}


def json_request(*spans: dict[str, Any], **fields: Any) -> bytes:
    """Return a request with these spans between two good ones."""
    scope = {"scope": {"name": "s"}, "spans": [json_span(), *spans, json_span()]}
    resource = {"attributes": [{"key": "r", "value": {"stringValue": "x"}}]}
    return json.dumps(
        {"resourceSpans": [{"resource": resource, "scopeSpans": [scope], **fields}]}
    ).encode()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"traceId": "0102030405"}, ".traceId: must be 16 bytes, got 5"),
        ({"traceId": "00" * 16}, ".traceId: is invalid: all its bytes are zero"),
        ({"traceId": ""}, ".traceId: must be 16 bytes, and there is none"),
        ({"traceId": None}, ".traceId: must be 16 bytes, and there is none"),
        ({"spanId": "zz" * 8}, ".spanId: must be 16 hex digits, got 'zzzzzzzzzzzzzzzz'"),
        ({"spanId": "00" * 8}, ".spanId: is invalid: all its bytes are zero"),
        ({"spanId": "7uGbfsPBsXQ="}, "got base64: that is protobuf's own JSON mapping"),
        ({"traceId": "W47/95gDgQPSabYzgT/GDA=="}, "got base64: that is protobuf's own JSON"),
        ({"parentSpanId": "abcd"}, ".parentSpanId: must be 8 bytes, got 2"),
        ({"kind": "SPAN_KIND_CLIENT"}, ".kind: must be a number, got the name 'SPAN_KIND_CLIENT'"),
        ({"status": {"code": "STATUS_CODE_OK"}}, ".status.code: must be a number, got the name"),
        ({"status": {"code": 3}}, ".status.code: Expected `int` <= 2"),
        ({"startTimeUnixNano": "-1"}, ".startTimeUnixNano: Expected `int` >= 0"),
        ({"endTimeUnixNano": 2**64}, "endTimeUnixNano=18446744073709551616 is larger than 64 bits"),
        ({"name": 5}, ".name: Expected `str | null`, got `int`"),
        ({"attributes": [{"key": "k", "value": {"intValue": 2**63}}]}, ".attributes[0].value.intV"),
        ({"attributes": [{"key": "k", "value": {"bytesValue": "*"}}]}, "is not base64"),
        ({"links": [{"traceId": "ab", "spanId": SPAN_ID}]}, ".links[0].traceId: must be 16 bytes"),
        ({"trace_id": TRACE_ID}, "has the key trace_id, which OTLP JSON has as traceId only"),
        ({"attributes": [{"k": "v", "value": {"string_value": "x"}}]}, "has the key string_value"),
    ],
)
def test_a_bad_record_in_json_costs_itself_and_says_why(fields, reason):
    """The good ones around it are kept, and the reason has its place."""
    decoded = decode_request(Signal.TRACES, json_request(json_span(**fields)), JSON)
    assert (len(decoded.records), decoded.refused) == (2, 1)
    assert decoded.reason.startswith("resourceSpans[0].scopeSpans[0].spans[1]")
    assert reason in decoded.reason
    assert decoded.records[0][1:] == decoded.records[1][1:]


def test_what_is_no_record_costs_itself():
    """A record that is no object, or null, is refused."""
    spans: list[Any] = [5, None, "x", []]
    decoded = decode_request(Signal.TRACES, json_request(*spans), JSON)
    assert (len(decoded.records), decoded.refused) == (2, 4)


@pytest.mark.parametrize(
    ("group", "refused"),
    [
        (5, 1),
        (None, 1),
        ({"resource": 5, "scopeSpans": [{"spans": [json_span()] * 3}]}, 3),
        ({"resource": {"attributes": 5}, "scopeSpans": [{"spans": [json_span()]}, 5]}, 2),
        ({"scopeSpans": 5}, 1),
        ({"scopeSpans": [5]}, 1),
        ({"scopeSpans": [{"scope": "x", "spans": [json_span()] * 3}]}, 3),
        ({"scopeSpans": [{"spans": 5}]}, 1),
        ({"schemaUrl": 5, "scopeSpans": [{"spans": [json_span()]}]}, 1),
    ],
)
def test_a_bad_resource_or_scope_costs_its_own_records(group, refused):
    """The other resources are kept, and the records of the bad one are counted where that is possible."""
    good = json.loads(json_request())["resourceSpans"]
    body = json.dumps({"resourceSpans": [*good, group, *good]}).encode()
    decoded = decode_request(Signal.TRACES, body, JSON)
    assert (len(decoded.records), decoded.refused) == (4, refused)
    assert "resourceSpans[1]" in decoded.reason


def test_only_the_first_reasons_are_told():
    """A request of bad records has a bounded reason, and an exact count."""
    spans = [json_span(traceId="ab" * 300)] * 100
    decoded = decode_request(Signal.TRACES, json_request(*spans), JSON)
    assert (len(decoded.records), decoded.refused) == (2, 100)
    assert decoded.reason.endswith("; and 95 more")
    assert len(decoded.reason) < 2_000


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"resource_spans":[]}', "resource_spans"),
        (b'{"resourceSpans":[{"scope_spans":[]}]}', "scope_spans"),
        (b'{"resourceLogs":[]}', "resourceLogs"),
        (b'{"resourceSpans" : [{"scopeSpans" : [{"log_records" : []}]}]}', "log_records"),
    ],
)
def test_records_in_lists_of_other_names_are_not_lost_without_a_word(body, named):
    """A request in snake case, or of another signal, is refused as a whole, and the key named."""
    with pytest.raises(DecodeError, match=named):
        decode_request(Signal.TRACES, body, JSON)


def test_unknown_fields_are_ignored():
    """Also those in snake case that OTLP has nowhere, and any in texts."""
    name = 'trace_id":1'
    span = json_span(name=name, some_field={"other_field": 1}, future=[{"x": 1}])
    body = json_request(span, extension_point={"a_b": 1})
    decoded = decode_request(Signal.TRACES, body, JSON)
    assert (len(decoded.records), decoded.refused) == (3, 0)
    assert json.loads(decoded.records[1].text)["name"] == name
    assert decode_request(Signal.TRACES, b'{"foo":1}', JSON) == ([], 0, "")


def test_a_log_record_is_kept_without_an_invalid_id():
    """As OTLP wants it, with a warning; one in base64 is refused."""
    logs = [{"traceId": "abcd", "spanId": "x"}, {"traceId": "W47/95gDgQPSabYzgT/GDA=="}]
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}
    decoded = decode_request(Signal.LOGS, json.dumps(body).encode(), JSON)
    assert [record.text for record in decoded.records] == ["{}"]
    assert decoded.refused == 1
    assert "kept without its traceId, which must be 16 bytes, got 2" in decoded.reason
    message = MESSAGES[Signal.LOGS]()
    message.resource_logs.add().scope_logs.add().log_records.add(span_id=b"short")
    decoded = decode_request(Signal.LOGS, message.SerializeToString(), PROTOBUF)
    assert ([record.text for record in decoded.records], decoded.refused) == (["{}"], 0)
    assert decoded.reason == (
        "resourceLogs[0].scopeLogs[0].logRecords[0]:"
        " kept without its spanId, which must be 8 bytes, got 5"
    )


def test_requests_of_the_first_otlp_json_are_understood():
    """What was called an instrumentation library is a scope."""
    body = json_request().replace(b"scopeSpans", b"instrumentationLibrarySpans")
    body = body.replace(b'"scope"', b'"instrumentationLibrary"')
    assert decode_request(Signal.TRACES, body, JSON) == decode_request(
        Signal.TRACES, json_request(), JSON
    )


METRIC = {"name": "m", "sum": {"dataPoints": [{"asInt": "1"}], "aggregationTemporality": 2}}


@pytest.mark.parametrize(
    ("metric", "refused", "reason"),
    [
        ({"name": "m"}, 1, ": a metric without data of a kind that OTLP defines"),
        ({"name": "m", "unknownKind": {"dataPoints": [{}]}}, 1, ": a metric without data"),
        ({**METRIC, "gauge": {"dataPoints": [{}, {}]}}, 1, ": has data of more than one kind"),
        ({"name": 5, "gauge": {"dataPoints": [{}, {}]}}, 1, ".name: Expected"),
        (
            {"gauge": {"dataPoints": [{}, {"asInt": "x"}]}},
            1,
            ".gauge.dataPoints[1].asInt: Expected",
        ),
        ({"sum": {"dataPoints": [{}, {}], "isMonotonic": 1}}, 2, ".sum.isMonotonic: must be true"),
        (
            {"sum": {"dataPoints": [{}], "aggregationTemporality": "DELTA"}},
            1,
            ".sum.aggregationTem",
        ),
        ({"gauge": {"dataPoints": [{}, {}]}, "metadata": [{"key": 5}]}, 2, ".metadata[0].key: Exp"),
        (
            {"gauge": {"dataPoints": [{"exemplars": [{"traceId": "a"}]}]}},
            1,
            ".exemplars[0].traceId",
        ),
        ({"gauge": {"data_points": [{}]}}, 0, "data_points"),
    ],
)
def test_a_bad_metric_costs_its_points(metric, refused, reason):
    """The metrics around it are kept."""
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [METRIC, metric, METRIC]}]}]}
    text = json.dumps(body).encode()
    if not refused:
        with pytest.raises(DecodeError, match=reason):
            decode_request(Signal.METRICS, text, JSON)
        return
    decoded = decode_request(Signal.METRICS, text, JSON)
    assert decoded.refused == refused
    assert reason in decoded.reason
    kept = [record.metric for record in decoded.records if record.text == '{"asInt":"1"}']
    assert len(kept) == 2
    assert kept[0] is kept[1]


def test_a_bad_record_in_protobuf_costs_itself_and_says_why():
    """The good ones around it are kept, whatever is wrong with it."""
    good = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8, "name": "good"}
    bad: list[dict[str, Any]] = [
        {"trace_id": b"short"},
        {"trace_id": bytes(16)},
        {"span_id": b""},
        {"parent_span_id": b"x"},
    ]
    message = MESSAGES[Signal.TRACES]()
    scope = message.resource_spans.add().scope_spans.add()
    for fields in ({}, *bad, {}):
        scope.spans.add(**{**good, **fields})
    scope.spans.add(**good).links.add(trace_id=b"x")
    scope.spans.add(**good).status.code = 7
    decoded = decode_request(Signal.TRACES, message.SerializeToString(), PROTOBUF)
    assert (len(decoded.records), decoded.refused) == (2, 6)
    assert decoded.reason == (
        "resourceSpans[0].scopeSpans[0].spans[1].traceId: must be 16 bytes, got 5; "
        "resourceSpans[0].scopeSpans[0].spans[2].traceId: is invalid: all its bytes are zero; "
        "resourceSpans[0].scopeSpans[0].spans[3].spanId: must be 8 bytes, and there is none; "
        "resourceSpans[0].scopeSpans[0].spans[4].parentSpanId: must be 8 bytes, got 1; "
        "resourceSpans[0].scopeSpans[0].spans[6].links[0].traceId: must be 16 bytes, got 1; "
        "and 1 more"
    )


def test_metrics_without_a_kind_are_refused_in_protobuf():
    """A metric without data, and one whose data is of a kind of tomorrow."""
    message = MESSAGES[Signal.METRICS]()
    scope = message.resource_metrics.add().scope_metrics.add()
    scope.metrics.add(name="none")
    scope.metrics.add(name="known").gauge.data_points.add(as_int=1)
    body = message.SerializeToString()
    decoded = decode_request(Signal.METRICS, body, PROTOBUF)
    assert (len(decoded.records), decoded.refused) == (1, 1)
    assert "metrics[0]: a metric without data of a kind that OTLP defines" in decoded.reason


def test_a_text_that_is_no_utf8_costs_its_characters():
    """In protobuf and in JSON, in a record and around it; protobuf's own parser would refuse all of it."""
    message = MESSAGES[Signal.TRACES]()
    group = message.resource_spans.add()
    group.resource.attributes.add(key="r").value.string_value = "wrong-R"
    group.schema_url = "wrong-U"
    scoped = group.scope_spans.add()
    scoped.scope.name = "wrong-S"
    ids = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8}
    scoped.spans.add(name="wrong-N", start_time_unix_nano=1, end_time_unix_nano=2, **ids)
    scoped.spans.add(name="good", **ids)
    body = message.SerializeToString()
    good = decode_request(Signal.TRACES, body, PROTOBUF)
    decoded = decode_request(
        Signal.TRACES, body.replace(b"wrong", b"\xff\xfe\xff\xfe\xff"), PROTOBUF
    )
    repaired = "\ufffd" * 5
    assert [
        line_of(Signal.TRACES, record).decode().replace(repaired, "wrong")
        for record in decoded.records
    ] == [line_of(Signal.TRACES, record).decode() for record in good.records]
    assert decoded.refused == 0
    assert "spans[0].name: is no UTF-8; kept with U+FFFD" in decoded.reason
    line = line_from_protobuf(Signal.TRACES, body).replace(b"wrong", b"\xff\xfe\xff\xfe\xff")
    assert decode_request(Signal.TRACES, line, JSON).records == decoded.records


@pytest.mark.parametrize(("as_map", "most"), [(True, 31), (False, 47)])
def test_values_nest_as_deeply_in_json_as_in_protobuf(as_map, most):
    """One level more costs the record, with a reason; ten thousand more cost the request."""
    head, tail = (
        ('{"kvlistValue":{"values":[{"value":', "}]}}")
        if as_map
        else ('{"arrayValue":{"values":[', "]}}")
    )

    def request(levels: int) -> bytes:
        value = head * levels + "{}" + tail * levels
        return json_request(json_span(attributes=[{"key": "k", "value": 0}])).replace(
            b'"value": 0', b'"value": ' + value.encode()
        )

    with pytest.raises(DecodeError, match="nested too deeply"):
        decode_request(Signal.TRACES, request(10_000), JSON)
    for levels, refused in ((most, 0), (most + 1, 1), (100, 1)):
        body = request(levels)
        decoded = decode_request(Signal.TRACES, body, JSON)
        assert (len(decoded.records), decoded.refused) == (3 - refused, refused)
        assert ("nested too deeply" in decoded.reason) == bool(refused)


@pytest.mark.parametrize(("as_map", "most"), [(True, 31), (False, 47)])
def test_values_nest_as_deeply_as_protobuf_says(as_map, most):
    """One level more costs the record, of which the official parser says that it costs the request."""
    for levels, refused in ((most, 0), (most + 1, 1), (5_000, 1)):
        body = enclosed_span(nested_value(levels, as_map=as_map))
        decoded = decode_request(Signal.TRACES, body, PROTOBUF)
        assert (len(decoded.records), decoded.refused) == (1 - refused, refused)
        assert ("nested too deeply" in decoded.reason) == bool(refused)
    line = line_from_protobuf(Signal.TRACES, enclosed_span(nested_value(most, as_map=as_map)))
    protobuf_from_line(line)


def test_equal_envelopes_are_one_object():
    """Of several requests, in both formats, and however they are written."""
    line = line_from_protobuf(Signal.TRACES, _two_resources().SerializeToString())
    spaced = json.dumps(json.loads(line), indent=2).encode()
    decoded = [
        decode_request(Signal.TRACES, _two_resources().SerializeToString(), PROTOBUF),
        decode_request(Signal.TRACES, line, JSON),
        decode_request(Signal.TRACES, spaced, JSON),
    ]
    first, *others = [record for request in decoded for record in request.records]
    assert len(others) == 5
    assert all(record.resource is first.resource for record in others)
    assert all(record.scope is first.scope for record in others)


def _two_resources() -> Any:
    message = MESSAGES[Signal.TRACES]()
    for _ in range(2):
        group = message.resource_spans.add(schema_url="u")
        group.resource.attributes.add(key="k").value.int_value = 5
        scoped = group.scope_spans.add()
        scoped.scope.name = "s"
        scoped.spans.add(trace_id=b"\1" * 16, span_id=b"\2" * 8)
    return message


@pytest.mark.parametrize(
    ("body", "format", "reason"),
    [
        (b"\x08\x01" * 200_000, PROTOBUF, "more than 100,000 unknown fields"),
        (b"\x7b" * 1_000, PROTOBUF, "nested too deeply"),
        (b'{"x":[' + b"{}," * 4_000_001 + b"{}]}", JSON, "more than 4,000,000 objects"),
        (b'{"x":' * 100_000, JSON, "nested too deeply"),
    ],
)
def test_small_requests_do_not_become_large_work(body, format, reason):
    """What would take minutes or gigabytes is refused."""
    with pytest.raises(DecodeError, match=reason):
        decode_request(Signal.TRACES, body, format)


def test_a_request_has_a_bounded_number_of_records(monkeypatch):
    """A few bytes can be a record."""
    monkeypatch.setattr(refusals, "MAX_RECORDS", 1_000)
    scope = b"\x12\x00" * 1_001
    size = b"\xd2\x0f"
    body = b"\x0a\xd5\x0f\x12" + size + scope
    with pytest.raises(DecodeError, match="more than 1,000 records"):
        decode_request(Signal.LOGS, body, PROTOBUF)
    line = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}] * 1_001}]}]}
    with pytest.raises(DecodeError, match="more than 1,000 records"):
        decode_request(Signal.LOGS, json.dumps(line).encode(), JSON)


# Damage.


@pytest.mark.parametrize("format", list(RequestFormat))
@pytest.mark.parametrize("signal", list(Signal))
def test_no_damage_raises_anything_but_a_decode_error(signal, format):
    """Mutated requests are decoded, as far as that goes, or refused."""
    chance = random.Random(5)
    outcomes = set()
    for _ in range(300):
        message = MESSAGES[signal]()
        fill_at_random(chance, message, 0)
        body = message.SerializeToString()
        if format is JSON:
            try:
                body = twisted_json(chance, json.loads(line_from_protobuf(signal, body)))
            except DecodeError:
                continue
        try:
            decoded = decode_request(signal, damage(chance, body), format)
        except DecodeError:
            outcomes.add("refused")
            continue
        assert (decoded.refused > 0) <= bool(decoded.reason)
        for record in decoded.records:
            line = line_of(signal, record)
            assert len(decode_line(line).records) == 1
            assert normalize_line(line) == line
        outcomes.add("decoded")
    assert outcomes == {"refused", "decoded"}


@pytest.mark.parametrize("signal", list(Signal))
def test_damage_within_a_record_costs_at_most_that_record(signal):
    """Whatever its bytes become, in both formats, the others are kept as they were."""
    chance = random.Random(6)
    whole = _three_records(signal)
    body = whole.SerializeToString()
    line = line_from_protobuf(signal, body)
    for format, data in ((PROTOBUF, body), (JSON, line)):
        first, _, last = decode_request(signal, data, format).records
        start, end = data.index(b"<begin>") + 7, data.index(b"<end>")
        for _ in range(300):
            made = bytearray(data)
            for _ in range(chance.choice((1, 2, 5))):
                made[chance.randrange(start, end)] = chance.choice(
                    b"\x00\x7f\x80\xff\x0a\x12" if format is PROTOBUF else b"0z,:5-.e"
                )
            try:
                decoded = decode_request(signal, bytes(made), format)
            except DecodeError:
                assert format is JSON  # no JSON at all any more
                continue
            assert decoded.records[0] == first
            assert decoded.records[-1] == last
            assert len(decoded.records) + decoded.refused in (2, 3)


def _three_records(signal: Signal) -> Any:
    """Return a request of three records, of which the one in the middle has marks around its fields."""
    message = MESSAGES[signal]()
    group = getattr(message, snake(signal.resource_key)).add()
    scope = getattr(group, snake(signal.scope_key)).add()
    owners: list[Any] = []
    if signal is Signal.METRICS:
        points = scope.metrics.add(name="m").gauge.data_points
        owners = [points.add(as_int=number) for number in range(3)]
    elif signal is Signal.LOGS:
        owners = [scope.log_records.add(time_unix_nano=number) for number in range(1, 4)]
    else:
        ids = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8}
        owners = [scope.spans.add(start_time_unix_nano=n, **ids) for n in range(1, 4)]
    attributes = owners[1].attributes
    attributes.add(key="a").value.string_value = "<begin>"
    attributes.add(key="b").value.int_value = 2**40
    attributes.add(key="c").value.array_value.values.add().double_value = 1.5
    attributes.add(key="d").value.string_value = "<end>"
    return message


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
    foreign = {"partial_success": {REJECTED[signal]: "5", "error_message": "m"}}
    assert decode_response(signal, JSON, json.dumps(foreign).encode()) == PartialSuccess(5, "m")
    for odd in (-5, 5.5, "x", None, [5], {}):
        body = json.dumps({"partialSuccess": {key: odd, "errorMessage": 5}}).encode()
        assert decode_response(signal, JSON, body) == PartialSuccess(0, "")


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
