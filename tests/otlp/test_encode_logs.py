"""Encoding log records: our line is the official encoder's message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from rimp_otel.models.records import Signal
from rimp_otel.otlp.encode_logs import _careful_log_json, _fast_log_json
from tests.otlp import strategies
from tests.otlp.official import assert_same, lines_of, message_of

RESOURCE = Resource({})


def record_of(resource: Resource = RESOURCE, scope: Any = None, **fields: Any) -> ReadableLogRecord:
    """Return a log record with these fields."""
    return ReadableLogRecord(LogRecord(**{"observed_timestamp": 7, **fields}), resource, scope)


def written(*records: Any) -> list[Any]:
    """Return the records' messages in our lines."""
    message = message_of(Signal.LOGS, lines_of(Signal.LOGS, records))
    return [
        record
        for group in message.resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    ]


@strategies.generated
@given(strategies.log_records)
def test_any_log_records_are_the_official_message(records):
    """Records with any values, of several resources and scopes, are the official message."""
    assert_same(Signal.LOGS, lines_of(Signal.LOGS, records), records)


@strategies.generated
@given(strategies.values)
def test_any_body_is_the_official_message(body):
    """Any value of OTLP can be a body."""
    records = [record_of(body=body)]
    assert_same(Signal.LOGS, lines_of(Signal.LOGS, records), records)


@strategies.generated
@given(strategies.log_records)
def test_the_fast_path_writes_what_the_careful_one_does(records):
    """The fast path writes the same as the careful one, for every record that it takes."""
    for record in records:
        fast = _fast_log_json(record.log_record)
        assert fast is None or fast == _careful_log_json(record)


def test_the_fast_path_is_taken():
    """A record with every field, as the logging handler makes it, takes the fast path."""
    log = LogRecord(
        timestamp=5,
        observed_timestamp=6,
        context=set_span_in_context(NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))),
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        body="text",
        attributes={"k": 1},
        event_name="e",
    )
    record = ReadWriteLogRecord(log, RESOURCE, InstrumentationScope("app"))
    fast = _fast_log_json(record.log_record)
    assert fast == _careful_log_json(record)
    assert fast is not None
    assert fast.startswith('{"timeUnixNano":"5","observedTimeUnixNano":"6","severityNumber":13')


def test_a_log_record_is_this_text():
    """One record is written out in full, to be read by people."""
    record = record_of(
        scope=InstrumentationScope("app"),
        timestamp=5,
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        body={"a": [1, None]},
        attributes={"k": 'quote " and \n'},
        event_name="login",
    )
    record.log_record.trace_id, record.log_record.span_id = 1, 2
    record.log_record.trace_flags = 1
    assert lines_of(Signal.LOGS, [record]) == [
        b'{"resourceLogs":[{"resource":{},"scopeLogs":[{"scope":{"name":"app"},"logRecords":['
        b'{"timeUnixNano":"5","observedTimeUnixNano":"7","severityNumber":13,'
        b'"severityText":"WARN","body":{"kvlistValue":{"values":[{"key":"a","value":'
        b'{"arrayValue":{"values":[{"intValue":"1"},{}]}}}]}},'
        b'"attributes":[{"key":"k","value":{"stringValue":"quote \\" and \\n"}}],'
        b'"flags":1,"traceId":"00000000000000000000000000000001","spanId":"0000000000000002",'
        b'"eventName":"login"}]}]}]}'
    ]


@pytest.mark.parametrize("severity", [None, *SeverityNumber])
def test_every_severity_is_the_official_message(severity):
    """Severities 1 to 24, unspecified and missing ones are the official message."""
    records = [record_of(severity_number=severity)]
    assert_same(Signal.LOGS, lines_of(Signal.LOGS, records), records)


@pytest.mark.parametrize("timestamp", [None, 0])
def test_a_record_may_have_no_time(timestamp):
    """A record without a time is written without one; its range time is when it was observed."""
    (record,) = written(record_of(timestamp=timestamp))
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (0, 7)


def test_both_kinds_of_records_are_written_the_same():
    """Records for a processor and for an exporter are written alike."""
    fields = {"observed_timestamp": 7, "body": "same", "attributes": {"a": 1}}
    readable = ReadableLogRecord(LogRecord(**fields), RESOURCE)
    mutable = ReadWriteLogRecord(LogRecord(**fields), RESOURCE)
    assert lines_of(Signal.LOGS, [readable]) == lines_of(Signal.LOGS, [mutable])


def test_a_batch_of_several_lines_is_one_message():
    """Lines end after about 64 KiB; joined, they are the official message."""
    records = [
        record_of(Resource({"n": n % 3}), InstrumentationScope(f"{n % 2}"), body="x" * 2_000)
        for n in range(100)
    ]
    lines = lines_of(Signal.LOGS, records)
    assert len(lines) == 4
    assert_same(Signal.LOGS, lines, records)
