"""The life cycle of a stream: its public methods on several threads at once."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream, process
from tests.doubles import DEADLINE, Gathered, ListStorage

ROUNDS = 3


@pytest.fixture
def _switching_often() -> Iterator[None]:
    """Have the interpreter switch between threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*functions: Callable[[], object]) -> None:
    """Call the functions at once, each on a thread of its own, and wait for all of them."""
    barrier = threading.Barrier(len(functions))
    raised = []

    def work(function: Callable[[], object]) -> None:
        barrier.wait()
        try:
            function()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=work, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), functions
    assert raised == []


def live_threads() -> list[threading.Thread]:
    """Return the threads that drain."""
    return [thread for thread in threading.enumerate() if thread.name == "rimp-stream"]


@pytest.mark.usefixtures("_switching_often")
def test_started_by_many_threads():
    """Threads that start a stream at once make one thread, which ends with stop."""
    stream = TelemetryStream(TelemetryCollector(), ListStorage(), interval=600.0)
    before = set(live_threads())
    for _ in range(40):
        together(*[stream.start] * 4)
        assert len(set(live_threads()) - before) == 1
        assert stream.stop()
        assert set(live_threads()) <= before


@pytest.mark.usefixtures("_switching_often")
def test_listeners_and_consumers_of_many_threads():
    """None is lost that another thread adds or removes at the same time."""
    config = TelemetryConfig(realtime_mode=True, flush_interval=600.0)
    stream = TelemetryStream(TelemetryCollector(config), ListStorage())
    collector = stream.collector
    for _ in range(40):
        gathered = [Gathered() for _ in range(8)]
        together(*[lambda one=one: collector.add_listener(one) for one in gathered])
        together(*[lambda one=one: stream.add_consumer(one) for one in gathered])
        collector.collect_event("a", "1")
        stream.flush()
        assert [one.messages for one in gathered] == [["1", "1"]] * 8
        together(*[lambda one=one: collector.remove_listener(one) for one in gathered])
        together(*[lambda one=one: stream.remove_consumer(one) for one in gathered])
        collector.collect_event("a", "2")
        stream.flush()
        assert [one.messages for one in gathered] == [["1", "1"]] * 8
    stream.stop()


def test_streams_that_are_made_and_dropped_leave_nothing(tmp_path):
    """Once it is stopped and dropped, a stream leaves no object, fork hook or exit entry."""

    def make(number: int) -> None:
        collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0))
        storage = FileStorage(tmp_path / str(number)) if number % 2 else ListStorage()
        with TelemetryStream(collector, storage):
            collector.collect_event("a", "1")

    def count() -> tuple[int, ...]:
        gc.collect()
        gc.collect()  # what the exit held until a stream was collected
        kinds = TelemetryCollector, TelemetryStream, FileStorage, process.AtExit
        objects = sum(isinstance(one, kinds) for one in gc.get_objects())
        hooks = len(process._resets), len(process._last_resets), len(process._exits)
        return objects, *hooks

    for number in range(4):
        make(number)
    before = count()
    for number in range(20):
        make(number)
    assert count() == before


def methods_of(stream: TelemetryStream) -> dict[str, Callable[[], object]]:
    """Return each public method of a stream and of its collector, with its arguments."""
    collector = stream.collector
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(collector)
    loggers = LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(collector)
    meters = MeterProvider(metric_readers=[stream], shutdown_on_exit=False)
    tracer, logger = tracers.get_tracer("t"), loggers.get_logger("l")
    counter = meters.get_meter("m").create_counter("c")
    consumer, listener = Gathered(), Gathered()
    return {
        "collect_event": lambda: collector.collect_event("a", "1"),
        "collect_metric": lambda: collector.collect_metric("m", 1.0),
        "span": lambda: tracer.start_span("s").end(),
        "log": lambda: logger.emit(LogRecord(body="l")),
        "measure": lambda: counter.add(1),
        "add_listener": lambda: collector.add_listener(listener),
        "remove_listener": lambda: collector.remove_listener(listener),
        "collector.flush": collector.flush,
        "collector.force_flush": collector.force_flush,
        "collector.shutdown": collector.shutdown,
        "collector.stats": collector.stats,
        "start": stream.start,
        "stop": stream.stop,
        "add_consumer": lambda: stream.add_consumer(consumer),
        "remove_consumer": lambda: stream.remove_consumer(consumer),
        "flush": stream.flush,
        "force_flush": stream.force_flush,
        "stream.shutdown": stream.shutdown,
        "stream.stats": stream.stats,
    }


@pytest.mark.usefixtures("_switching_often")
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_every_pair_of_methods(kind, tmp_path):
    """Two threads may call any two methods: nothing is raised, lost, stored twice, or left running."""
    before = set(threading.enumerate())
    config = TelemetryConfig(
        realtime_mode=True, buffer_size=2, flush_interval=600.0, flush_timeout=DEADLINE
    )
    storage = FileStorage(tmp_path / "t") if kind == "files" else ListStorage()
    stream = TelemetryStream(TelemetryCollector(config), storage)
    methods = methods_of(stream)
    recording = [methods[name] for name in ("collect_event", "collect_metric", "span", "log")]
    for pair in combinations_with_replacement(methods.values(), 2):
        for _ in range(ROUNDS):
            together(*pair)
            for record in recording:
                record()
    assert stream.stop(DEADLINE)
    assert [t for t in threading.enumerate() if t not in before and t.name == "rimp-stream"] == []
    stats = stream.collector.stats()
    assert stats.pending == 0
    assert stats.dropped == {}
    stored = storage.retrieve()
    assert len(stored) == stats.collected == stats.stored
