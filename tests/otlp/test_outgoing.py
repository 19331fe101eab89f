"""Requests made of lines, compared with protobuf's parsers and the official encoder."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.outgoing import request_from_lines, split_line
from rimp_otel.otlp.requests import RequestFormat
from rimp_otel.otlp.scan import count_records
from tests.otlp.official import binary, lines_of, message_of
from tests.otlp.strategies import generated, log_records, metrics_data, spans

PROTOBUF, JSON = RequestFormat.PROTOBUF, RequestFormat.JSON

RECORDS = {Signal.TRACES: spans, Signal.LOGS: log_records, Signal.METRICS: metrics_data}

LINE = (
    b'{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"s"},'
    b'"spans":[{"name":"a"},{"name":"b"}],"schemaUrl":"u"}],"new":{"x":1}}]}'
)
POINTS = (
    b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"dataPoints":[{"asInt":"1"},'
    b'{"asInt":"2"}],"isMonotonic":true},"unit":"s","gauge":null},{"name":"empty"}]}]}]}'
)


def test_a_json_request_holds_the_lists_of_the_lines():
    """The lists of resources are joined as text; one without resources adds nothing."""
    lines = [b'{"resourceSpans":[{"a":1}]}', b' {"resourceSpans" : [ {"b":2} ] , "x":[3]}\n']
    lines += [b'{"resourceSpans":[]}', b'{"resourceSpans":null}']
    assert request_from_lines(Signal.TRACES, lines, JSON) == b'{"resourceSpans":[{"a":1},{"b":2}]}'
    assert request_from_lines(Signal.LOGS, [], JSON) == b'{"resourceLogs":[]}'


@pytest.mark.parametrize("format", RequestFormat)
@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"resourceLogs":[]}', "the line is of logs, not of traces"),
        (b'{"resourceSpans":[', "truncated"),
        (b'{"resourceSpans":[}', "malformed|invalid"),
        (b'{"resourceSpans":{}}', "not a list|Expected `array"),
        (b"{}", "none of the keys"),
    ],
)
def test_a_line_that_is_not_of_the_signal_is_refused(format, line, why):
    """It would spoil the whole request."""
    with pytest.raises(DecodeError, match=why):
        request_from_lines(Signal.TRACES, [LINE, line], format)


FOREIGN = [
    '{"traceId":"W47/95gDgQPSabYzgT/GDA==","spanId":"7uGbfsPBsXQ="}',
    '{"traceId":"5b8efff798038103d269b633813fc60c","kind":"SPAN_KIND_CLIENT"}',
    '{"status":{"code":"STATUS_CODE_ERROR"}}',
]


@pytest.mark.parametrize("span", FOREIGN)
def test_a_json_request_is_strict(span):
    """Ids in base64 and names of enumerations, which OTLP forbids, are sent as OTLP has them."""
    line = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}'.encode()
    body = request_from_lines(Signal.TRACES, [line, LINE], JSON)
    assert b"==" not in body
    assert b"_C" not in body
    assert request_from_lines(Signal.TRACES, [body], PROTOBUF) == request_from_lines(
        Signal.TRACES, [line, LINE], PROTOBUF
    )


def test_a_json_request_is_utf_8():
    """A byte that is no UTF-8 costs a character."""
    line = b'{"resourceSpans":[{"schemaUrl":"a\xff\xc3\xa9"}]}'
    body = request_from_lines(Signal.TRACES, [line], JSON)
    assert json.loads(body) == {"resourceSpans": [{"schemaUrl": "a\ufffd\u00e9"}]}


def test_a_line_is_split_into_its_records():
    """Each has its envelopes, with all of their fields."""
    head = b'{"resourceSpans":[{"resource":{"attributes":[]},"new":{"x":1},"scopeSpans":[{"scope":{"name":"s"},"schemaUrl":"u","spans":['
    assert split_line(LINE) == [
        head + b'{"name":"a"}]}]}]}',
        head + b'{"name":"b"}]}]}]}',
    ]
    head = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","unit":"s","gauge":null,"sum":{"isMonotonic":true,"dataPoints":['
    assert split_line(POINTS) == [
        head + b'{"asInt":"1"}]}}]}]}]}',
        head + b'{"asInt":"2"}]}}]}]}]}',
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"resourceSpans":[',
        b"[]",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":{}}]}]}',
        b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{},"gauge":{}}]}]}]}',
    ],
)
def test_what_is_no_line_is_not_split(line):
    """It raises DecodeError."""
    with pytest.raises(DecodeError):
        split_line(line)


@pytest.mark.parametrize("signal", list(Signal))
@generated
@given(data=st.data())
def test_the_parts_of_any_line_are_the_line(signal, data):
    """Split into records, a line has the same records; put together again, the same message."""
    lines = lines_of(signal, data.draw(RECORDS[signal]))
    parts = [part for line in lines for part in split_line(line)]
    assert [count_records(part) for part in parts] == [1] * sum(map(count_records, lines))
    assert binary(message_of(signal, parts or lines)) == binary(message_of(signal, lines))


@pytest.mark.parametrize("format", RequestFormat)
@pytest.mark.parametrize("signal", list(Signal))
@generated
@given(data=st.data())
def test_a_request_is_what_protobuf_makes_of_its_lines(signal, format, data):
    """Of any records, the request is the lines' messages, to the byte."""
    lines = lines_of(signal, data.draw(RECORDS[signal]))
    body = request_from_lines(signal, lines, format)
    if format is JSON:
        body = request_from_lines(signal, [body], PROTOBUF)
    expected = b"".join(message_of(signal, [line]).SerializeToString() for line in lines)
    assert body == expected
