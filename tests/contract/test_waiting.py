"""What is collected and not stored yet, and what a killed process left, is in every answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import (
    FileStorage,
    SQLiteStorage,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryStream,
    open_recording,
)
from rimp_otel.cli.main import main
from tests.processes import ROOT

KINDS = {
    "directory": (FileStorage, "telemetry"),
    "family": (FileStorage, "telemetry.jsonl"),
    "sqlite": (SQLiteStorage, "telemetry.db"),
}
MESSAGES = [f"order {i} refused" for i in range(5)]
NEVER = 3_000.0

RECORD = """
    import os, signal, sys
    from opentelemetry.sdk.trace import TracerProvider
    from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream

    collector = TelemetryCollector(TelemetryConfig(storage_path=sys.argv[1], flush_interval=3000))
    stream = TelemetryStream(collector)
    stream.start()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(collector)
    for i in range(5):
        collector.collect_event("shop", f"order {i} refused")
        collector.collect_metric("orders", i)
        provider.get_tracer("shop").start_span(f"span {i}").end()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=KINDS)
def kind(request):
    """Return the name of each kind of storage whose journals lie beside it."""
    return request.param


@pytest.fixture(params=["not drained", "killed", "drained"])
def storage(request, kind, tmp_path):
    """Return a storage of records that were collected, wherever they are now."""
    make, name = KINDS[kind]
    path = tmp_path / name
    storage = make(path)
    if request.param == "killed":
        command = [sys.executable, "-c", dedent(RECORD), str(path)]
        ended = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False
        )
        assert ended.returncode == -signal.SIGKILL
        yield storage
        return
    config = TelemetryConfig(storage_path=path, flush_interval=NEVER)
    collector = TelemetryCollector(config)
    stream = TelemetryStream(collector, storage)
    stream.start()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(collector)
    for i, message in enumerate(MESSAGES):
        collector.collect_event("shop", message)
        collector.collect_metric("orders", i)
        provider.get_tracer("shop").start_span(f"span {i}").end()
    if request.param == "drained":
        stream.flush()
    assert collector.stats().pending == (0 if request.param == "drained" else 15)
    yield storage
    stream.stop()


def contents(data):
    """Return messages, values and names of a batch."""
    return (
        [event.message for event in data.events],
        [metric.value for metric in data.metrics],
        [span.name for span in data.spans],
    )


EVERYTHING = (MESSAGES, list(range(5)), [f"span {i}" for i in range(5)])


def test_retrieve(storage):
    """Everything is retrieved, once, and again by the next question."""
    assert contents(storage.retrieve()) == EVERYTHING
    assert contents(storage.retrieve()) == EVERYTHING


def test_conditions_and_a_limit(storage):
    """Conditions, a range of times and a limit are asked of what waits, too."""
    newest = storage.retrieve(limit=2, signals=["logs"])
    assert contents(newest) == (MESSAGES[-2:], [], [])
    assert contents(storage.retrieve(name="span 3")) == ([], [], ["span 3"])
    assert not storage.retrieve(end_time=0)
    trace_id = storage.retrieve(name="span 3").spans[0].context.trace_id
    assert contents(storage.retrieve(trace_id=trace_id)) == ([], [], ["span 3"])


def test_iter_retrieve(storage):
    """Batches that are iterated over hold everything, the oldest first."""
    batches = list(storage.iter_retrieve(batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 3]
    assert contents(type(batches[0]).concat(batches)) == EVERYTHING


def test_recording(storage, kind, tmp_path):
    """A recording that is opened by its path returns the same."""
    recording = open_recording(tmp_path / KINDS[kind][1])
    assert contents(recording.retrieve()) == EVERYTHING
    assert sum(map(len, recording.batches())) == 15
    assert sum(map(len, recording.poll())) == 15
    assert list(recording.poll()) == []


def test_command(storage, kind, tmp_path, capsys):
    """The command ``rimp logs`` shows the same."""
    assert main(["logs", "--path", str(tmp_path / KINDS[kind][1]), "--json"]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["message"] for line in lines] == MESSAGES


def test_search(storage, kind):
    """A search finds words of what waits, as it finds those of what is stored."""
    if kind != "sqlite":
        pytest.skip("only SQLite searches messages")
    assert [event.message for event in storage.search("refused").events] == MESSAGES
    assert [event.message for event in storage.search("REFUSED 3").events] == MESSAGES[3:4]
    assert [event.message for event in storage.search("ref*", limit=2).events] == MESSAGES[3:]
    assert not storage.search("accepted")
    assert not storage.search("refused", end_time=0)
    assert not storage.search("refused", signals=["traces"])


def test_a_lock_file_that_was_removed(kind, tmp_path):
    """Removing the lock file of a living process's journal makes nobody store its records again."""
    make, name = KINDS[kind]
    path = tmp_path / name
    collector = TelemetryCollector(TelemetryConfig(storage_path=path, flush_interval=NEVER))
    stream = TelemetryStream(collector)
    stream.start()
    for message in MESSAGES:
        collector.collect_event("shop", message)
    (lock,) = tmp_path.rglob("lock")
    lock.unlink()
    command = [sys.executable, "-c", dedent(RECORD), str(path)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False)
    storage = make(path)
    assert len(storage.retrieve(signals=["logs"])) == 10
    stream.stop()
    found = [event.message for event in storage.retrieve(signals=["logs"]).events]
    assert sorted(found) == sorted([*MESSAGES, *MESSAGES])
    assert collector.stats().stored == 5
