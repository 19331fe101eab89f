"""The tests of OpenTelemetry's in-memory and console exporters, as they apply to ours.

Ported, in other words, from ``opentelemetry-sdk/tests`` of opentelemetry-python (commit 0a5d76b6,
August 2026; Apache-2.0): 44 cases, each in memory and in files. Each docstring names the original:

- ``trace/export/test_in_memory_span_exporter.py``: 6 of 6.
- ``trace/export/test_export.py``: 5, which have an exporter behind a processor, of 17.
- ``logs/test_export.py``: 12, which do, of 24.
- ``metrics/integration_test/test_console_exporter.py``: 3 of 3.
- ``metrics/test_in_memory_metric_reader.py``: 4 of 5.
- ``metrics/integration_test/``: ``test_histogram_export.py`` 3 of 3, ``test_exemplars.py`` 6 of 6,
  ``test_nonfinite_measurements.py`` 5 of 5.

Left out are the cases that test the SDK's processors themselves (their arguments, their
environment variables, their own metrics, their recursion guard), the console's ``out`` and
``formatter``, and that a reader hands on the very objects that it was given.

Otherwise than there: a storage gives the oldest span first, by its start, not the first that ended.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from rimp_otel import (
    FileStorage,
    MemoryStorage,
    RimpLogRecordExporter,
    RimpMetricExporter,
    RimpSpanExporter,
    TelemetryStorage,
)
from rimp_otel.models.records import Exemplar, MetricKind, Temporality

TRACE_ID = 0xD4CDA95B652F4A1592B449D5929FDA1B
SPAN_ID = 0x6E0C63257DE34C92


@pytest.fixture(params=["memory", "file"])
def storage(request: Any, tmp_path: Any) -> TelemetryStorage:
    """Return a storage, in memory and in files."""
    return MemoryStorage() if request.param == "memory" else FileStorage(tmp_path / "recording")


def names_in(storage: TelemetryStorage) -> list[str]:
    """Return the names of the spans, in the order in which they started."""
    return [span.name for span in storage.retrieve().spans]


def tracer_into(exporter: RimpSpanExporter, processor: Any = SimpleSpanProcessor) -> Any:
    """Return a tracer whose spans go into the exporter."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor(exporter))
    return provider.get_tracer(__name__)


def run_scenario(tracer: Any) -> None:
    """Record three spans, each within the other."""
    with (
        tracer.start_as_current_span("foo"),
        tracer.start_as_current_span("bar"),
        tracer.start_as_current_span("xxx"),
    ):
        pass


def test_finished_spans_are_there(storage):
    """TestInMemorySpanExporter.test_get_finished_spans."""
    run_scenario(tracer_into(RimpSpanExporter(storage)))
    assert names_in(storage) == ["foo", "bar", "xxx"]


def test_a_memory_can_be_cleared():
    """TestInMemorySpanExporter.test_clear."""
    storage = MemoryStorage()
    run_scenario(tracer_into(RimpSpanExporter(storage)))
    storage.clear()
    assert names_in(storage) == []


def test_spans_that_end_after_a_shutdown_are_refused(storage, capsys):
    """TestInMemorySpanExporter.test_shutdown."""
    exporter = RimpSpanExporter(storage)
    tracer = tracer_into(exporter)
    run_scenario(tracer)
    exporter.shutdown()
    run_scenario(tracer)
    assert len(names_in(storage)) == 3
    # Once, not three times.
    assert capsys.readouterr().err.count("\n") == 1


def test_the_result_of_an_export_says_whether_it_was_stored(storage):
    """TestInMemorySpanExporter.test_return_code."""
    span = ReadableSpan("name", SpanContext(1, 2, False))
    exporter = RimpSpanExporter(storage)
    assert exporter.export((span,)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert exporter.export((span,)) is SpanExportResult.FAILURE
    assert names_in(storage) == ["name"]


def test_a_bounded_memory_keeps_the_newest():
    """TestInMemorySpanExporter.test_max_spans_limit."""
    storage = MemoryStorage(max_records=2)
    spans = [ReadableSpan(f"span{n}", SpanContext(1, n, False), start_time=n) for n in (1, 2, 3)]
    RimpSpanExporter(storage).export(spans)
    assert names_in(storage) == ["span2", "span3"]
    assert storage.evicted == 1


def test_the_usual_bound_is_far_away(storage):
    """TestInMemorySpanExporter.test_max_spans_none_is_unlimited."""
    span = ReadableSpan("name", SpanContext(1, 2, False))
    RimpSpanExporter(storage).export([span] * 100)
    assert len(names_in(storage)) == 100


def test_spans_that_were_never_current_are_exported(storage):
    """TestSimpleSpanProcessor.test_simple_span_processor, and ..._no_context."""
    exporter = RimpSpanExporter(storage)
    tracer = tracer_into(exporter)
    run_scenario(tracer)
    with tracer.start_span("a"), tracer.start_span("b"), tracer.start_span("c"):
        pass
    assert names_in(storage) == ["foo", "bar", "xxx", "a", "b", "c"]


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_spans_that_are_not_sampled_are_not_exported(storage, processor):
    """..._not_sampled, of TestSimpleSpanProcessor and of TestBatchSpanProcessor."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(processor(RimpSpanExporter(storage)))
    run_scenario(provider.get_tracer(__name__))
    provider.force_flush()
    assert names_in(storage) == []
    provider.shutdown()


def test_a_span_of_an_invalid_context_is_exported(storage):
    """TestConsoleSpanExporter.test_export."""
    span = ReadableSpan("span name", trace.INVALID_SPAN_CONTEXT)
    assert RimpSpanExporter(storage).export([span]) is SpanExportResult.SUCCESS
    (found,) = storage.retrieve().spans
    assert (found.name, found.context.is_valid) == ("span name", False)


@pytest.fixture
def provider(storage: TelemetryStorage) -> Iterator[LoggerProvider]:
    """Return a provider of loggers whose records go into the storage."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(RimpLogRecordExporter(storage)))
    yield provider
    provider.shutdown()


@pytest.fixture
def handled(provider: LoggerProvider, request: Any) -> Iterator[logging.Logger]:
    """Return a logger of the standard library with the SDK's handler."""
    logger = logging.getLogger(request.node.name)
    logger.propagate = False
    handler = LoggingHandler(logger_provider=provider)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


# There is another handler by now, in a package that is not the SDK's.
with_handler = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def records_in(storage: TelemetryStorage) -> list[tuple[Any, str, int]]:
    """Return bodies and severities of the records."""
    return [
        (event.body, event.severity_text, event.severity_number)
        for event in storage.retrieve().events
    ]


@with_handler
def test_a_warning_is_exported(storage, handled):
    """TestSimpleLogRecordProcessor.test_simple_log_record_processor_default_level."""
    handled.warning("Something is wrong")
    (event,) = storage.retrieve().events
    assert (event.message, event.severity_text) == ("Something is wrong", "WARN")
    assert event.severity_number == SeverityNumber.WARN.value
    assert event.source == handled.name


@with_handler
def test_a_level_that_is_switched_off_is_not_exported(storage, handled):
    """TestSimpleLogRecordProcessor.test_simple_log_record_processor_custom_level."""
    handled.setLevel(logging.ERROR)
    handled.warning("Warning message")
    handled.debug("Debug message")
    handled.error("Error message")
    handled.critical("Critical message")
    assert records_in(storage) == [
        ("Error message", "ERROR", SeverityNumber.ERROR.value),
        ("Critical message", "FATAL", SeverityNumber.FATAL.value),
    ]


@with_handler
def test_a_record_has_the_context_of_its_span(storage, handled):
    """TestSimpleLogRecordProcessor.test_simple_log_record_processor_trace_correlation."""
    handled.warning("outside")
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        handled.critical("within")
    outside, within = storage.retrieve().events
    assert (outside.trace_id, outside.span_id, outside.trace_flags) == (0, 0, 0)
    context = span.get_span_context()
    assert (within.message, within.severity_text) == ("within", "FATAL")
    assert (within.trace_id, within.span_id) == (context.trace_id, context.span_id)
    assert within.trace_flags == context.trace_flags


@with_handler
def test_records_after_a_shutdown_are_refused(storage, provider, handled):
    """TestSimpleLogRecordProcessor.test_simple_log_record_processor_shutdown."""
    handled.warning("before")
    provider.shutdown()
    handled.warning("after")
    assert records_in(storage) == [("before", "WARN", SeverityNumber.WARN.value)]


@with_handler
def test_messages_of_all_types_are_exported(storage, handled):
    """TestSimpleLogRecordProcessor.test_simple_log_record_processor_different_msg_types."""
    handled.warning("warning message: %s", "possible upcoming heatwave")
    handled.error("Very high rise in temperatures across the globe")
    handled.critical("Temperature hits high 420 C in Hyderabad")
    handled.warning(["list", "of", "strings"])
    handled.error({"key": "value"})
    assert [(body, text) for body, text, _ in records_in(storage)] == [
        ("warning message: possible upcoming heatwave", "WARN"),
        ("Very high rise in temperatures across the globe", "ERROR"),
        ("Temperature hits high 420 C in Hyderabad", "FATAL"),
        (["list", "of", "strings"], "WARN"),
        ({"key": "value"}, "ERROR"),
    ]


@with_handler
def test_a_single_object_is_exported_as_it_is(storage, handled):
    """TestSimpleLogRecordProcessor.test_simple_log_record_processor_custom_single_obj."""
    # Not within the call: what is tested is that nothing is formatted without arguments.
    unformatted = "a string with a percent-s: %s"
    handled.warning(unformatted)
    handled.warning(unformatted, "and arg")
    handled.warning(["a non-string with a percent-s", "%s"], "and arg")
    handled.warning(["a non-string with a percent-s", "%s"])
    assert [body for body, _, _ in records_in(storage)] == [
        "a string with a percent-s: %s",
        "a string with a percent-s: and arg",
        "['a non-string with a percent-s', 'and arg']",
        ["a non-string with a percent-s", "%s"],
    ]


@with_handler
def test_a_formatter_makes_texts_of_all(storage, handled):
    """TestSimpleLogRecordProcessor....different_msg_types_with_formatter."""
    handled.handlers[0].setFormatter(logging.Formatter("%(levelname)s - %(message)s"))
    handled.warning("warning message: %s", "possible upcoming heatwave")
    handled.error({"key": "value"})
    assert [(body, text) for body, text, _ in records_in(storage)] == [
        ("WARNING - warning message: possible upcoming heatwave", "WARN"),
        ("ERROR - {'key': 'value'}", "ERROR"),
    ]


def test_records_of_many_threads_are_all_exported(storage):
    """TestBatchLogRecordProcessor.test_with_multiple_threads."""
    processor = BatchLogRecordProcessor(
        RimpLogRecordExporter(storage),
        max_queue_size=3_000,
        max_export_batch_size=50,
        schedule_delay_millis=30_000,
    )
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)

    def emit(count: int) -> None:
        for n in range(count):
            provider.get_logger("threads").emit(LogRecord(body=f"{count}/{n}"))

    threads = [threading.Thread(target=emit, args=[count]) for count in range(1, 70)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    provider.shutdown()
    bodies = [body for body, _, _ in records_in(storage)]
    assert len(bodies) == len(set(bodies)) == sum(range(1, 70))


def test_a_batch_reaches_the_exporter_when_it_is_flushed(storage):
    """TestBatchLogRecordProcessor.test_emit_call_log_record."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(RimpLogRecordExporter(storage)))
    provider.get_logger("emit_call").emit(LogRecord(body="error"))
    assert provider.force_flush()
    assert [body for body, _, _ in records_in(storage)] == ["error"]
    provider.shutdown()


def test_a_log_record_in_full_is_exported(storage):
    """TestConsoleLogExporter.test_export."""
    flags = TraceFlags(1)
    span = NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, False, flags))
    log = LogRecord(
        timestamp=1_700_000_000_000_000_000,
        context=trace.set_span_in_context(span),
        severity_text="WARN",
        severity_number=SeverityNumber.WARN,
        body="Zhengzhou, We have a heaviest rains in 1000 years",
        attributes={"a": 1, "b": "c"},
    )
    scope = InstrumentationScope("first_name", "first_version")
    record = ReadableLogRecord(log, Resource({"key": "value"}), scope)
    assert RimpLogRecordExporter(storage).export([record]) is LogRecordExportResult.SUCCESS
    (event,) = storage.retrieve().events
    assert event.message == "Zhengzhou, We have a heaviest rains in 1000 years"
    assert event.metadata == {"a": 1, "b": "c"}
    assert (event.trace_id, event.span_id, event.trace_flags) == (TRACE_ID, SPAN_ID, 1)
    assert event.time_unix_nano == 1_700_000_000_000_000_000
    assert (event.scope.name, event.scope.version) == ("first_name", "first_version")
    assert event.resource.attributes == {"key": "value"}


def test_a_flush_of_log_records_has_nothing_to_do(storage):
    """test_force_flush, of TestConsoleLogExporter and of TestInMemoryLogRecordExporter."""
    assert RimpLogRecordExporter(storage).force_flush() is True


class Metered:
    """A provider of meters whose metrics go into a storage at a flush."""

    def __init__(self, storage: TelemetryStorage, **arguments: Any) -> None:
        self.storage = storage
        reader = PeriodicExportingMetricReader(
            RimpMetricExporter(storage), export_interval_millis=1_000_000
        )
        self.provider = MeterProvider([reader], shutdown_on_exit=False, **arguments)
        self.meter = self.provider.get_meter("test_meter")

    def points(self) -> list[Any]:
        """Return all points that the storage has after another flush."""
        self.provider.force_flush()
        return self.storage.retrieve().metrics

    def close(self) -> None:
        """End the reader's thread."""
        self.provider.shutdown()


@pytest.fixture
def metered(storage: TelemetryStorage) -> Iterator[Metered]:
    """Return a provider of meters with the SDK's usual settings."""
    metered = Metered(storage)
    yield metered
    metered.close()


def test_a_counter_is_exported_at_a_shutdown(storage):
    """TestConsoleExporter.test_console_exporter."""
    metered = Metered(storage)
    counter = metered.meter.create_counter("name", description="description", unit="unit")
    counter.add(1, attributes={"a": "b"})
    metered.close()
    (metric,) = storage.retrieve().metrics
    assert (metric.name, metric.description, metric.unit) == ("name", "description", "unit")
    assert (metric.kind, metric.temporality) == (MetricKind.SUM, Temporality.CUMULATIVE)
    assert (metric.is_monotonic, metric.tags, metric.value) == (True, {"a": "b"}, 1)
    assert metric.scope.name == "test_meter"


def test_without_instruments_nothing_is_exported(storage):
    """TestConsoleExporter.test_console_exporter_no_export."""
    Metered(storage).close()
    assert not storage.retrieve()


def test_exemplars_have_the_time_of_their_measurement(storage):
    """TestConsoleExporter.test_console_exporter_with_exemplars."""
    metered = Metered(storage, exemplar_filter=AlwaysOnExemplarFilter())
    now = "opentelemetry.sdk.metrics._internal.instrument.time_ns"
    with mock.patch(now, return_value=1_234_567_890):
        metered.meter.create_counter("name").add(1, attributes={"a": "b"}, context=Context())
    (metric,) = metered.points()
    assert metric.exemplars == [Exemplar(1, 1_234_567_890)]
    metered.close()


def test_no_metrics_are_a_success(storage):
    """TestInMemoryMetricReader.test_no_metrics."""
    assert RimpMetricExporter(storage).export(MetricsData([])) is MetricExportResult.SUCCESS
    assert not storage.retrieve()


def test_a_shutdown_of_metrics_succeeds(storage):
    """TestInMemoryMetricReader.test_shutdown."""
    assert RimpMetricExporter(storage).shutdown() is None


def test_each_set_of_attributes_is_a_point(metered):
    """TestInMemoryMetricReader.test_integration."""
    counter = metered.meter.create_counter("counter1")
    metered.meter.create_observable_gauge(
        "observable_gauge1", callbacks=[lambda options: [Observation(value=12)]]
    )
    counter.add(1, {"foo": "1"})
    counter.add(1, {"foo": "2"})
    assert sorted((metric.name, metric.value) for metric in metered.points()) == [
        ("counter1", 1),
        ("counter1", 1),
        ("observable_gauge1", 12),
    ]


def test_a_cumulative_counter_goes_on_counting(metered):
    """TestInMemoryMetricReader.test_cumulative_multiple_collect."""
    metered.meter.create_counter("counter1").add(1, attributes={"key": "value"})
    metered.points()
    first, second = metered.points()
    assert (first.tags, first.value) == (second.tags, second.value)
    assert first.start_time_unix_nano == second.start_time_unix_nano
    assert first.time_unix_nano <= second.time_unix_nano


def test_a_histogram_keeps_its_buckets(metered):
    """TestHistogramExport.test_histogram_counter_collection."""
    metered.meter.create_histogram("my_histogram").record(5, {"attribute": "value"})
    metered.meter.create_counter("my_counter").add(1, {"attribute": "value_counter"})
    metered.points()
    histograms = [m for m in metered.points() if m.kind is MetricKind.HISTOGRAM]
    assert len(histograms) == 2
    for histogram in histograms:
        assert histogram.point.bucket_counts == (0, 1, *[0] * 14)
    counters = [m.value for m in metered.storage.retrieve().metrics if m.kind is MetricKind.SUM]
    assert counters == [1, 1]


def test_a_histogram_keeps_its_exemplars(storage):
    """TestHistogramExport.test_histogram_with_exemplars."""
    metered = Metered(storage, exemplar_filter=AlwaysOnExemplarFilter())
    histogram = metered.meter.create_histogram("my_histogram")
    for value, name in ((2, "value1"), (7, "value2"), (9, "value2"), (15, "value3")):
        histogram.record(value, {"attribute": name})
    points = metered.points()
    assert [metric.value for metric in points] == [2.0, 16.0, 15.0]
    assert [[e.value for e in metric.exemplars] for metric in points] == [[2], [9], [15]]
    metered.close()


def test_without_exemplars_there_are_none(storage):
    """TestHistogramExport.test_filter_with_exemplars."""
    metered = Metered(storage, exemplar_filter=AlwaysOffExemplarFilter())
    histogram = metered.meter.create_histogram("my_histogram")
    histogram.record(2, {"attribute": "value1"})
    histogram.record(7, {"attribute": "value2"})
    assert [metric.exemplars for metric in metered.points()] == [[], []]
    metered.close()


@pytest.mark.parametrize(
    ("setting", "is_in_span", "is_explicit", "ids"),
    [
        ("always_on", False, False, [(0, 0)]),
        ("trace_based", True, False, [(TRACE_ID, SPAN_ID)]),
        (None, False, False, []),
        (None, True, False, [(TRACE_ID, SPAN_ID)]),
        (None, True, True, [(TRACE_ID, SPAN_ID)]),
        ("always_off", True, False, []),
    ],
    ids=[
        "test_always_on_exemplars",
        "test_trace_based_exemplars",
        "test_default_exemplar_filter_no_span",
        "test_default_exemplar_filter",
        "test_exemplar_trace_based_manual_context",
        "test_always_off_exemplars",
    ],
)
def test_exemplars_have_their_span(storage, monkeypatch, setting, is_in_span, is_explicit, ids):
    """TestExemplars, all six: each is named by its parameter."""
    if setting:
        monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", setting)
    span = NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, False, TraceFlags(TraceFlags.SAMPLED)))
    metered = Metered(storage)
    counter = metered.meter.create_counter("testcounter")
    if is_explicit:
        counter.add(10, {"label": "value1"}, context=trace.set_span_in_context(span))
    elif is_in_span:
        with trace.use_span(span):
            counter.add(10, {"label": "value1"})
    else:
        counter.add(10, {"label": "value1"})
    (metric,) = metered.points()
    assert (metric.value, metric.tags) == (10, {"label": "value1"})
    assert [(e.value, e.filtered_attributes) for e in metric.exemplars] == [(10, {})] * len(ids)
    assert [(e.trace_id, e.span_id) for e in metric.exemplars] == ids
    metered.close()


def drops_what_is_no_number() -> bool:
    """Return True if the SDK drops NaN; at its floor, one NaN spoils a sum for ever."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counter = provider.get_meter("m").create_counter("c")
    counter.add(1)
    counter.add(math.nan)
    data = reader.get_metrics_data()
    provider.shutdown()
    return data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].value == 1


@pytest.mark.skipif(not drops_what_is_no_number(), reason="the SDK adds up what is no number")
@pytest.mark.parametrize(
    ("create", "measure", "values", "total"),
    [
        ("create_counter", "add", (5, math.nan, 3), 8),
        ("create_counter", "add", (5, math.inf, 3), 8),
        ("create_histogram", "record", (10, math.nan, 20), 30),
        ("create_histogram", "record", (10, math.inf, 20), 30),
        ("create_up_down_counter", "add", (10, math.nan, -3), 7),
    ],
    ids=[
        "test_counter_nan_does_not_corrupt_sum",
        "test_counter_inf_does_not_corrupt_sum",
        "test_histogram_nan_does_not_corrupt_count_or_sum",
        "test_histogram_inf_does_not_corrupt_count_or_sum",
        "test_updown_counter_nan_does_not_corrupt_sum",
    ],
)
def test_what_is_no_number_spoils_no_sum(metered, create, measure, values, total):
    """TestNonFiniteMeasurements, all five: each is named by its parameter."""
    instrument = getattr(metered.meter, create)("instrument")
    for value in values:
        getattr(instrument, measure)(value)
    (metric,) = metered.points()
    assert metric.value == total
    assert metric.point is None or metric.point.count == 2
