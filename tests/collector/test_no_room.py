"""An application that leaves no room on the stack, or in memory: nothing raised, each record kept or counted."""

from __future__ import annotations

import gc
import json
import logging
import sys

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.otel.logging_capture import LoggingCapture
from rimp_otel.storage.memory import MemoryStorage
from tests.processes import run

try:
    import _testcapi
except ImportError:  # an interpreter without its tests
    _testcapi = None  # type: ignore[assignment]

ATTRIBUTES = {"text": "x" * 300, "number": 12345678901, "real": 0.5, "many": ["a", 1, None]}


class Recording:
    """A collector, its stream that nobody runs, and what calls it."""

    def __init__(self, path, kind, **config):
        config = TelemetryConfig(
            flush_interval=1e6,
            buffer_size=20,
            journal_size=2**20,
            realtime_mode=kind == "listeners",
            journal=kind != "memory",
        )
        self.collector = TelemetryCollector(config)
        self.storage = MemoryStorage() if kind == "memory" else FileStorage(path)
        self.stream = TelemetryStream(self.collector, self.storage, interval=1e6)
        self.heard = []
        self.collector.add_listener(self.heard.append) if kind == "listeners" else None
        provider = TracerProvider(shutdown_on_exit=False)
        self.tracer = provider.get_tracer("no room")
        self.logger = LoggerProvider(shutdown_on_exit=False)
        emitted = []
        self.logger.add_log_record_processor(_Keeping(emitted))
        self.logger.get_logger("no room").emit(
            LogRecord(
                timestamp=1,
                severity_number=SeverityNumber.INFO,
                body="body",
                attributes=dict(ATTRIBUTES),
            )
        )
        self.emitted = emitted[0]
        self.capture = LoggingCapture(self.collector, Resource({}))
        self.log = logging.makeLogRecord({"msg": "logged %s", "args": ("x",), "name": "a.b"})

    def calls(self, name):
        """Return what takes a record in, and its argument; every time the same record."""
        if name == "event":
            return self.collector.collect_event, ("a", "message", "warn", ATTRIBUTES)
        if name == "odd event":
            return self.collector.collect_event, (1, ["message"], "warn", tuple(ATTRIBUTES.items()))
        if name == "metric":
            return self.collector.collect_metric, ("metric", 1.5, "By", ATTRIBUTES)
        if name == "invalid metric":
            return self.collector.collect_metric, ("metric", "no number")
        if name == "log record":
            return self.collector.on_emit, (self.emitted,)
        if name == "logging":
            return self.capture.record, (self.log,)
        assert name == "span"
        span = self.tracer.start_span("span", attributes=ATTRIBUTES)
        span.end()
        return self.collector.on_end, (span,)

    def start(self):
        """Return what starts a span."""
        return self.collector.on_start, (self.tracer.start_span("span", attributes=ATTRIBUTES),)

    def check(self, collected, reasons):
        """Check the counts; store what there is now and then."""
        stats = self.collector.stats()
        assert stats.collected == collected
        assert stats.collected == stats.stored + stats.pending + sum(stats.dropped.values())
        assert stats.dropped.keys() <= reasons
        assert sum(stats.dropped.values()) <= collected
        if collected % 50 == 0:
            self.store()
        return stats

    def store(self):
        """Store all there is, and compare it with the counts."""
        self.stream.flush()
        stats = self.collector.stats()
        assert not stats.pending
        assert len(self.storage.retrieve()) == stats.stored


class _Keeping:
    def __init__(self, kept):
        self.on_emit = kept.append


KINDS = ["journal", "memory", "listeners"]
RECORDS = ["event", "odd event", "metric", "invalid metric", "log record", "logging", "span"]


def lowest_limit():
    """Return the lowest recursion limit that can be set here."""
    limit = 1
    while True:
        try:
            sys.setrecursionlimit(limit)
        except RecursionError:
            limit += 1
        else:
            return limit


def entry(*_):
    """Do nothing: what can be called where there is room for the call."""


def call_with_room(room, function, arguments):
    """Call a function with room for so many calls; return True if there was room for it at all."""
    before, lowest = sys.getrecursionlimit(), lowest_limit()
    try:
        sys.setrecursionlimit(lowest + room)
        try:
            entry(*arguments)
        except RecursionError:
            return False
        function(*arguments)
        return True
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_room_on_the_stack(tmp_path, kind, name):
    """Near the recursion limit a record is kept, or counted as dropped for that; then it goes on."""
    recording = Recording(tmp_path, kind)
    collected = 0
    seen = set()
    for turn in range(3):
        for room in range(70):
            function, arguments = recording.calls(name)
            if call_with_room(room, function, arguments):
                collected += 1
                stats = recording.check(collected, {"recursion", "encoding", "invalid_value"})
                seen.update(stats.dropped)
            if turn == 2:  # each in a new segment, whose first record takes more
                recording.store()
        kept = sum(stats.dropped.values())
        for _ in range(3):
            function, arguments = recording.calls(name)
            function(*arguments)
            collected += 1
        if name != "invalid metric":
            assert sum(recording.collector.stats().dropped.values()) == kept
    recording.store()
    assert "recursion" in seen
    assert name == "invalid metric" or recording.collector.stats().stored > 100


@pytest.mark.parametrize("kind", KINDS)
def test_no_room_on_the_stack_at_a_span_s_start(tmp_path, kind):
    """The span is recorded at its end, however its start went."""
    recording = Recording(tmp_path, kind)
    started = 0
    for room in range(70):
        on_start, (span,) = recording.start()
        call_with_room(room, on_start, (span,))
        span.end()
        recording.collector.on_end(span)
        started += 1
    stats = recording.check(started, set())
    assert stats.pending == started
    recording.store()
    if kind != "memory":
        assert recording.collector._journal.open_spans.tracked == 0


@pytest.mark.skipif(_testcapi is None, reason="needs the interpreter's own tests")
@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("failures", [1, 4])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the interpreter
def test_no_room_in_memory(tmp_path, kind, name, failures):
    """Whatever finds no memory, once or a few times, raises nothing, and each record is counted once."""
    if kind == "listeners" and sys.version_info >= (3, 12):
        pytest.skip(
            "this interpreter crashes where it has no memory for a generator, such as Enum's"
        )
    if sys.version_info < (3, 11):
        pytest.skip(
            "before 3.11 each call needs memory for its frame, also those that count the record"
        )
    recording = Recording(tmp_path, kind)
    fail, stop = _testcapi.set_nomemory, _testcapi.remove_mem_hooks
    collected = 0
    gc.disable()
    try:
        for number in range(150):
            function, arguments = recording.calls(name)
            fail(number, number + failures)
            try:
                function(*arguments)
            finally:
                stop()
            collected += 1
            recording.check(collected, {"memory", "encoding", "invalid_value"})
    finally:
        gc.enable()
    recording.store()


LIMITED = """
import json, resource, sys
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

collector = TelemetryCollector(TelemetryConfig(flush_interval=1e6))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]), interval=1e6)
stream.start()
collector.collect_event("a", "first")
# The standard library's hashlib, for one, is never whole again where there was no memory to import it.
assert stream.force_flush(30_000)
text = "x" * (16 * 1024 * 1024)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 1024 * 1024, hard))
for number in range(5):
    collector.collect_event("a", text)
    collector.collect_event("a", f"{number}")
before = collector.stats()
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
collector.collect_event("a", "last")
assert stream.stop(30.0)
print(json.dumps([before._asdict(), collector.stats()._asdict()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_limited_memory(tmp_path):
    """A process that reaches its limit of memory goes on, and what had no room is counted."""
    before, after = json.loads(run(LIMITED, tmp_path))
    assert before["collected"] == 11
    assert before["dropped"] == {"memory": 5}
    assert after["stored"] == 7
    found = [event.message for event in FileStorage(tmp_path).retrieve().events]
    assert found == ["first", *"01234", "last"]
