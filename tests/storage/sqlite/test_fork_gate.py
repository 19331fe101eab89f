"""No connection is inherited by a forked child."""

from __future__ import annotations

import threading

from rimp_otel.storage.sqlite.fork_gate import ForkGate
from tests.doubles import DEADLINE
from tests.processes import run


class Open:
    """A connection."""

    file_id = (1, 2)

    def __init__(self, gate, is_busy=False):
        self.gate, self.is_busy, self.is_closed = gate, is_busy, False
        gate.opened(self)

    def close_before_fork(self):
        self.is_closed = True
        self.gate.closed(self)

    def abandon(self):
        return self


def test_idle_connections_are_closed():
    """A fork closes idle connections, so that the child has nothing to leave alone."""
    gate = ForkGate()
    connection = Open(gate)
    gate.before_fork()
    gate.after_in_parent()
    assert connection.is_closed
    gate.after_in_child()
    assert gate.inherited == set()


def test_waits_for_others_and_keeps_them_out():
    """A fork waits until others are through, and keeps them out until it is done."""
    gate = ForkGate(longest_wait=DEADLINE)
    inside, leave, steps = threading.Event(), threading.Event(), []

    def work():
        with gate.use():
            inside.set()
            leave.wait(DEADLINE)
            with gate.use():  # nested: it is let in, or nobody would ever get out
                steps.append("left")
        with gate.use():
            steps.append("again")

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(DEADLINE)
    leave.set()
    gate.before_fork()
    assert steps == ["left"]
    gate.after_in_parent()
    thread.join(DEADLINE)
    assert steps == ["left", "again"]


def test_a_pause_lets_a_fork_happen():
    """A fork happens in a pause, after which the pausing thread continues."""
    gate = ForkGate(longest_wait=DEADLINE)
    pausing, done = threading.Event(), threading.Event()

    def work():
        with gate.use():
            with gate.pause():
                pausing.set()
                done.wait(DEADLINE)
            assert gate._others() is False
            assert len(gate._inside) == 1

    thread = threading.Thread(target=work)
    thread.start()
    pausing.wait(DEADLINE)
    gate.before_fork()
    gate.after_in_parent()
    done.set()
    thread.join(DEADLINE)
    assert gate._inside == {}


def test_what_takes_too_long_is_left_alone_by_the_child():
    """The child may not open a database that was in use for too long."""
    gate = ForkGate(longest_wait=0.001)
    connection = Open(gate, is_busy=True)
    gate._inside[object()] = -1  # a thread that does not end
    gate.before_fork()
    gate.after_in_child()
    assert not connection.is_closed
    assert gate.inherited == {(1, 2)}


def test_whoever_forks_may_be_inside():
    """A thread may fork while it is inside, as a signal handler does."""
    gate = ForkGate(longest_wait=DEADLINE)
    with gate.use():
        gate.before_fork()
        gate.after_in_parent()
    assert gate._inside == {}


def test_kept_for_good(tmp_path):
    """An inherited connection stays open until the process is gone, even while the interpreter
    ends."""
    script = """
    import gc
    from rimp_otel.storage.sqlite.fork_gate import keep_for_good
    class Held:
        def __del__(self):
            print("closed")
    keep_for_good(Held())
    gc.collect()
    """
    assert run(script) == ""


def test_a_fork_while_reading(tmp_path):
    """The child cannot use the file, says why, and spoils nothing."""
    script = """
    import os, sys
    from rimp_otel import SQLiteStorage, StorageError, TelemetryData, TelemetryEvent
    from rimp_otel.storage.sqlite.recording import SQLiteRecording
    storage = SQLiteStorage(sys.argv[1])
    storage.store(TelemetryData(events=[TelemetryEvent("a", "one")]))
    reading = SQLiteRecording(sys.argv[1]).poll()
    next(reading)
    if (child := os.fork()) == 0:
        try:
            storage.store(TelemetryData(events=[TelemetryEvent("a", "two")]))
        except StorageError as error:
            print(str(error).partition(": ")[2], flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert list(reading) == []
    storage.store(TelemetryData(events=[TelemetryEvent("a", "three")]))
    print([event.message for event in storage.retrieve().events])
    """
    assert run(script, tmp_path / "telemetry.db").splitlines() == [
        "this process was forked while its parent was using the file; start processes that record"
        " by spawning them",
        "['one', 'three']",
    ]
