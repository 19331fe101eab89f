"""``rimp forward``: into a real receiver, once, as a service, and its status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import TelemetryEvent
from rimp_otel.storage import FileStorage
from tests.doubles import DEADLINE
from tests.transport.doubles import HttpSink


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """A receiver that runs."""
    with HttpSink.running() as server:
        yield server


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment's names another destination, or needs compression."""
    for name in ("ENDPOINT", "HEADERS", "PROTOCOL", "TIMEOUT", "COMPRESSION"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


JSON = ("--encoding", "json", "--compression", "none")


def store(path: Path, *messages: str) -> None:
    """Store log records."""
    with FileStorage(path) as storage:
        storage.store(TelemetryData([TelemetryEvent("source", message) for message in messages]))


def test_once_ends_when_all_is_acknowledged(rimp, sink, tmp_path):
    """The next run has nothing to send; the status says so."""
    store(tmp_path / "telemetry", "a", "b")
    result = rimp("forward", "--once", *JSON, sink.url)
    assert result.code == 0
    assert f"{sink.url} has acknowledged 2 log records" in result.err
    assert rimp("forward", "--once", *JSON, sink.url).code == 0
    assert sink.messages == ["a", "b"]
    result = rimp("forward", "--status", "--json")
    found = json.loads(result.out)
    assert (found["destination"], found["running"]) == (sink.url, False)
    logs = found["signals"]["logs"]
    assert logs["recorded"] == logs["acknowledged"] == 2
    assert logs["pending"] == logs["expired"] == 0
    assert "not running" in rimp("forward", "--status").out


def test_status_counts_what_is_pending(rimp, sink, tmp_path):
    """With the age of its oldest record, and what the last error was, without a secret."""
    store(tmp_path / "telemetry", "a")
    sink.status = 401
    url = sink.url.replace("//", "//user:secret@")
    result = rimp("forward", "--once", "--json", *JSON, url)
    assert result.code == 1
    assert "401" in result.err
    assert "401" in json.loads(result.out.splitlines()[1])["failure"]
    logs = json.loads(rimp("forward", "--status", "--json").out)["signals"]["logs"]
    assert (logs["recorded"], logs["acknowledged"], logs["pending"]) == (1, 0, 1)
    assert logs["state"] == "stopped"
    assert logs["lag_seconds"] > 0
    text = rimp("forward", "--status").out
    assert "401" in text
    assert "stopped" in text
    everything = [result.out, result.err, text]
    everything += [
        path.read_text() for path in Path("telemetry/forward").rglob("*") if path.is_file()
    ]
    assert not any("secret" in found for found in everything)


def test_a_dead_destination_is_given_up(rimp, tmp_path):
    """With exit code 1, and the reason."""
    store(tmp_path / "telemetry", "a")
    result = rimp("forward", "--once", "--give-up", "200ms", "otlp+http://127.0.0.1:1")
    assert result.code == 1
    assert "no success for 0.2 s" in result.err
    assert "refused" in result.err


def test_a_window_is_sent_again(rimp, sink, tmp_path):
    """Whatever was sent before, and without moving the cursor."""
    store(tmp_path / "telemetry", "a", "b")
    rimp("forward", "--once", *JSON, sink.url)
    assert rimp("forward", "--since", "1h", *JSON, sink.url).code == 0
    assert rimp("forward", "--since", "2h", "--until", "1h", *JSON, sink.url).code == 0
    assert sink.messages == ["a", "b", "a", "b"]
    assert rimp("forward", "--once", *JSON, sink.url).code == 0
    assert len(sink.messages) == 4


def test_what_was_refused_is_sent_again(rimp, sink, tmp_path):
    """And leaves the dead-letter file, where the destination takes it now."""
    store(tmp_path / "telemetry", "a", "b")
    sink.status = 400
    result = rimp("forward", "--once", *JSON, sink.url)
    assert result.code == 0
    assert "2 refused (by_destination)" in result.err
    assert "refused records are in" in rimp("forward", "--status").out
    assert rimp("forward", "--refused", *JSON, sink.url).code == 0
    assert sink.messages == []
    sink.status = 200
    assert rimp("forward", "--refused", *JSON, sink.url).code == 0
    assert sink.messages == ["a", "b"]
    logs = json.loads(rimp("forward", "--status", "--json").out)["signals"]["logs"]
    assert (logs["acknowledged"], logs["refused"], logs["dead_letters"]) == (2, {}, None)


def test_a_destination_is_forgotten(rimp, sink, tmp_path):
    """Nothing is held for it any more; of another one, the command says so."""
    store(tmp_path / "telemetry", "a")
    rimp("forward", "--once", *JSON, sink.url)
    assert rimp("forward", "--forget", sink.url).code == 0
    assert rimp("forward", "--status").err.startswith("rimp: nothing is forwarded")
    result = rimp("forward", "--forget", sink.url)
    assert result.code == 2
    assert "nothing was forwarded" in result.err


def test_headers_come_from_a_file(rimp, sink, tmp_path):
    """They are sent, and shown nowhere."""
    store(tmp_path / "telemetry", "a")
    Path("headers").write_text("authorization: Bearer secret\n")
    result = rimp("forward", "--once", *JSON, "--header-file", "headers", sink.url)
    assert result.code == 0
    assert sink.headers == ["Bearer secret"]
    assert "secret" not in result.out + result.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no destination"),
        (["nonsense://x"], "no destination has the scheme"),
        (["--signals", "spans", "x://y"], "expected some of traces, logs, metrics"),
        (["--hold", "none", "x://y"], "not a size"),
    ],
)
def test_wrong_arguments_are_named(rimp, tmp_path, argv, message):
    """With exit code 2."""
    store(tmp_path / "telemetry", "a")
    result = rimp("forward", *argv)
    assert result.code == 2
    assert message in result.err


def test_a_service_forwards_what_a_process_records(sink, tmp_path):
    """Also what a dead one has left in its journal; SIGTERM ends it with 0."""
    path = tmp_path / "telemetry"
    command = [sys.executable, "-m", "rimp_otel", "forward", "--path", str(path), *JSON, sink.url]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    script = """
import os, signal, sys
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
config = TelemetryConfig(storage_backend="file", storage_path=sys.argv[1], flush_interval=3600)
collector = TelemetryCollector(config)
stream = TelemetryStream(collector)
stream.start()
for number in range(100):
    collector.collect_event("source", f"m{number}")
os.kill(os.getpid(), signal.SIGKILL)
"""
    try:
        assert service.stderr is not None
        assert "forwarding" in service.stderr.readline()
        subprocess.run([sys.executable, "-c", script, str(path)], env=env, check=False)
        sink.wait_for(100)
        service.send_signal(signal.SIGTERM)
        _, errors = service.communicate(timeout=DEADLINE)
    finally:
        service.kill()
        service.wait()
    assert service.returncode == 0, errors
    assert "100 log records" in errors
    assert sorted(sink.messages) == sorted(f"m{number}" for number in range(100))


def test_once_waits_for_what_a_living_process_has_recorded(rimp, sink, tmp_path):
    """Its journal is drained within its flush interval."""
    path = tmp_path / "telemetry"
    script = """
import sys, time
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
config = TelemetryConfig(storage_backend="file", storage_path=sys.argv[1], flush_interval=1.0)
collector = TelemetryCollector(config)
with TelemetryStream(collector):
    collector.collect_event("source", "first")
    time.sleep(1.5)
    for number in range(10):
        collector.collect_event("source", f"m{number}")
    print("recorded", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"recorded\n"
        assert rimp("forward", "--once", *JSON, sink.url).code == 0
        assert len(sink.messages) == 11
    finally:
        process.communicate()
