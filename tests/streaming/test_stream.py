"""The stream: draining, consumers, deadlines, metrics."""

from __future__ import annotations

import os
import threading
import time

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import (
    CollectorStats,
    ConfigurationError,
    FileStorage,
    MemoryStorage,
    StorageError,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryStream,
)
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.models.records import MetricKind, Temporality
from tests.doubles import DEADLINE, Gate, Gathered, ListStorage

QUICK = 4.0
"""Seconds within which a call with a short deadline must be back, on a busy machine."""


def make(storage=None, **settings):
    """Return a stream that drains only when told, unless the settings say otherwise."""
    settings = {"flush_interval": 600.0, "metric_interval": 600.0, **settings}
    collector = TelemetryCollector(TelemetryConfig(**settings))
    return TelemetryStream(collector, ListStorage() if storage is None else storage)


@pytest.fixture
def gate():
    """A gate that is opened at the end, so that no thread hangs on."""
    gate = Gate()
    yield gate
    gate.opened.set()


def rimp_threads():
    """Return our threads that live."""
    return [t for t in threading.enumerate() if t.name.startswith("rimp-")]


def test_drains_by_interval():
    """The thread drains by itself."""
    stream = make(flush_interval=0.01)
    with stream:
        stream.collector.collect_event("a", "1")
        stream.storage.stored.wait_for(1)
        stream.collector.collect_event("a", "2")
        stream.storage.stored.wait_for(2)
    assert stream.storage.stored.messages == ["1", "2"]


def test_interval_of_its_own():
    """The argument wins over the configuration."""
    collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0))
    with TelemetryStream(collector, ListStorage(), interval=0.01) as stream:
        collector.collect_event("a", "1")
        stream.storage.stored.wait_for(1)


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), True, "1"])
def test_wrong_interval_is_named(wrong):
    """A wrong interval is named as in the configuration."""
    with pytest.raises(ConfigurationError, match="interval must be a number of seconds > 0, got"):
        TelemetryStream(TelemetryCollector(), ListStorage(), interval=wrong)


@pytest.mark.parametrize("journal", [False, True])
def test_drains_when_the_buffer_is_full(tmp_path, journal):
    """A full buffer is drained long before the interval is over, in memory or in a journal."""
    stream = make(buffer_size=5, journal_path=tmp_path if journal else None)
    woken = []
    wake = stream._worker.wake
    stream._worker.wake = lambda: (woken.append(stream.collector.stats().collected), wake())
    with stream:
        assert stream.flush().events == []
        for full in (5, 10):
            for i in range(5):
                stream.collector.collect_event("a", str(i))
            stream.storage.stored.wait_for(full)
            stream._worker.perform(lambda: None, time.monotonic() + DEADLINE)
    assert woken == [5, 10]


def test_extreme_times_are_kept_to():
    """A time that no thread can wait for means as long as it can."""
    stream = make(flush_interval=1e300, metric_interval=1e300, flush_timeout=1e300)
    with stream:
        stream.collector.collect_event("a", "1")
        assert len(stream.flush()) == 1
        assert stream.force_flush(float("inf"))


def test_storage_of_the_configuration(tmp_path):
    """Without a storage, the stream makes the configured one."""
    assert type(make_default().storage) is MemoryStorage
    stream = make_default(storage_backend="file", storage_path=tmp_path / "x")
    assert repr(stream.storage) == f"FileStorage({str(tmp_path / 'x')!r})"
    assert make_default(memory_max_records=7).storage.max_records == 7


def make_default(**settings):
    """Return a stream that makes its own storage."""
    return TelemetryStream(TelemetryCollector(TelemetryConfig(**settings)))


def test_stored_first_then_consumed():
    """A consumer finds in the storage what it is handed."""
    stream = make()
    found = []
    stream.add_consumer(lambda data: found.append(stream.storage.stored.count))
    with stream:
        stream.collector.collect_event("a", "1")
        stream.collector.flush()
    assert found == [1]


def test_flush_returns_what_it_stored():
    """When flush returns, the consumers have handled what it stored."""
    stream = make()
    gathered = Gathered()
    stream.add_consumer(gathered)
    with stream:
        for i in range(1_000):
            stream.collector.collect_event("a", str(i))
        data = stream.collector.flush()
        assert [event.message for event in data.events] == [str(i) for i in range(1_000)]
        assert gathered.messages == stream.storage.stored.messages == [str(i) for i in range(1_000)]
        assert not stream.collector.flush()


def test_never_started():
    """flush, force_flush and shutdown store all the same, and leave no thread."""
    stream = make()
    gathered = Gathered()
    stream.add_consumer(gathered)
    stream.collector.collect_event("a", "1")
    assert len(stream.flush()) == 1
    stream.collector.collect_event("a", "2")
    assert stream.collector.force_flush()
    stream.collector.collect_event("a", "3")
    stream.collector.shutdown()
    stream.collector.collect_event("a", "4")
    assert stream.stop()
    assert stream.storage.stored.messages == gathered.messages == ["1", "2", "3", "4"]
    assert stream.storage.closed == 1


def test_started_twice_has_one_thread():
    """Starting or stopping twice is no error."""
    stream = make()
    before = set(rimp_threads())
    stream.start()
    stream.start()
    assert len(set(rimp_threads()) - before) == 1
    assert stream.stop()
    assert stream.stop()
    assert set(rimp_threads()) <= before


def test_stopped_and_started_again():
    """What is collected in between is stored too."""
    stream = make()
    gathered = Gathered()
    stream.add_consumer(gathered)
    for i in range(3):
        with stream:
            stream.collector.collect_event("a", f"{i} running")
        stream.collector.collect_event("a", f"{i} stopped")
    assert stream.stop()
    expected = [f"{i} {state}" for i in range(3) for state in ("running", "stopped")]
    assert stream.storage.stored.messages == gathered.messages == expected


def test_removed_consumer_gets_no_more():
    """A removed consumer gets no more; one that was never added is ignored."""
    stream = make()
    gathered, kept = Gathered(), Gathered()
    stream.add_consumer(gathered)
    stream.add_consumer(kept)
    with stream:
        stream.collector.collect_event("a", "1")
        stream.flush()
        stream.remove_consumer(gathered)
        stream.remove_consumer(print)
        stream.collector.collect_event("a", "2")
        stream.flush()
    assert gathered.messages == ["1"]
    assert kept.messages == ["1", "2"]


def test_consumers_share_no_lists():
    """What one consumer forces upon its batch, no other sees."""
    stream = make()
    gathered = Gathered()
    stream.add_consumer(lambda data: list.clear(data.events))
    stream.add_consumer(gathered)
    with stream:
        stream.collector.collect_event("a", "1")
        data = stream.flush()
    assert gathered.messages == ["1"]
    assert len(data.events) == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_raising_consumer_disturbs_nobody(error):
    """A consumer that raises is counted, and called again."""

    def broken(data):
        raise error

    stream = make()
    gathered = Gathered()
    stream.add_consumer(broken)
    stream.add_consumer(gathered)
    with stream:
        for i in range(3):
            stream.collector.collect_event("a", str(i))
            assert stream.force_flush()
    assert gathered.messages == stream.storage.stored.messages == ["0", "1", "2"]
    assert [c[1:4] for c in stream.stats().consumers] == [(3, 3, 0), (3, 0, 0)]


def test_hanging_consumer_disturbs_nobody(gate):
    """Storing and the others go on; misses are counted exactly; deadlines hold."""
    stream = make(consumer_queue_size=2, flush_timeout=0.05)
    gathered = Gathered()
    stream.add_consumer(gate)
    stream.add_consumer(gathered)
    stream.start()
    for i in range(10):
        stream.collector.collect_event("a", str(i))
        stream.collector.collect_metric("m", i)
        assert len(stream.collector.flush()) == 2
    gathered.wait_for(20)
    assert stream.storage.stored.count == 20
    hanging, fine = stream.stats().consumers
    assert hanging[1:4] == (0, 0, 2 * (10 - 1 - 2))
    assert fine[1:4] == (20, 0, 0)
    before = time.monotonic()
    assert not stream.force_flush(50)
    assert not stream.collector.force_flush(50)
    stream.collector.shutdown()
    stream.shutdown(50)
    assert not stream.stop(0.05)
    assert time.monotonic() - before < QUICK
    assert stream.collector.stats().pending == 0
    gate.opened.set()
    assert stream.stop(DEADLINE)
    assert stream.stats().consumers[0][1:4] == (6, 0, 14)


def test_hanging_storage_keeps_nobody(gate):
    """Each call is back at its deadline; afterwards nothing was lost or stored twice."""
    stream = make(ListStorage(gate), flush_timeout=0.05)
    stream.start()
    stream.collector.collect_event("a", "1")
    before = time.monotonic()
    assert not stream.collector.flush()
    assert not stream.force_flush(50)
    assert not stream.collector.force_flush(50)
    stream.collector.shutdown()
    stream.shutdown(50)
    assert not stream.stop(0.05)
    stream.start()
    stream.collector.collect_event("a", "2")
    assert not stream.flush()
    assert not stream.stop(0.05)
    assert time.monotonic() - before < QUICK
    assert stream.collector.stats() == CollectorStats(2, 0, 2, {}, 0, in_memory=2)
    gate.opened.set()
    assert stream.stop(DEADLINE)
    assert stream.storage.stored.messages == ["1", "2"]
    assert stream.collector.stats() == CollectorStats(2, 2, 0, {}, 0)


def test_hanging_storage_of_a_stream_that_was_never_started(gate):
    """Without a thread, deadlines hold too."""
    stream = make(ListStorage(gate), flush_timeout=0.05)
    stream.collector.collect_event("a", "1")
    before = time.monotonic()
    assert not stream.flush()
    assert not stream.stop()
    assert time.monotonic() - before < QUICK
    gate.opened.set()
    assert stream.stop(DEADLINE)
    assert stream.storage.stored.messages == ["1"]


def test_storage_down_for_a_while(capsys):
    """Records wait, and are stored in order once the storage is back; consumers get them then."""
    down = threading.Event()
    down.set()

    def refuse(data):
        if down.is_set():
            raise OSError("down")

    stream = make(ListStorage(refuse), buffer_size=10)
    gathered = Gathered()
    stream.add_consumer(gathered)
    with stream:
        for i in range(100):
            stream.collector.collect_event("a", str(i))
            if i % 10 == 0:
                assert not stream.force_flush()
        assert gathered.count == 0
        down.clear()
        stream.force_flush()
    assert stream.storage.stored.messages == gathered.messages == [str(i) for i in range(100)]
    assert stream.collector.stats() == CollectorStats(100, 100, 0, {}, 0)
    assert stream.stats().store_errors >= 10


@pytest.mark.parametrize("started", [True, False])
def test_storage_that_uses_the_stream(started):
    """A storage may call the stream from store: it waits for nobody, and stores nothing twice."""

    def meddle(data):
        stream.collector.collect_event("storage", "mine")
        assert not stream.flush()
        assert not stream.collector.force_flush()
        stream.collector.shutdown()
        stream.shutdown()
        assert not stream.force_flush()
        if len(stream.storage.attempts.batches) == 1:
            stream.stop()

    stream = make(ListStorage(meddle), flush_timeout=DEADLINE)
    if started:
        stream.start()
    stream.collector.collect_event("a", "1")
    before = time.monotonic()
    assert len(stream.flush()) == 1
    assert time.monotonic() - before < QUICK
    assert stream.storage.stored.messages == ["1"]
    assert stream.collector.stats().pending == 1
    stream.storage.before = None
    assert stream.stop()
    assert stream.storage.stored.messages == ["1", "mine"]


def test_consumers_that_flush_and_stop():
    """Consumers do not wait for themselves or each other, and can stop the stream."""
    stream = make(flush_timeout=DEADLINE)
    flushed = []
    stream.add_consumer(lambda data: flushed.append(stream.flush()))
    stream.add_consumer(lambda data: flushed.append(stream.collector.flush()))
    stream.add_consumer(lambda data: stream.force_flush())
    stream.add_consumer(lambda data: stream.stop())
    stream.start()
    stream.collector.collect_event("a", "1")
    before = time.monotonic()
    assert len(stream.flush()) == 1
    assert time.monotonic() - before < QUICK
    assert len(flushed) == 2
    assert not stream._worker.is_running
    assert stream.stop()


def test_consumer_that_collects():
    """What a consumer collects is a batch of its own, later."""
    stream = make()
    stream.add_consumer(
        lambda data: (
            stream.collector.collect_event("c", "derived") if data.events[0].source == "a" else None
        )
    )
    with stream:
        stream.collector.collect_event("a", "1")
        stream.flush()
        assert stream.storage.stored.messages == ["1"]
        stream.flush()
    assert stream.storage.stored.messages == ["1", "derived"]


def test_disabled_stream_has_no_thread(tmp_path):
    """A disabled stream has no thread and no file, whatever is called."""
    before = threading.active_count()
    stream = make(FileStorage(tmp_path / "x"), enabled=False)
    stream.add_consumer(print)
    with stream:
        stream.collector.collect_event("a", "1")
        assert not stream.flush()
        assert stream.force_flush()
        assert threading.active_count() == before
        provider = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
        provider.get_meter("m").create_counter("c").add(1)
        provider.force_flush()
        provider.shutdown()
    assert list(tmp_path.iterdir()) == []


def points(stream):
    """Return the data points that were stored."""
    return [metric for batch in stream.storage.stored.batches for metric in batch.metrics]


def test_metric_reader_of_real_instruments():
    """Instruments are collected on force_flush and on stop, with scope and resource."""
    stream = make()
    provider = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    meter = provider.get_meter("shop", "1.0")
    counter = meter.create_counter("orders", "{order}", "Orders that came in")
    meter.create_histogram("duration", "s").record(0.5, {"route": "/"})
    meter.create_observable_gauge("depth", [lambda options: [Observation(7, {"q": "mail"})]])
    with stream:
        counter.add(2)
        assert provider.force_flush()
        by_name = {metric.name: metric for metric in points(stream)}
        assert by_name["orders"].value == 2
        assert by_name["orders"].kind is MetricKind.SUM
        assert by_name["orders"].temporality is Temporality.CUMULATIVE
        assert by_name["orders"].is_monotonic
        assert by_name["orders"].unit == "{order}"
        assert by_name["orders"].scope.name == "shop"
        assert by_name["duration"].point.count == 1
        assert by_name["depth"].tags == {"q": "mail"}
        assert "service.name" in by_name["depth"].resource.attributes
        counter.add(3)
    assert [metric.value for metric in points(stream) if metric.name == "orders"] == [2, 5]
    stats = stream.collector.stats()
    assert (stats.collected, stats.stored, stats.pending) == (6, 6, 0)
    provider.shutdown()


def test_metrics_are_collected_by_interval():
    """The thread collects instruments by itself."""
    stream = make(metric_interval=0.01)
    provider = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c").add(1)
    with stream:
        stream.storage.stored.wait_for(3)
    provider.shutdown()


def test_preferred_temporality():
    """A preferred temporality counts as for every MetricReader."""
    stream = TelemetryStream(
        TelemetryCollector(),
        ListStorage(),
        preferred_temporality={Counter: AggregationTemporality.DELTA},
    )
    provider = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    counter = provider.get_meter("m").create_counter("c")
    for _ in range(2):
        counter.add(1)
        provider.force_flush()
    assert [(m.value, m.temporality) for m in points(stream)] == [(1, Temporality.DELTA)] * 2
    provider.shutdown()
    stream.stop()


def test_spans_after_the_meter_providers_shutdown():
    """Only metrics end with the MeterProvider."""
    stream = make()
    meters = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    meters.get_meter("m").create_counter("c").add(1)
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(stream.collector)
    with stream:
        meters.shutdown()
        assert len(points(stream)) == 1
        tracers.get_tracer("t").start_span("late").end()
        stream.collector.collect_event("a", "late")
        tracers.shutdown()
        assert stream.collector.stats().pending == 0
        stream.shutdown()
    assert [s.name for batch in stream.storage.stored.batches for s in batch.spans] == ["late"]
    assert len(points(stream)) == 1


def test_instrument_whose_callback_raises(caplog):
    """A callback that raises costs its own points."""

    def broken(options):
        raise ValueError

    stream = make()
    provider = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    meter = provider.get_meter("m")
    meter.create_observable_gauge("broken", [broken])
    meter.create_counter("c").add(1)
    with stream:
        stream.collector.collect_event("a", "1")
        assert stream.force_flush()
    assert "c" in {metric.name for metric in points(stream)}
    assert stream.storage.stored.messages == ["1"]
    provider.shutdown()


def test_instrument_whose_callback_hangs(gate):
    """A callback that hangs breaks no deadline, and stops no span or event."""

    def hang(options):
        gate()
        return []

    stream = make(flush_interval=0.01, metric_interval=0.01, flush_timeout=0.2)
    provider = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    provider.get_meter("m").create_observable_gauge("hangs", [hang])
    stream.start()
    assert gate.reached.wait(DEADLINE)
    before = time.monotonic()
    stream.collector.collect_event("a", "1")
    stream.storage.stored.wait_for(1)
    assert not stream.force_flush(50)
    stream.collector.collect_event("a", "2")
    assert not stream.stop(0.05)
    assert time.monotonic() - before < QUICK
    assert stream.storage.stored.messages == ["1", "2"]


def test_eight_threads_whole_way(tmp_path):
    """The short form of ``python -m tests.stress`` is exact to the record, down to the files."""
    from tests.stress import stress

    result = stress(tmp_path / "telemetry", threads=8, records=5_000)
    assert result.collected == 80_000
    assert result.pending == 0
    assert result.stored + result.dropped == result.collected
    assert result.in_files == result.stored


def test_a_hanging_storage_is_waited_for_once_at_the_end():
    """However many providers shut down, none adds its own deadline."""
    release = threading.Event()

    class Hanging(ListStorage):
        def store(self, data):
            release.wait(30)

    collector = TelemetryCollector(TelemetryConfig(flush_timeout=0.2))
    stream = TelemetryStream(collector, Hanging())
    waited = []
    stream._deadline = lambda timeout, real=stream._deadline: (
        waited.append(timeout) or real(timeout)
    )
    with stream:
        collector.collect_event("app", "one")
        collector.shutdown()
        collector.shutdown()
        stream.shutdown(timeout_millis=30_000)
        assert waited == [0.2, 0.0, 0.0]
        release.set()


def test_a_storage_that_gets_over_it_is_waited_for_again():
    """A slow storage is no hanging one: what it has stored since counts."""
    collector = TelemetryCollector(TelemetryConfig(flush_timeout=0.2))
    stream = TelemetryStream(collector, ListStorage())
    stream._hangs = True
    assert collector.force_flush(5_000)
    assert stream._hangs is False


def journal_of(stream):
    """Return the files of the stream's journal."""
    return sorted(path.name for path in stream._drain._journal.segments[0].path.parent.iterdir())


def test_files_have_a_journal(tmp_path):
    """Records are on disk before they are stored, and the journal is empty after."""
    collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0))
    stream = TelemetryStream(collector, FileStorage(tmp_path))
    collector.collect_event("a", "1")
    assert journal_of(stream) == ["000001.open", "000002.seg", "lock"]
    assert [event.message for event in FileStorage(tmp_path).retrieve().events] == ["1"]
    assert not (tmp_path / "logs.jsonl").exists()
    assert stream.stop()
    assert os.listdir(tmp_path / "journal") == ["lock"]
    assert [event.message for event in FileStorage(tmp_path).retrieve().events] == ["1"]


def test_without_a_journal(tmp_path):
    """Without a journal, records wait in memory."""
    collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0, journal=False))
    stream = TelemetryStream(collector, FileStorage(tmp_path / "t"))
    collector.collect_event("a", "1")
    assert not (tmp_path / "t").exists()
    assert stream.stop()
    assert [event.message for event in stream.storage.retrieve().events] == ["1"]


def test_two_streams_of_one_storage(tmp_path):
    """Each stream has a journal of its own, in a slot of its own."""
    storage = FileStorage(tmp_path)
    collectors = [TelemetryCollector(TelemetryConfig(flush_interval=600.0)) for _ in range(2)]
    streams = [TelemetryStream(collector, storage) for collector in collectors]
    for number, collector in enumerate(collectors):
        collector.collect_event("a", str(number))
    assert (tmp_path / "journal.1" / "000002.seg").exists()
    assert all(stream.stop() for stream in streams)
    assert sorted(event.message for event in storage.retrieve().events) == ["0", "1"]


def test_storage_whose_store_does_more(tmp_path):
    """A subclass with its own store gets what the journal holds through it."""
    seen = []

    class Loud(FileStorage):
        def store(self, data):
            seen.extend(event.message for event in data.events)
            super().store(data)

    collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0))
    stream = TelemetryStream(collector, Loud(tmp_path))
    collector.collect_event("a", "1")
    assert [event.message for event in FileStorage(tmp_path).retrieve().events] == ["1"]
    assert stream.stop()
    assert seen == ["1"]
    assert [event.message for event in FileStorage(tmp_path).retrieve().events] == ["1"]


def test_storage_of_ones_own_with_a_journal(tmp_path):
    """What a custom storage could not store is kept for the next process."""

    def refuses(data):
        raise StorageError("down")

    config = TelemetryConfig(flush_interval=600.0, journal_path=tmp_path)
    collector = TelemetryCollector(config)
    stream = TelemetryStream(collector, ListStorage(refuses))
    collector.collect_event("a", "1")
    assert not stream.stop()
    stream._drain._journal.reset_after_fork()
    stream._drain._target.release_slot()  # as its death does
    collector = TelemetryCollector(config)
    stream = TelemetryStream(collector, ListStorage())
    with stream:
        collector.collect_event("a", "2")
    assert stream.storage.stored.messages == ["1", "2"]
    assert collector.stats().recovered == 1


def test_memory_has_no_journal():
    """A storage in memory needs no buffer on disk."""
    collector = TelemetryCollector(TelemetryConfig())
    stream = TelemetryStream(collector, MemoryStorage())
    collector.collect_event("a", "1")
    assert CollectorBuffer(collector).waiting == 1
    assert stream.stop()


def test_damaged_journal_is_counted(tmp_path, capsys):
    """A damaged journal goes into quarantine, and keeps nothing from starting."""
    journal = tmp_path / "journal"
    journal.mkdir(mode=0o700)
    (journal / "000001.seg").write_bytes(b"no segment" * 1_000)
    stream = make(FileStorage(tmp_path))
    with stream:
        stream.collector.collect_event("a", "1")
    assert stream.stats().damaged == 1
    assert stream.collector.stats().stored == 1
    assert sorted(os.listdir(journal)) == ["000001.seg.damaged", "lock"]
    assert "000001.seg is damaged, renamed to *.damaged" in capsys.readouterr().err


def test_second_stream_of_a_collector_is_refused():
    """It would take over silently; the first one goes on."""
    stream = make()
    with pytest.raises(ConfigurationError, match="has a stream already"):
        TelemetryStream(stream.collector, ListStorage())
    stream.collector.collect_event("a", "1")
    assert stream.stop()
    assert stream.storage.stored.messages == ["1"]


@pytest.mark.parametrize("enabled", [True, False])
def test_registered_with_a_provider(enabled):
    """A MeterProvider starts its reader, unless telemetry is disabled."""
    stream = make(metric_interval=0.01, enabled=enabled)
    provider = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    provider.get_meter("m").create_counter("c").add(1)
    assert stream._worker.is_running is enabled
    if enabled:
        stream.storage.stored.wait_for(1)
    assert stream.stop()


def test_settings_without_effect_are_named(capsys, tmp_path):
    """One that no storage here takes is said once, with its name."""
    make(flush_timeout=9.0)
    assert capsys.readouterr().err == ""
    TelemetryStream(TelemetryCollector(TelemetryConfig(rotate_size=9, memory_max_records=8)))
    said = "the setting rotate_size has no effect: a MemoryStorage takes no such setting"
    assert capsys.readouterr().err == f"rimp: {said}\n"
    make(storage_path=tmp_path / "x", retain_age=9.0)
    said = (
        "the settings storage_path and retain_age have no effect: the ListStorage was not made from"
        " the configuration"
    )
    assert capsys.readouterr().err == f"rimp: {said}\n"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"journal_size": 2**21, "record_crashes": True, "metric_checkpoint_interval": 5.0},
            "metric_checkpoint_interval, journal_size and record_crashes have no effect: a MemoryStorage"
            " has no journal without journal_path",
        ),
        ({"sync": "always"}, "sync has no effect: a MemoryStorage takes no such setting"),
        (
            {"storage_backend": "memory", "storage_path": "x"},
            "storage_path has no effect: a MemoryStorage takes no such setting",
        ),
        (
            {"storage_backend": "file", "journal_path": "j"},
            "journal_path has no effect: a FileStorage keeps its journal beside what it stores",
        ),
        (
            {"storage_path": "x.db", "journal": False, "journal_size": 2**21},
            "journal_size has no effect: there is no journal with journal=False",
        ),
        (
            {"storage_backend": "file", "sync": "never", "sync_interval": 9.0},
            "sync_interval has no effect: it counts with sync='interval', not 'never'",
        ),
        ({"storage_backend": "file", "record_crashes": True, "sync_interval": 9.0}, ""),
        ({"storage_backend": "file", "journal": False, "sync": "always"}, ""),
    ],
)
def test_settings_of_what_is_not_used_are_named(capsys, tmp_path, monkeypatch, settings, said):
    """A setting of a journal that there is none of, or has a place of its own, and of no sync."""
    monkeypatch.chdir(tmp_path)
    TelemetryStream(TelemetryCollector(TelemetryConfig(**settings)))
    found = capsys.readouterr().err
    assert found.partition("the setting")[2].removeprefix("s").strip() == said
    assert found.count("\n") == bool(said)


def test_settings_of_a_custom_storage_s_journal(capsys, tmp_path):
    """They have an effect if there is a path for it."""
    make(record_crashes=True)
    said = "the setting record_crashes has no effect: a ListStorage has no journal without journal_path"
    assert capsys.readouterr().err == f"rimp: {said}\n"
    make(record_crashes=True, journal_path=tmp_path)
    assert capsys.readouterr().err == ""
