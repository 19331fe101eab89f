"""TelemetryData: two faces of one batch."""

from __future__ import annotations

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from rimp_otel import DecodeError, TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.batch import decode_batch, share_batch, skipped_count
from rimp_otel.models.records import Signal
from tests.contract.samples import bare_span, everything, span

LINE = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}'


def test_empty_batch():
    """Is false, and has nothing."""
    data = TelemetryData()
    assert not data
    assert (len(data), data.events, data.metrics, data.spans) == (0, [], [], [])
    assert data.otlp_json(Signal.LOGS) == []
    assert data.fragments(Signal.LOGS) == []


def test_counts():
    """Of all signals, and of one."""
    data = everything()
    assert data
    assert len(data) == 19
    assert [data.count_of(signal) for signal in Signal] == [2, 10, 7]
    assert repr(data) == "TelemetryData(events=10, metrics=7, spans=2)"


def test_objects_keep_their_identity():
    """What was given is what is got."""
    event, metric, ended = TelemetryEvent("a", "b"), TelemetryMetric("m", 1), span()
    data = TelemetryData([event], [metric], [ended])
    assert data.events[0] is event
    assert data.metrics[0] is metric
    assert data.spans[0] is ended


def test_lists_may_be_sliced():
    """As the seed's samples do."""
    data = TelemetryData(events=(TelemetryEvent("a", str(i)) for i in range(5)))
    assert [event.message for event in data.events[:3]] == ["0", "1", "2"]
    assert isinstance(data.events, list)


def test_text_is_made_once():
    """And kept."""
    data = everything()
    assert data.otlp_json(Signal.LOGS) is data.otlp_json(Signal.LOGS)


def test_lines_pass_through_unchanged():
    """Nothing is decoded, nothing encoded again."""
    data = TelemetryData.from_otlp_json([b" " + LINE + b"\n", LINE.decode()])
    assert data.otlp_json(Signal.LOGS) == [LINE, LINE]
    assert len(data) == 2
    assert [event.message for event in data.events] == ["x", "x"]


@pytest.mark.parametrize("line", [b"", b"{}", b"no json", b'{"foreign":[]}'])
def test_line_of_no_signal(line):
    """Is refused at once."""
    with pytest.raises(DecodeError):
        TelemetryData.from_otlp_json([line])


def test_line_that_is_damaged_inside():
    """Is refused when it is decoded, or at once if that is asked for."""
    line = b'{"resourceLogs":[{"scopeLogs":7}]}'
    with pytest.raises(DecodeError):
        decode_batch(line)
    with pytest.raises(DecodeError):
        _ = TelemetryData.from_otlp_json([line]).events


def test_concat_keeps_the_order():
    """Of batches of every origin; a line's text groups them by resource."""
    batches = [
        TelemetryData(events=[TelemetryEvent("a", "1")]),
        TelemetryData(),
        TelemetryData.from_otlp_json([LINE]),
        TelemetryData(events=[TelemetryEvent("a", "3")], spans=[bare_span()]),
    ]
    data = TelemetryData.concat(batches)
    assert [event.message for event in data.events] == ["1", "x", "3"]
    assert len(data.spans) == 1
    again = TelemetryData.from_otlp_json(data.otlp_json(Signal.LOGS))
    assert sorted(event.message for event in again.events) == ["1", "3", "x"]
    assert not TelemetryData.concat([])


def test_shared_batch_has_lists_of_its_own():
    """What is done to one is not seen in the other."""
    data = everything()
    shared = share_batch(data)
    shared.events.clear()
    assert len(data.events) == 10
    assert len(share_batch(data).events) == 10


def test_record_that_cannot_be_encoded_is_skipped_and_counted():
    """It costs itself, not its batch."""
    data = TelemetryData(spans=[span(), object(), bare_span()])
    (line,) = data.otlp_json(Signal.TRACES)
    assert line.count(b'"spanId"') >= 2
    assert skipped_count(data, Signal.TRACES) == 1
    assert skipped_count(data, Signal.LOGS) == 0
    assert len(TelemetryData.from_otlp_json([line]).spans) == 2


def test_log_records_of_the_sdk():
    """In as the SDK's, out as events, and back."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("l", "1").emit(body="hello", attributes={"k": 1}, event_name="e")
    data = TelemetryData.from_log_records(exporter.get_finished_logs())
    (event,) = data.events
    assert (event.body, event.metadata, event.event_name) == ("hello", {"k": 1}, "e")
    (record,) = data.log_records
    assert record.log_record.body == "hello"
    assert record.instrumentation_scope.name == "l"


def test_metrics_of_the_sdk():
    """In as the SDK's, out as metrics, and back."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c", "1").add(3, {"k": "v"})
    data = TelemetryData.from_metrics_data(reader.get_metrics_data())
    assert len(data) == 1
    assert [(m.name, m.value, m.tags) for m in data.metrics] == [("c", 3, {"k": "v"})]
    (resource,) = data.metrics_data.resource_metrics
    (metric,) = resource.scope_metrics[0].metrics
    assert (metric.name, metric.data.data_points[0].value) == ("c", 3)
