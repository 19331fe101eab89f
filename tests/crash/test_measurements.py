"""Measurements and the process's death: what was measured a second before is there, once."""

from __future__ import annotations

import signal
import sys

import pytest

from rimp_otel import FileStorage, SQLiteStorage
from tests.processes import run, run_process

SETUP = """
import os, signal, sys, time
from opentelemetry.sdk.metrics import MeterProvider
from rimp_otel import (
    FileStorage, SQLiteStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
)
path = sys.argv[1]
storage = SQLiteStorage(path) if path.endswith(".db") else FileStorage(path)
config = TelemetryConfig(flush_interval=600.0, metric_interval=600.0,
                         metric_checkpoint_interval=0.05, flush_timeout=60.0)
stream = TelemetryStream(TelemetryCollector(config), storage)
meter = MeterProvider(metric_readers=[stream]).get_meter("m")
stream.start()
counter = meter.create_counter("count")

def counts():
    "What a reader sees of this process while it lives."
    reader = type(storage)(path)
    return [m.value for m in reader.retrieve().metrics if m.name == "count"]

def wait_for(expected):
    while counts()[-1:] != [expected]:
        time.sleep(0.01)
"""

DEATHS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "os._exit": "os._exit(3)",
}
CODES = {"SIGKILL": -signal.SIGKILL, "SIGTERM": -signal.SIGTERM, "os._exit": 3}


def counts(path):
    """Return the values of the counter's points, as a reader sees them."""
    storage = SQLiteStorage(path) if path.suffix == ".db" else FileStorage(path)
    try:
        return [m.value for m in storage.retrieve().metrics if m.name == "count"]
    finally:
        storage.close()


@pytest.mark.parametrize("name", ["t", "t.db"])
@pytest.mark.parametrize("death", list(DEATHS))
def test_death(tmp_path, death, name):
    """The last state is in each answer: while it lives, after its death, and after recovery."""
    path = tmp_path / name
    body = f"""
for _ in range(1000):
    counter.add(1)
wait_for(1000)
for _ in range(234):
    counter.add(1)
wait_for(1234)
assert counts() == [1234]
{DEATHS[death]}
"""
    run(SETUP + body, path, code=CODES[death])
    assert counts(path) == [1234]
    # The next process takes the slot over, and dies too.
    run(SETUP + f"counter.add(5)\nwait_for(5)\n{DEATHS[death]}", path, code=CODES[death])
    assert counts(path) == [1234, 5]
    run(SETUP, path)
    assert counts(path) == [1234, 5]
    command = [sys.executable, "-m", "rimp_otel", "verify", "--path", str(path), "--json"]
    if name == "t":
        done = run_process(command)
        assert done.returncode == 0, done.stdout


def test_orderly_end_stores_it_once(tmp_path):
    """The last collection takes the place of the checkpoint."""
    run(SETUP + "counter.add(7)\nwait_for(7)\ncounter.add(1)\n", tmp_path / "t")
    assert counts(tmp_path / "t") == [8]
    assert [path.name for path in (tmp_path / "t" / "journal").iterdir()] == ["lock"]


def test_callback_that_hangs_at_the_end(tmp_path):
    """Where the last collection does not end, what was collected before it is stored."""
    body = """
import threading
hangs = threading.Event()
def callback(options):
    if hangs.is_set():
        threading.Event().wait()
    return []
meter.create_observable_gauge("g", callbacks=[callback])
counter.add(7)
wait_for(7)
hangs.set()
assert not stream.stop(0.5)
os._exit(0)
"""
    run(SETUP + body, tmp_path / "t")
    assert counts(tmp_path / "t") == [7]


def test_forked_child_repeats_nothing_of_its_parent(tmp_path):
    """A child that measures nothing leaves nothing; one that does leaves its own."""
    body = """
counter.add(3, {"who": "parent"})
wait_for(3)
other = meter.create_counter("other")
for measures in (False, True):
    child = os.fork()
    if child == 0:
        if measures:
            other.add(1)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = FileStorage(path).retrieve().metrics
            if not measures or any(m.name == "other" for m in found):
                break
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run(SETUP + body, tmp_path / "t", code=-signal.SIGKILL)
    found = [(m.name, m.value) for m in FileStorage(tmp_path / "t").retrieve().metrics]
    assert sorted(found) == [("count", 3), ("other", 1)]


def test_switched_off(tmp_path):
    """Without checkpoints, a death costs what was measured since the last regular collection."""
    body = """
counter.add(1)
time.sleep(0.3)
assert counts() == []
os.kill(os.getpid(), signal.SIGKILL)
"""
    setup = SETUP.replace("metric_checkpoint_interval=0.05", "metric_checkpoint_interval=None")
    run(setup + body, tmp_path / "t", code=-signal.SIGKILL)
    assert counts(tmp_path / "t") == []
