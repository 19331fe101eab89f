"""Journals of a recording that is forwarded: of living processes and of dead ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rimp_otel.storage import open_recording
from rimp_otel.storage.recording import layout_of
from rimp_otel.transport.forwarding.recovery import Backlog, recover_dead_journals
from tests.doubles import DEADLINE
from tests.processes import ROOT

SCRIPT = """
import sys
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
config = TelemetryConfig(storage_path=sys.argv[1], flush_interval=3600)
collector = TelemetryCollector(config)
stream = TelemetryStream(collector)
stream.start()
collector.collect_event("source", "stored")
stream.flush()
for number in range(5):
    collector.collect_event("source", f"m{number}")
print("recorded", flush=True)
sys.stdin.readline()
stream.flush()
print("stored", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("name", ["telemetry", "telemetry.db"])
def test_a_living_process_is_waited_for_and_a_dead_one_recovered(tmp_path, name):
    """What a living one has recorded counts as stored once it is, or once the process has died."""
    path = tmp_path / name
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "recorded\n"
        layout = layout_of(path)
        backlog = Backlog(layout)
        assert not backlog.wait(0.1)
        assert "journal" in str(backlog)
        assert recover_dead_journals(layout) == 0
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "stored\n"
        assert backlog.wait(DEADLINE)
        process.send_signal(signal.SIGSTOP)
        assert recover_dead_journals(layout) == 0
    finally:
        process.kill()
        process.communicate()
    assert Backlog(layout).is_stored
    recover_dead_journals(layout)
    assert recover_dead_journals(layout) == 0
    assert len(open_recording(path).retrieve().events) == 6


def test_a_dead_process_is_recovered_as_by_the_next_recorder(tmp_path):
    """Its records are in the files then."""
    path = tmp_path / "telemetry"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    backlog = Backlog(layout_of(path))
    assert not backlog.is_stored
    process.kill()
    process.communicate()
    assert backlog.is_stored
    assert recover_dead_journals(layout_of(path)) == 5
    assert (path / "logs.jsonl").read_bytes().count(b'"m4"') == 1
