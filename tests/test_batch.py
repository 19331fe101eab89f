"""TelemetryData: one batch as objects and as OTLP JSON lines."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from rimp_otel import DecodeError, TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.batch import decode_batch, set_slice_id, share_batch, skipped_count
from rimp_otel.models.records import Signal
from tests.contract.samples import bare_span, everything, span

LINE = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}'


def test_empty_batch():
    """An empty batch is false and has no records of any signal."""
    data = TelemetryData()
    assert not data
    assert (len(data), data.events, data.metrics, data.spans) == (0, [], [], [])
    assert data.otlp_json(Signal.LOGS) == []
    assert data.encoded_records(Signal.LOGS) == []


def test_counts():
    """A batch counts its records, all and by signal."""
    data = everything()
    assert data
    assert len(data) == 19
    assert [data.count_of(signal) for signal in Signal] == [2, 10, 7]
    assert repr(data) == "TelemetryData(events=10, metrics=7, spans=2)"


def test_objects_keep_their_identity():
    """The objects of a batch are those it was made of."""
    event, metric, ended = TelemetryEvent("a", "b"), TelemetryMetric("m", 1), span()
    data = TelemetryData([event], [metric], [ended])
    assert data.events[0] is event
    assert data.metrics[0] is metric
    assert data.spans[0] is ended


def test_lists_may_be_sliced():
    """Records are lists, whatever iterable they came in."""
    data = TelemetryData(events=(TelemetryEvent("a", str(i)) for i in range(5)))
    assert [event.message for event in data.events[:3]] == ["0", "1", "2"]
    assert isinstance(data.events, list)


def test_text_is_made_once():
    """OTLP JSON is made once and cached."""
    data = everything()
    assert data.otlp_json(Signal.LOGS) is data.otlp_json(Signal.LOGS)


def test_lines_pass_through_unchanged():
    """Lines are kept as they came, but for white space around them."""
    data = TelemetryData.from_otlp_json([b" " + LINE + b"\n", LINE.decode()])
    assert data.otlp_json(Signal.LOGS) == [LINE, LINE]
    assert len(data) == 2
    assert [event.message for event in data.events] == ["x", "x"]


@pytest.mark.parametrize("line", [b"", b"{}", b"no json", b'{"foreign":[]}'])
def test_line_of_no_signal(line):
    """A line without a signal raises DecodeError at once."""
    with pytest.raises(DecodeError):
        TelemetryData.from_otlp_json([line])


def test_line_that_is_damaged_inside():
    """A line that is damaged inside raises DecodeError when it is decoded."""
    line = b'{"resourceLogs":[{"scopeLogs":7}]}'
    with pytest.raises(DecodeError):
        decode_batch(line)
    with pytest.raises(DecodeError):
        _ = TelemetryData.from_otlp_json([line]).events


def test_concat_keeps_the_order():
    """Batches in any form can be joined; their records keep their order."""
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
    """Forcing a change upon a list of a shared batch does not change the other batch."""
    data = everything()
    shared = share_batch(data)
    list.clear(shared.events)
    assert len(data.events) == 10
    assert len(share_batch(data).events) == 10


def test_record_that_cannot_be_encoded_is_skipped_and_counted():
    """A record that cannot be encoded is left out and counted; the others are kept."""
    data = TelemetryData(spans=[span(), object(), bare_span()])
    (line,) = data.otlp_json(Signal.TRACES)
    assert line.count(b'"spanId"') >= 2
    assert skipped_count(data, Signal.TRACES) == 1
    assert skipped_count(data, Signal.LOGS) == 0
    assert len(TelemetryData.from_otlp_json([line]).spans) == 2


def test_log_records_of_the_sdk():
    """The SDK's log records become events, and log records again."""
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
    """The SDK's metrics become metric points, and metrics again."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c", "1").add(3, {"k": "v"})
    data = TelemetryData.from_metrics_data(reader.get_metrics_data())
    assert len(data) == 1
    assert [(m.name, m.value, m.tags) for m in data.metrics] == [("c", 3, {"k": "v"})]
    (resource,) = data.metrics_data.resource_metrics
    (metric,) = resource.scope_metrics[0].metrics
    assert (metric.name, metric.data.data_points[0].value) == ("c", 3)


def test_threads_get_the_same_lists():
    """Threads that ask for a representation at the same moment all get the same list."""
    for _ in range(20):
        data = TelemetryData.from_otlp_json([LINE] * 50)
        barrier = threading.Barrier(4)

        def read(data=data, barrier=barrier):
            barrier.wait()
            return data.events, data.otlp_json(Signal.LOGS)

        with ThreadPoolExecutor(4) as pool:
            found = [task.result() for task in [pool.submit(read) for _ in range(4)]]
        assert all(events is found[0][0] and lines is found[0][1] for events, lines in found)


def test_a_batch_without_a_journal_has_no_slice_id():
    """Only a batch that is cut out of a journal has a name."""
    data = everything()
    assert data.slice_id is None
    set_slice_id(data, "segment-logs-1-2")
    assert data.slice_id == "segment-logs-1-2"
    assert share_batch(data).slice_id is None


def test_equality():
    """Batches are equal by their records and the order of these, in whatever form they came."""
    data = everything()
    assert data == everything()
    assert hash(data) == hash(everything())
    lines = [line for signal in Signal for line in data.otlp_json(signal)]
    decoded = TelemetryData.from_otlp_json(lines)
    assert decoded == TelemetryData.from_otlp_json(lines)
    assert decoded.events == data.events
    assert TelemetryData.concat([data, TelemetryData()]) == data
    assert TelemetryData(data.events[::-1], data.metrics, data.spans) != data
    assert TelemetryData(data.events, data.metrics, data.spans[:1]) != data
    other = TelemetryData(spans=[span(), span()])
    assert other != TelemetryData(spans=[span(), bare_span()])
    assert TelemetryData() == TelemetryData()
    assert data != "data"
    damaged = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"x"}]}]}]}'
    assert TelemetryData.from_otlp_json([damaged]) == TelemetryData.from_otlp_json([damaged])
    assert TelemetryData.from_otlp_json([damaged]) != TelemetryData(data.events[:1])


def test_copies_of_a_list():
    """A batch's lists can be copied and pickled."""
    events = TelemetryData([TelemetryEvent("a", "x", time_unix_nano=1)]).events
    for copied in (copy.copy(events), copy.deepcopy(events), pickle.loads(pickle.dumps(events))):
        assert copied == events
        assert type(copied) is type(events)
    assert json.dumps(TelemetryData().events) == "[]"
