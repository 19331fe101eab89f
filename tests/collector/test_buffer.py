"""The buffer in memory and its counting."""

from __future__ import annotations

import threading

from rimp_otel.collector.buffer import MemoryBuffer
from rimp_otel.process import Counter


def test_counter_counts():
    """Reading counts nothing."""
    counter = Counter()
    assert counter.value == 0
    for _ in range(3):
        counter.add_one()
    assert (counter.value, counter.value) == (3, 3)


def test_counter_loses_nothing_to_other_threads():
    """Exact with four threads."""
    counter = Counter()

    def add():
        for _ in range(50_000):
            counter.add_one()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 200_000


def test_buffer_is_first_in_first_out():
    """And says how many records wait."""
    buffer = MemoryBuffer(10, on_overflow=None)
    assert [buffer.append(i) for i in range(4)] == [1, 2, 3, 4]
    assert buffer.drain(3) == [0, 1, 2]
    assert buffer.drain(3) == [3]
    assert buffer.drain(3) == []
    assert len(buffer) == 0


def test_full_buffer_drops_the_oldest():
    """One for each that comes, and tells which."""
    dropped = []
    buffer = MemoryBuffer(3, dropped.append)
    for i in range(5):
        buffer.append(i)
    assert (dropped, buffer.drain(9)) == ([0, 1], [2, 3, 4])


def test_buffer_of_many_threads_loses_nothing():
    """What was appended is drained or dropped, once."""
    dropped, drained = [], []
    buffer = MemoryBuffer(100, dropped.append)
    done = threading.Event()

    def append(thread):
        for i in range(20_000):
            buffer.append((thread, i))

    def drain():
        while not done.is_set():
            drained.extend(buffer.drain(7))

    appenders = [threading.Thread(target=append, args=(n,)) for n in range(4)]
    drainer = threading.Thread(target=drain)
    for thread in [*appenders, drainer]:
        thread.start()
    for thread in appenders:
        thread.join()
    done.set()
    drainer.join()
    found = dropped + drained + buffer.drain(1_000)
    assert len(found) == 80_000
    assert len(set(found)) == 80_000
