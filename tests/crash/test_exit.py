"""The interpreter's exit, in each of its forms: what was collected is in the files after."""

from __future__ import annotations

import sys

import pytest

from rimp_otel import FileStorage
from tests.processes import run, run_process

SETUP = """
import atexit, os, sys, threading
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
collect = lambda message: collector.collect_event("a", message)
"""


def script(body):
    """Return a program: the body after a common beginning."""
    lines = body.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return SETUP + "\n".join(line[indent:] for line in lines)


def recorded(path):
    """Return the messages in the files, and the names of the spans."""
    data = FileStorage(path).retrieve()
    return [event.message for event in data.events] + [span.name for span in data.spans]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("stream.start(); collect('1'); stream.stop(); collect('2')", 0),
        ("stream.start(); collect('1'); collect('2')", 0),
        ("collect('1'); collect('2')", 0),
        ("stream.start(); collect('1'); collect('2'); sys.exit(3)", 3),
        ("collect('1'); collect('2'); raise ValueError", 1),
        ("stream.start(); collect('1'); collect('2'); raise KeyboardInterrupt", -2),
        ("stream.__enter__(); collect('1'); stream.stop(); stream.start(); collect('2')", 0),
    ],
)
def test_ends_of_a_program(tmp_path, body, code):
    """However a program ends, started and stopped or not, all is stored."""
    run(script(body), tmp_path / "t", code=code)
    assert recorded(tmp_path / "t") == ["1", "2"]


def test_exit_in_threads(tmp_path):
    """Threads may go on after the main thread's end, or call sys.exit."""
    body = """
        stream.start()
        go = threading.Event()
        def late():
            threading.main_thread().join()
            collect("late")
        def leave():
            collect("leaving")
            sys.exit(1)
        threads = [threading.Thread(target=f) for f in (late, leave)]
        for thread in threads:
            thread.start()
        threads[1].join()
    """
    run(script(body), tmp_path / "t")
    assert recorded(tmp_path / "t") == ["leaving", "late"]


@pytest.mark.parametrize("start", ["stream.start()", ""])
def test_records_of_atexit_handlers(tmp_path, start):
    """Records of handlers registered before the stream, which run after it, are stored too."""
    before = """
import atexit
atexit.register(lambda: [collect(f"before {i}") for i in range(300)])
"""
    body = f"""
        atexit.register(lambda: collect("after"))
        {start}
    """
    run(before + script(body), tmp_path / "t")
    assert recorded(tmp_path / "t") == ["after", *[f"before {i}" for i in range(300)]]


PROVIDERS = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk._logs import LoggerProvider
def spans():
    provider.add_span_processor(collector)
    logs.add_log_record_processor(collector)
    provider.get_tracer("t").start_span("running").end()
    atexit.register(lambda: provider.get_tracer("t").start_span("at exit").end())
"""


@pytest.mark.parametrize("first", ["providers", "stream"])
def test_providers_that_shut_down_at_exit(tmp_path, first):
    """Providers may shut down before the stream, or after it."""
    providers = "\nprovider, logs = TracerProvider(), LoggerProvider()\n"
    parts = [PROVIDERS, providers, SETUP] if first == "providers" else [SETUP, PROVIDERS, providers]
    text = (
        "".join(parts)
        + """
spans()
meters = MeterProvider(metric_readers=[stream])
meters.get_meter("m").create_counter("c").add(1)
logs.get_logger("l").emit(body="log")
stream.start()
"""
    )
    run(text, tmp_path / "t")
    assert recorded(tmp_path / "t") == ["log", "running", "at exit"]
    assert {m.name for m in FileStorage(tmp_path / "t").retrieve().metrics} >= {"c"}


def test_span_ended_after_everything(tmp_path):
    """A handler registered before any import of OpenTelemetry may end a span."""
    text = (
        "import atexit\natexit.register(lambda: span.end())\n"
        + SETUP
        + """
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
provider.add_span_processor(collector)
stream.start()
span = provider.get_tracer("t").start_span("last")
"""
    )
    run(text, tmp_path / "t")
    assert recorded(tmp_path / "t") == ["last"]


def test_stream_that_nobody_refers_to(tmp_path):
    """A stream is kept until it has stored what it was given."""
    text = """
import gc, sys
from rimp_otel import FileStorage, TelemetryCollector, TelemetryStream
def work():
    collector = TelemetryCollector()
    TelemetryStream(collector, FileStorage(sys.argv[1]))
    collector.collect_event("a", "1")
work()
gc.collect()
"""
    run(text, tmp_path / "t")
    assert recorded(tmp_path / "t") == ["1"]


def test_exit_while_the_storage_hangs():
    """The process ends at its deadline, and reports what is lost."""
    text = """
import threading
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream, MemoryStorage
class Hanging(MemoryStorage):
    def store(self, data):
        threading.Event().wait()
collector = TelemetryCollector(TelemetryConfig(flush_timeout=0.1))
stream = TelemetryStream(collector, Hanging())
stream.start()
collector.collect_event("a", "1")
"""
    done = run_process([sys.executable, "-c", text], timeout=120.0)
    assert done.returncode == 0
    assert done.stderr == "rimp: 1 record could not be stored and is lost\n"


@pytest.mark.parametrize("start", ["stream.start()", ""])
def test_exit_after_a_stop_that_missed_its_deadline(start):
    """A storage that hung is not called on the exiting thread, where no other can be started."""
    text = f"""
import threading
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream, MemoryStorage
class Hanging(MemoryStorage):
    def store(self, data):
        threading.Event().wait()
collector = TelemetryCollector(TelemetryConfig(flush_timeout=0.1))
stream = TelemetryStream(collector, Hanging())
{start}
collector.collect_event("a", "1")
assert not stream.stop()
collector.collect_event("a", "2")
"""
    done = run_process([sys.executable, "-c", text], timeout=120.0)
    assert done.returncode == 0
    assert done.stderr == "rimp: 2 records could not be stored and are lost\n"


def test_exit_while_a_consumer_hangs(tmp_path):
    """All of it is stored, and the other consumer gets it."""
    body = """
        collector = TelemetryCollector(TelemetryConfig(flush_timeout=3.0))
        stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
        stream.add_consumer(lambda data: threading.Event().wait())
        stream.add_consumer(lambda data: [print(event.message) for event in data.events])
        stream.start()
        for i in range(600):
            collect(str(i))
    """
    out = run(script(body), tmp_path / "t", timeout=120.0)
    assert recorded(tmp_path / "t") == [str(i) for i in range(600)]
    assert out.split() == [str(i) for i in range(600)]


def test_consumers_get_what_is_stored_at_exit(tmp_path):
    """Consumers get it, also of a stream that was never started."""
    body = """
        stream.add_consumer(lambda data: [print(event.message) for event in data.events])
        collect("1")
    """
    assert run(script(body), tmp_path / "t") == "1\n"


def test_failing_storage_at_exit_is_reported(tmp_path):
    """The loss is reported, and the exit code is the program's."""
    (tmp_path / "file").write_text("")
    text = script("collect('1'); sys.exit(7)")
    done = run_process([sys.executable, "-c", text, str(tmp_path / "file")])
    assert done.returncode == 7
    assert "rimp: storing failed, will retry: StorageError: cannot" in done.stderr
    assert "rimp: 1 record could not be stored and is lost" in done.stderr
