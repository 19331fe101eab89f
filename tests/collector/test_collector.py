"""The collector: native and SDK records, listeners, the bounded buffer, exact counts."""

from __future__ import annotations

import sys
import threading
from decimal import Decimal
from fractions import Fraction

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from rimp_otel import (
    CollectorStats,
    EventType,
    MemoryStorage,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryStream,
)
from rimp_otel.batch import skipped_count
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.lines import EncodedRecord, Envelope
from tests.doubles import Gathered, ListStorage
from tests.processes import run
from tests.storage.journaled import Journaled


def small(**settings):
    """Return a collector with these settings."""
    return TelemetryCollector(TelemetryConfig(**settings))


def test_flush_without_a_stream_returns_and_empties():
    """flush() returns each record once, in order."""
    collector = TelemetryCollector()
    collector.collect_event("auth", "first", metadata={"user": "ann"})
    collector.collect_metric("load", 0.5, "1", {"core": 1})
    collector.collect_event("auth", "second", EventType.ERROR)
    data = collector.flush()
    assert [event.message for event in data.events] == ["first", "second"]
    assert data.events[0].metadata == {"user": "ann"}
    assert data.events[1].event_type is EventType.ERROR
    assert [(m.name, m.value, m.unit, m.tags) for m in data.metrics] == [
        ("load", 0.5, "1", {"core": 1})
    ]
    assert not collector.flush()
    assert collector.stats() == CollectorStats(3, 3, 0, {}, 0)


def test_native_record_carries_resource_and_scope():
    """An event's scope is named by its source."""
    collector = TelemetryCollector(resource=Resource({"service.name": "shop"}))
    collector.collect_event("auth", "x")
    collector.collect_metric("load", 1)
    data = collector.flush()
    assert data.events[0].scope.name == "auth"
    assert data.events[0].resource.attributes == {"service.name": "shop"}
    assert data.metrics[0].resource.attributes == {"service.name": "shop"}


def test_resource_of_configuration_and_environment(monkeypatch):
    """OTEL_RESOURCE_ATTRIBUTES is honoured, and the configuration adds to it."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=blue,host.name=h")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-otel")
    collector = TelemetryCollector(TelemetryConfig.from_env(resource_attributes={"team": "red"}))
    attributes = collector.resource.attributes
    assert (attributes["service.name"], attributes["team"], attributes["host.name"]) == (
        "from-otel",
        "red",
        "h",
    )


def test_event_inside_a_span_carries_its_ids():
    """The span's ids are in the object and in the text."""
    collector = TelemetryCollector()
    tracer = TracerProvider().get_tracer("t")
    with tracer.start_as_current_span("work") as span:
        collector.collect_event("a", "inside")
    collector.collect_event("a", "outside")
    context = span.get_span_context()
    data = collector.flush()
    inside, outside = data.events
    assert (inside.trace_id, inside.span_id) == (context.trace_id, context.span_id)
    assert inside.trace_flags == int(context.trace_flags)
    assert (outside.trace_id, outside.span_id, outside.trace_flags) == (0, 0, 0)
    (line,) = data.otlp_json(Signal.LOGS)
    assert f'"traceId":"{context.trace_id:032x}"'.encode() in line
    assert f'"spanId":"{context.span_id:016x}"'.encode() in line


def test_spans_and_log_records_of_the_sdk():
    """The collector processes both; a span that is not sampled is left out."""
    collector = TelemetryCollector()
    tracing, sampled_out = TracerProvider(), TracerProvider(sampler=ALWAYS_OFF)
    for provider in (tracing, sampled_out):
        provider.add_span_processor(collector)
        with provider.get_tracer("t").start_as_current_span("work"):
            pass
    logging = LoggerProvider(shutdown_on_exit=False)
    logging.add_log_record_processor(collector)
    body = {"a": [1]}
    logging.get_logger("l").emit(body=body, event_name="e")
    body["a"] = "changed"
    data = collector.flush()
    assert [span.name for span in data.spans] == ["work"]
    assert [(e.event_name, e.body) for e in data.events] == [("e", {"a": [1]})]
    assert collector.stats().collected == 2
    assert collector.force_flush() is True
    tracing.shutdown()
    collector.collect_event("after", "shutdown")
    assert len(collector.flush().events) == 1


def test_log_record_that_cannot_be_encoded_is_counted():
    """It is dropped under its reason, and nothing is raised."""
    collector = TelemetryCollector()
    collector.on_emit(object())
    collector.on_end(object())
    assert collector.stats() == CollectorStats(1, 0, 0, {"encoding": 1}, 0)


def test_disabled_collector_does_nothing():
    """It has no record, no count, and calls no listener."""
    collector = small(enabled=False, realtime_mode=True)
    heard = Gathered()
    collector.add_listener(heard)
    collector.collect_event("a", "b")
    collector.collect_metric("a", "no number")
    collector.on_end(object())
    collector.on_emit(object())
    assert collector.flush().events == []
    assert collector.stats() == CollectorStats(0, 0, 0, {}, 0)
    assert heard.count == 0


def test_bounded_buffer_drops_the_oldest_and_counts():
    """Without a stream, buffer_size is the bound."""
    collector = small(buffer_size=3)
    for i in range(10):
        collector.collect_event("a", str(i))
    collector.collect_metric("m", 1)
    assert collector.stats() == CollectorStats(11, 0, 3, {"buffer_full": 8}, 0, in_memory=3)
    data = collector.flush()
    assert [event.message for event in data.events] == ["8", "9"]
    assert collector.stats() == CollectorStats(11, 3, 0, {"buffer_full": 8}, 0)
    assert CollectorBuffer(collector).counts.of_signal(Signal.LOGS) == (2, {"buffer_full": 8})


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (True, 1),
        (-0.0, 0.0),
        (2**70, 2**70),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 2), 0.5),
        ("2.5", 2.5),
    ],
)
def test_values_that_are_numbers(value, kept):
    """A Decimal, a bool and a text that is a number are collected as numbers."""
    collector = TelemetryCollector()
    collector.collect_metric("m", value)
    (metric,) = collector.flush().metrics
    assert metric.value == kept
    assert type(metric.value) is type(kept)


class Hostile(dict):
    """A mapping that raises from every method."""

    def items(self):
        raise RuntimeError("no")

    keys = __iter__ = __len__ = __bool__ = __repr__ = __str__ = items


@pytest.mark.parametrize("value", ["many", None, [1], {}, object(), Hostile(), b"\xff", 1j])
def test_value_that_is_no_number_is_counted(value):
    """It is dropped under its reason, and nothing is raised."""
    collector = TelemetryCollector()
    collector.collect_metric("m", value)
    assert collector.stats() == CollectorStats(1, 0, 0, {"invalid_value": 1}, 0)


def test_metadata_is_copied():
    """A later change of it does not show, at any depth."""
    collector = TelemetryCollector()
    flat, deep = {"a": 1}, {"list": [1], "map": {"x": {"y": 1}}, "set": {1}, "tuple": (1, 2)}
    collector.collect_event("a", "flat", metadata=flat)
    collector.collect_event("a", "deep", metadata=deep)
    collector.collect_metric("m", 1, tags=deep)
    flat["a"] = 2
    deep["list"].append(2)
    deep["map"]["x"]["y"] = 2
    data = collector.flush()
    kept = {"list": [1], "map": {"x": {"y": 1}}, "set": [1], "tuple": [1, 2]}
    assert [event.metadata for event in data.events] == [{"a": 1}, kept]
    assert data.metrics[0].tags == kept


class Unreadable:
    """An object that cannot be made a text."""

    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __bool__ = __len__ = __str__


@pytest.mark.parametrize(
    "metadata",
    [Hostile(), Unreadable(), 7, "text", [("a", 1)], [1, 2], {1: 2}, {"a": Unreadable()}],
)
def test_odd_metadata_costs_at_most_itself(metadata):
    """The event is collected and encoded all the same, and nothing is raised."""
    collector = TelemetryCollector()
    collector.collect_event("a", "b", metadata=metadata)
    collector.collect_metric("m", 1, tags=metadata)
    data = collector.flush()
    assert data.otlp_json(Signal.LOGS)
    assert data.otlp_json(Signal.METRICS)
    assert skipped_count(data, Signal.LOGS) == skipped_count(data, Signal.METRICS) == 0
    assert data.events[0].message == "b"


def test_cyclic_metadata_is_cut():
    """It ends where it would begin again."""
    collector = TelemetryCollector()
    cyclic: dict[str, object] = {"a": 1}
    cyclic["self"] = cyclic
    collector.collect_event("a", "b", metadata=cyclic)
    (event,) = collector.flush().events
    assert event.metadata == {"a": 1, "self": {"a": 1, "self": "<cycle>"}}


@pytest.mark.parametrize("odd", [None, 7, b"x", Unreadable(), ["x"]])
def test_arguments_that_are_no_text(odd):
    """They become text, and nothing is raised."""
    collector = TelemetryCollector()
    collector.collect_event(odd, odd, odd)
    collector.collect_metric(odd, 1, odd)
    data = collector.flush()
    event = data.events[0]
    assert isinstance(event.source, str)
    assert isinstance(event.message, str)
    # 7 is a severity number; what names no severity is an error.
    assert event.event_type is (EventType.DEBUG if odd == 7 else EventType.ERROR)
    assert isinstance(data.metrics[0].name, str)
    assert data.otlp_json(Signal.LOGS)
    assert data.otlp_json(Signal.METRICS)


def test_text_that_cannot_be_made():
    """An integer of more than 4,300 digits, of which Python makes no text, becomes a note."""
    collector = small()
    collector.collect_event("a", 10**5_000)
    message = collector.flush().events[0].message
    assert message in ("<a int that cannot be read: ValueError>", "1" + 5_000 * "0")


def test_event_type_by_its_name():
    """A text of any case names an event type."""
    collector = TelemetryCollector()
    collector.collect_event("a", "b", "ERROR")
    assert collector.flush().events[0].event_type is EventType.ERROR


def test_listener_is_called_at_once():
    """It gets a batch of the one record, of every kind of record."""
    collector = small(realtime_mode=True)
    heard = Gathered()
    collector.add_listener(heard)
    provider = TracerProvider()
    provider.add_span_processor(collector)
    collector.collect_event("a", "b")
    assert heard.messages == ["b"]
    collector.collect_metric("m", 3)
    assert [metric.value for metric in heard.batches[1].metrics] == [3]
    provider.get_tracer("t").start_span("work").end()
    assert [span.name for span in heard.batches[2].spans] == ["work"]
    assert [len(batch) for batch in heard.batches] == [1, 1, 1]
    assert collector.stats().pending == 3


def test_listeners_are_for_realtime_mode():
    """Without that mode no listener is called."""
    collector = TelemetryCollector()
    heard = Gathered()
    collector.add_listener(heard)
    collector.collect_event("a", "b")
    assert heard.count == 0


def test_listener_that_is_added_during_a_refresh():
    """A refresh of the fast path that began before does not undo the one for the listener."""
    heard = Gathered()

    class Interrupted(TelemetryCollector):
        is_armed = False

        @property
        def _append_raw(self):
            return self.append_raw

        @_append_raw.setter
        def _append_raw(self, append_raw):
            if self.is_armed:
                self.is_armed = False
                self.add_listener(heard)
            self.append_raw = append_raw

    collector = Interrupted(TelemetryConfig(realtime_mode=True))
    collector.is_armed = True
    collector._refresh_fast_path()
    collector.collect_event("a", "b")
    assert heard.count == 1


def test_time_before_1970_costs_itself(monkeypatch):
    """A clock that a program's tests set before 1970 gives the time 0 on disk."""
    collector = TelemetryCollector()
    monkeypatch.setattr("rimp_otel.collector.collector.time_ns", lambda: -5)
    collector.collect_event("a", "b")
    collector.collect_metric("c", 1)
    data = collector.flush()
    for signal, record in ((Signal.LOGS, data.events[0]), (Signal.METRICS, data.metrics[0])):
        (line,) = data.otlp_json(signal)
        (read,) = decode_line(line).records
        assert read.time_unix_nano == 0
        assert record.time_unix_nano == -5


def test_exception_of_a_signal_handler_leaves_no_record_that_never_comes():
    """A record that it interrupts is counted only once it is complete."""
    collector = TelemetryCollector()

    class Interrupted:
        def keys(self):
            raise KeyboardInterrupt  # a signal arrives while the attributes are copied

    with pytest.raises(KeyboardInterrupt):
        collector.collect_event("a", "b", metadata=Interrupted())
    assert collector.stats() == CollectorStats(0, 0, 0, {}, 0)


def test_listener_that_raises_is_counted_and_isolated(capsys):
    """The next listener is called, and the application sees no exception."""
    collector = small(realtime_mode=True)
    heard = Gathered()

    def broken(data):
        list.clear(data.events)
        raise ValueError("no such host")

    collector.add_listener(broken)
    collector.add_listener(heard)
    for _ in range(3):
        collector.collect_event("a", "b")
    assert heard.messages == ["b", "b", "b"]
    assert collector.stats().listener_errors == 3
    assert collector.stats().last_listener_error == "ValueError: no such host"
    name = "test_listener_that_raises_is_counted_and_isolated.<locals>.broken"
    said = f"rimp: the listener {name} raised ValueError: no such host\n"
    assert capsys.readouterr().err == said
    assert len(collector.flush()) == 3


def test_listener_that_collects_does_not_recurse():
    """What a listener collects is recorded, and announced to no listener."""
    collector = small(realtime_mode=True)
    collector.add_listener(lambda data: collector.collect_event("listener", "alert"))
    collector.collect_event("a", "b")
    collector.collect_event("a", "c")
    assert [e.message for e in collector.flush().events] == ["b", "alert", "c", "alert"]


def test_listener_on_another_thread_is_not_recursion():
    """The guard against recursion holds for one thread."""
    collector = small(realtime_mode=True)
    heard = []

    def listener(data):
        heard.append(data.events[0].message)
        if len(heard) == 1:
            other = threading.Thread(target=collector.collect_event, args=("b", "other"))
            other.start()
            other.join()

    collector.add_listener(listener)
    collector.collect_event("a", "first")
    assert heard == ["first", "other"]


def test_listener_is_removed():
    """It is removed once for each time that it was added; an unknown one is ignored."""
    collector = small(realtime_mode=True)
    heard = Gathered()
    collector.add_listener(heard)
    collector.add_listener(heard)
    collector.remove_listener(heard)
    collector.remove_listener(print)
    collector.collect_event("a", "b")
    collector.remove_listener(heard)
    collector.collect_event("a", "c")
    assert heard.messages == ["b"]


def test_listener_that_flushes():
    """flush() within a listener returns the record that the listener was called with."""
    collector = small(realtime_mode=True)
    flushed = []
    collector.add_listener(lambda data: flushed.append(len(collector.flush())))
    collector.collect_event("a", "b")
    assert flushed == [1]
    assert collector.stats() == CollectorStats(1, 1, 0, {}, 0)


def test_many_threads_are_counted_exactly():
    """Four threads collect while another one flushes, and the counts are exact."""
    collector = small(buffer_size=500)
    done, flushed = threading.Event(), []

    def collect():
        for i in range(5_000):
            collector.collect_event("a", "b")
            collector.collect_metric("m", i)

    def flush():
        while not done.is_set():
            flushed.append(len(collector.flush()))

    threads = [threading.Thread(target=collect) for _ in range(4)]
    flusher = threading.Thread(target=flush)
    for thread in [*threads, flusher]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    flusher.join()
    flushed.append(len(collector.flush()))
    stats = collector.stats()
    assert (stats.collected, stats.pending, stats.stored) == (40_000, 0, sum(flushed))
    assert stats.stored + stats.dropped.get("buffer_full", 0) == 40_000


def test_attached_stream_widens_the_buffer():
    """With a stream, up to buffer_limit records wait."""
    collector = small(buffer_size=2, buffer_limit=4)
    TelemetryStream(collector, ListStorage()).stop()
    for i in range(6):
        collector.collect_event("a", str(i))
    assert collector.stats().dropped == {"buffer_full": 2}
    assert [e.message for e in collector.flush().events] == ["2", "3", "4", "5"]


def test_child_of_a_fork_starts_with_nothing():
    """It has neither the records nor the counts of its parent."""
    script = """
    import os
    from rimp_otel import TelemetryCollector
    collector = TelemetryCollector()
    collector.collect_event("a", "parent")
    if (child := os.fork()) == 0:
        empty = collector.stats().collected == 0
        collector.collect_event("a", "child")
        own = [event.message for event in collector.flush().events] == ["child"]
        os._exit(0 if empty and own else 1)
    assert os.waitpid(child, 0)[1] == 0
    print([event.message for event in collector.flush().events], collector.stats())
    """
    assert run(script) == (
        "['parent'] CollectorStats(collected=1, stored=1, pending=0, dropped={}, "
        "listener_errors=0, recovered=0, "
        "last_listener_error=None, in_memory=0)\n"
    )


SIGNALS = """
import gc, signal, sys, threading, time
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStorage, TelemetryStream
from rimp_otel.models.records import Signal

total, threads = int(sys.argv[1]), 5
config = TelemetryConfig(buffer_size=1_000, buffer_limit=20_000, flush_interval=0.05,
                         flush_timeout=60.0)
collector = TelemetryCollector(config)

class Quick(TelemetryStorage):
    count = 0
    def store(self, data):
        self.count += len(data)
    def retrieve(self, *limits):
        raise NotImplementedError

storage = Quick()
stream = TelemetryStream(collector, storage)
stream.start()
handled, finalized = [0], [0]

def handler(*_):
    handled[0] += 1
    collector.collect_event("signal", "handler", metadata={"n": [handled[0]]})

class Cyclic:
    def __init__(self):
        self.me = self
    def __del__(self):
        collector.collect_event("finalizer", "del")
        counts.append(None)

counts = []
gc.set_threshold(50)

def collect(n):
    for i in range(n):
        if i % 500 == 0:
            Cyclic()
        collector.collect_event("a", "b", metadata={"i": i})

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
others = [threading.Thread(target=collect, args=(total // threads,)) for _ in range(threads - 1)]
for other in others:
    other.start()
collect(total // threads)
for other in others:
    other.join()
signal.setitimer(signal.ITIMER_REAL, 0)
gc.collect()
gc.disable()
assert stream.stop(60.0)
stats = collector.stats()
expected = total + handled[0] + len(counts)
assert handled[0] > 100 and len(counts) > 100, (handled, len(counts))
assert stats.collected == expected, (stats, expected)
assert stats.pending == 0 and stats.stored == storage.count, (stats, storage.count)
assert stats.stored + sum(stats.dropped.values()) == expected
print("exact")
"""


def test_signal_handler_and_finalizers_while_collecting():
    """A million records, interrupted every 0.2 ms, are counted exactly, without a deadlock."""
    assert run(SIGNALS, 1_000_000, timeout=110.0) == "exact\n"


def test_far_behind_whoever_collects_encodes():
    """Records that are encoded because the stream is far behind are neither lost nor reordered."""
    collector = TelemetryCollector(TelemetryConfig(buffer_size=2, buffer_limit=64))
    storage = MemoryStorage()
    stream = TelemetryStream(collector, storage)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(collector)
    for number in range(20):
        collector.collect_event("app", str(number), metadata={"n": number})
        collector.collect_metric("cpu", number)
        provider.get_tracer("t").start_span(str(number)).end()
    buffer = CollectorBuffer(collector)
    taken = buffer.take(60)
    assert [event.message for event in taken.events] == [str(n) for n in range(20)]
    assert [event.metadata for event in taken.events] == [{"n": n} for n in range(20)]
    assert [metric.value for metric in taken.metrics] == list(range(20))
    assert [span.name for span in taken.spans] == [str(n) for n in range(20)]
    storage.store(taken)
    assert len(storage) == 60
    buffer.counts.store(taken)
    stream.stop()
    assert collector.stats() == CollectorStats(60, 60, 0, {}, 0)


def test_what_a_listener_does_to_a_record_nobody_else_sees():
    """Neither the next listener nor the storage sees a change."""
    collector = TelemetryCollector(TelemetryConfig(realtime_mode=True))
    seen = []
    collector.add_listener(lambda data: data.events[0].metadata["nested"].clear())
    collector.add_listener(lambda data: seen.append(data.events[0].metadata))
    collector.collect_event("app", "x", metadata={"nested": [1]})
    assert seen == [{"nested": [1]}]
    assert collector.flush().events[0].metadata == {"nested": [1]}


def test_a_listener_cannot_end_the_program():
    """Even SystemExit is counted; only KeyboardInterrupt, which is the user's, is raised."""
    collector = TelemetryCollector(TelemetryConfig(realtime_mode=True))
    collector.add_listener(lambda _: sys.exit(3))
    collector.collect_event("app", "x")
    assert collector.stats().listener_errors == 1


def foreign_spans(count):
    """Return encoded spans of another program."""
    resource = Envelope(
        '{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"other"}}]},', "}"
    )
    scope = Envelope('{"scope":{"name":"s"},', "}")
    return [
        EncodedRecord(
            n + 1, resource, scope, None, f'{{"name":"{n}","startTimeUnixNano":"{n + 1}"}}'
        )
        for n in range(count)
    ]


def test_records_of_other_programs_are_accepted(tmp_path):
    """All of them are in the journal then, counted, and stored with their own resource."""
    collector = small(storage_path=tmp_path / "t", service_name="ours")
    with TelemetryStream(collector, interval=1e6) as stream:
        assert collector.accept_records(Signal.TRACES, foreign_spans(3))
        assert collector.accept_records(Signal.TRACES, [])
        assert collector.stats().pending == collector.stats().collected == 3
        stream.flush()
        assert collector.stats() == CollectorStats(3, 3, 0, {}, 0)
        found = stream.storage.retrieve().spans
    assert [span.name for span in found] == ["0", "1", "2"]
    assert {span.resource.attributes["service.name"] for span in found} == {"other"}


def test_records_that_are_not_accepted_are_not_counted(tmp_path):
    """Of more than the journal can hold, none is kept; nor where telemetry is disabled."""
    collector = small(storage_path=tmp_path / "t", journal_size=1024 * 1024)
    with TelemetryStream(collector, interval=1e6):
        spans = [
            span._replace(text=span.text[:-1] + f',"x":"{"x" * 9_999}"}}')
            for span in foreign_spans(200)
        ]
        assert not collector.accept_records(Signal.TRACES, spans)
        assert collector.stats() == CollectorStats(0, 0, 0, {}, 0)
        assert collector.accept_records(Signal.TRACES, spans[:50])
        assert collector.stats().pending == 50
    assert collector.stats() == CollectorStats(50, 50, 0, {}, 0)
    assert not small(enabled=False).accept_records(Signal.TRACES, spans)


def test_records_of_other_programs_wake_the_stream(tmp_path):
    """It drains once so many were accepted as make a buffer full."""
    process, woken = Journaled(tmp_path / "t"), []
    process.wake = lambda: woken.append(process.collector.stats().collected)
    for _ in range(5):
        assert process.collector.accept_records(Signal.TRACES, foreign_spans(1_024))
    assert woken == [2_048, 4_096]
    process.drain()
    process.close()


def test_records_of_other_programs_wait_in_memory_without_a_journal():
    """All of them or none, up to the buffer's limit; a listener hears of each."""
    collector = small(buffer_size=10, realtime_mode=True)
    heard = []
    collector.add_listener(lambda data: heard.extend(span.name for span in data.spans))
    assert collector.accept_records(Signal.TRACES, foreign_spans(8))
    assert not collector.accept_records(Signal.TRACES, foreign_spans(3))
    assert heard == [str(n) for n in range(8)]
    assert collector.stats().collected == 8
    assert [span.name for span in collector.flush().spans] == heard
