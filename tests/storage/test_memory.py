"""MemoryStorage: its bounds."""

from __future__ import annotations

from rimp_otel import MemoryStorage, TelemetryData, TelemetryEvent
from tests.contract.samples import everything
from tests.processes import run


def batch(*messages):
    """Return events with these messages."""
    return TelemetryData(events=[TelemetryEvent("a", message) for message in messages])


def messages(storage):
    """Return the messages that are kept."""
    return [event.message for event in storage.retrieve().events]


def test_bounded_by_records():
    """The oldest record goes first, and is counted."""
    storage = MemoryStorage(max_records=3)
    storage.store(batch("1", "2"))
    storage.store(batch("3", "4", "5"))
    assert messages(storage) == ["3", "4", "5"]
    assert (len(storage), storage.evicted) == (3, 2)


def test_bounded_by_bytes():
    """A record longer than the bound is not kept at all."""
    storage = MemoryStorage()
    storage.store(batch("1"))
    one = storage.size
    storage = MemoryStorage(max_bytes=3 * one)
    storage.store(batch("1", "2", "3"))
    assert messages(storage) == ["1", "2", "3"]
    storage.store(batch("x" * one))
    assert messages(storage) == ["3", "x" * one]
    assert storage.size <= 3 * one
    storage.store(batch("y" * 4 * one))
    assert (len(storage), storage.size, storage.evicted) == (0, 0, 5)


def test_clear():
    """Clearing forgets everything but the count of evicted records."""
    storage = MemoryStorage()
    storage.store(everything())
    assert len(storage) == len(everything())
    storage.clear()
    assert (len(storage), storage.size) == (0, 0)
    assert not storage.retrieve()


def test_fork_while_another_thread_stores():
    """The child's storage can be used."""
    script = """
    import os, threading
    from rimp_otel import MemoryStorage, TelemetryData, TelemetryEvent
    storage, done = MemoryStorage(), threading.Event()
    data = TelemetryData([TelemetryEvent("a", "b")] * 100)
    def store():
        while not done.is_set():
            storage.store(data)
    thread = threading.Thread(target=store)
    thread.start()
    for _ in range(10):
        if (child := os.fork()) == 0:
            storage.clear()
            storage.store(data)
            os._exit(0 if len(storage.retrieve().events) == 100 else 1)
        assert os.waitpid(child, 0)[1] == 0
    done.set()
    thread.join()
    print("fine")
    """
    assert run(script).endswith("fine\n")
