"""Forwarding by the process that records: by one of several, and never what a parent had begun."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.errors import ConfigurationError
from rimp_otel.storage import FileStorage
from tests.processes import run
from tests.transport.doubles import HttpSink

OPTIONS = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret",
}


@pytest.fixture
def sink(monkeypatch):
    """A receiver that runs, which the environment says how to reach."""
    for name, value in OPTIONS.items():
        monkeypatch.setenv(name, value)
    with HttpSink.running() as server:
        yield server


def test_a_stream_forwards_what_it_stores(sink, tmp_path):
    """What is left when it stops is sent then; headers come from the environment."""
    config = TelemetryConfig(storage_path=tmp_path / "t", flush_interval=0.05, forward=[sink.url])
    collector = TelemetryCollector(config)
    with TelemetryStream(collector):
        collector.collect_event("source", "a")
        sink.wait_for(1)
        collector.collect_event("source", "b")
    assert sink.messages == ["a", "b"]
    assert set(sink.headers) == {"Bearer secret"}
    assert "secret" not in "".join(
        path.read_text() for path in (tmp_path / "t" / "forward").rglob("*") if path.is_file()
    )


def test_a_dead_destination_delays_no_stop(tmp_path):
    """What it does not take at once stays for the next process."""
    config = TelemetryConfig(
        storage_path=tmp_path / "t", flush_timeout=30.0, forward=["otlp+http://127.0.0.1:1"]
    )
    collector = TelemetryCollector(config)
    with TelemetryStream(collector):
        collector.collect_event("source", "a")
    (cursor,) = (tmp_path / "t" / "forward").glob("*/logs.json")
    assert json.loads(cursor.read_text())["ledger"]["acknowledged"] == 0


def test_a_child_forwards_once_its_parent_has_ended(sink, tmp_path):
    """And nothing before: each record comes once."""
    script = """
    import os, sys, time
    from pathlib import Path
    import rimp_otel.transport.forwarding.in_process as in_process
    from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream

    in_process._PAUSE = 0.1
    in_process.InProcessForwarding.__init__.__defaults__ = tuple(
        0.1 if value == 10.0 else value
        for value in in_process.InProcessForwarding.__init__.__defaults__
    )
    path, url = sys.argv[1:]
    config = TelemetryConfig(storage_path=path, flush_interval=0.05, forward=[url])
    collector = TelemetryCollector(config)
    stream = TelemetryStream(collector)
    stream.start()
    for number in range(10):
        collector.collect_event("source", f"parent {number}")
    while len(list(Path(path).glob("forward/*/logs.json"))) < 1:
        time.sleep(0.01)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        for number in range(10):
            collector.collect_event("source", f"child {number}")
        os.read(reading, 1)  # until the parent has ended
        collector.collect_event("source", "child at last")
        deadline = time.monotonic() + 20
        while "child at last" not in open(sys.argv[1] + "/seen").read():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os._exit(0)
    stream.stop()
    print(child)
    """
    seen = tmp_path / "t" / "seen"
    seen.parent.mkdir()
    seen.write_text("")
    child = int(run(script, tmp_path / "t", sink.url, **OPTIONS))
    sink.wait_for(21)
    seen.write_text("child at last")
    assert child > 0
    assert sorted(sink.messages) == sorted(
        [f"{who} {number}" for who in ("parent", "child") for number in range(10)]
        + ["child at last"]
    )


def test_a_short_process_forwards_at_its_end(sink, tmp_path):
    """Although it ended before anything had begun."""
    script = """
    import sys
    from rimp_otel import TelemetryConfig, install

    install(TelemetryConfig(storage_path=sys.argv[1], forward=[sys.argv[2]])).collector.collect_event("a", "b")
    """
    run(script, tmp_path / "t", sink.url, **OPTIONS)
    assert sink.messages == ["b"]


@pytest.mark.parametrize("scheme", ["otlp+grpc", "otlp+grpcs"])
def test_grpc_is_refused_with_the_reason(scheme):
    """A fork breaks its connections."""
    with pytest.raises(ConfigurationError, match=r"a fork breaks .* run 'rimp forward'"):
        TelemetryConfig(storage_path="t", forward=[f"{scheme}://user:secret@host:4317"])


def test_urls_are_neither_shown_nor_taken_one_by_one():
    """A password may be in one."""
    config = TelemetryConfig(storage_path="t", forward=["otlp+http://user:secret@host"])
    assert "secret" not in repr(config)
    assert config.forward == ("otlp+http://user:secret@host",)
    assert hash(config)
    for wrong in ("otlp+http://user:secret@host", [1], [""], 5):
        with pytest.raises(ConfigurationError, match="forward must be a list of URLs") as raised:
            TelemetryConfig(storage_path="t", forward=wrong)
        assert "secret" not in str(raised.value)


def test_the_environment_names_destinations():
    """Separated by commas."""
    env = {"RIMP_STORAGE_PATH": "t", "RIMP_FORWARD": "otlp+http://a, file:///backup"}
    assert TelemetryConfig.from_env(env).forward == ("otlp+http://a", "file:///backup")


def test_without_a_path_there_is_nothing_to_forward(capsys, tmp_path):
    """In memory, or in a storage that was made by hand, it says so."""
    TelemetryStream(TelemetryCollector(TelemetryConfig(forward=["otlp+http://127.0.0.1:1"])))
    assert "the setting forward" in capsys.readouterr().err
    config = TelemetryConfig(storage_path=tmp_path, forward=["otlp+http://127.0.0.1:1"])
    TelemetryStream(TelemetryCollector(config), FileStorage(Path(tmp_path)))
    assert "forward" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "forward")
