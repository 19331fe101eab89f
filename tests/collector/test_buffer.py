"""The memory buffer, and the arguments of the native API as raw records hold them."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from opentelemetry._logs import SeverityNumber

from rimp_otel import EventType
from rimp_otel.collector.buffer import (
    MemoryBuffer,
    copy_attributes,
    to_event_type,
    to_number,
    to_text,
)


def test_buffer_is_first_in_first_out():
    """append() returns the number of records; drain() returns the oldest ones."""
    buffer = MemoryBuffer(10, on_overflow=None)
    assert [buffer.append(i) for i in range(4)] == [1, 2, 3, 4]
    assert buffer.drain(3) == [0, 1, 2]
    assert buffer.drain(3) == [3]
    assert buffer.drain(3) == []
    assert len(buffer) == 0


def test_full_buffer_drops_the_oldest():
    """One record is dropped for each that is appended, and reported."""
    dropped = []
    buffer = MemoryBuffer(3, dropped.append)
    for i in range(5):
        buffer.append(i)
    assert (dropped, buffer.drain(9)) == ([0, 1], [2, 3, 4])


def test_buffer_of_many_threads_loses_nothing():
    """Each record that four threads append is drained or dropped, once."""
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


class Odd:
    """Raises an exception from every method."""

    def __iter__(self):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")


def test_copies_are_the_callers_no_more():
    """A change of the original does not show in the copy, at any depth."""
    inner = [1, {"a": 2}]
    given = {"x": inner, "y": 1}
    found = copy_attributes(given)
    inner.append(3)
    given["y"] = 2
    assert found == {"x": [1, {"a": 2}], "y": 1}


def test_what_is_no_mapping_is_kept_as_a_value():
    """Attributes that are no mapping become one value, under a key that says so."""
    assert copy_attributes([1, 2, 3]) == {"rimp.repaired": [1, 2, 3]}
    assert list(copy_attributes(Odd())) == ["rimp.repaired"]


@pytest.mark.parametrize(
    ("given", "found"),
    [(1, 1), (1.5, 1.5), (True, 1), (Decimal("2.5"), 2.5), ("3", 3.0), ("x", None), (None, None)],
)
def test_numbers(given, found):
    """Whatever stands for a number becomes one; anything else becomes None."""
    assert to_number(given) == found
    assert type(to_number(given)) is type(found)


def test_texts():
    """Every object becomes some text, and nothing is raised."""
    assert to_text("a") == "a"
    assert to_text(5) == "5"
    assert to_text(10**5_000) == "<a int that cannot be read: ValueError>"
    assert to_text(Odd()) == "<a Odd that cannot be read: RuntimeError>"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (EventType.ERROR, EventType.ERROR),
        ("warning", EventType.WARNING),
        ("WARNING", EventType.WARNING),
        ("critical", EventType.ERROR),
        ("Fatal", EventType.ERROR),
        ("warn", EventType.WARNING),
        ("notice", EventType.INFO),
        (30, EventType.WARNING),
        ("40", EventType.ERROR),
        (5, EventType.DEBUG),
        (SeverityNumber.FATAL2, EventType.ERROR),
        ("no such", EventType.ERROR),
        (None, EventType.ERROR),
        (True, EventType.ERROR),
        (Odd(), EventType.ERROR),
    ],
)
def test_event_types(given, found):
    """A name stands for its event type; an unknown one is the worst."""
    assert to_event_type(given) is found
