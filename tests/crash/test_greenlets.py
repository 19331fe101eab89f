"""Programs whose threads are greenlets: gevent and eventlet."""

from __future__ import annotations

import sys

import pytest

from rimp_otel import FileStorage
from tests.processes import run_process, skip_without

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all(); from gevent import spawn, sleep",
    "eventlet": "import eventlet; eventlet.monkey_patch(); from eventlet import spawn, sleep",
}

CHARGES = """
import os, sys
{patch}
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

collector = TelemetryCollector(TelemetryConfig(flush_interval=0.01))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
if sys.argv[2] == "instruments":
    # As a MeterProvider does, which has a hook of its own that starts threads.
    stream._set_collect_callback(lambda reader, timeout_millis: None)
stream.start()
charged = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def charge(customer):
    for _ in range(10):
        os.write(charged, b"x")
        collector.collect_event("shop", "charged")
        sleep(0)

greenlets = [spawn(charge, customer) for customer in range(10)]
sleep(0)
for _ in range(3):
    child = {fork}()
    if child == 0:
        collector.collect_event("child", "1")
        os._exit(0)
    os.waitpid(child, 0)
for greenlet in greenlets:
    greenlet.{join}()
assert stream.stop()
"""

FORKS = {
    "gevent": ("os.fork", "__import__('gevent.os').os.fork"),
    "eventlet": ("os.fork",),
}


@pytest.mark.parametrize("instruments", ["none", "instruments"])
@pytest.mark.parametrize(
    ("library", "fork"), [(library, fork) for library in FORKS for fork in FORKS[library]]
)
def test_forked_child_runs_no_greenlet_of_its_parent(tmp_path, library, fork, instruments):
    """Each customer is charged once, whatever children come and go; and all of it is recorded."""
    skip_without(library)
    join = {"gevent": "join", "eventlet": "wait"}[library]
    script = CHARGES.format(patch=PATCHES[library], fork=fork, join=join)
    paths = (str(tmp_path / "t"), instruments, str(tmp_path / "charged"))
    done = run_process([sys.executable, "-W", "ignore", "-c", script, *paths])
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "charged").read_bytes() == b"x" * 100
    messages = [event.message for event in FileStorage(tmp_path / "t").retrieve().events]
    assert sorted(messages) == ["1"] * 3 + ["charged"] * 100


LATE = """
import os, sys
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

collector = TelemetryCollector(TelemetryConfig(flush_interval=0.01))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
stream.add_consumer(lambda data: None)
stream.start()
child = os.fork()
who = "parent" if child else "child"
collector.collect_event(who, "before")
{patch}
spawned = spawn(collector.collect_event, who, "after")
sleep(0.05)
assert len(stream.flush()) <= 2
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("library", PATCHES)
def test_patched_after_the_start(tmp_path, library):
    """Threads that run when all others become greenlets end without a traceback."""
    skip_without(library)
    script = LATE.format(patch=PATCHES[library])
    done = run_process([sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "t")])
    assert (done.returncode, done.stderr) == (0, "")
    found = [(e.source, e.message) for e in FileStorage(tmp_path / "t").retrieve().events]
    assert sorted(found) == [
        ("child", "after"),
        ("child", "before"),
        ("parent", "after"),
        ("parent", "before"),
    ]
