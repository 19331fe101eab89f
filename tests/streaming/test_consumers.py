"""Consumers, each on a thread of its own."""

from __future__ import annotations

import threading
import time

import pytest
from opentelemetry import context as context_api

from rimp_otel import TelemetryData, TelemetryEvent
from rimp_otel.streaming.worker import Consumer, ConsumerStats
from tests.doubles import DEADLINE, Gate, Gathered


def batch(*messages):
    """Events of these messages."""
    return TelemetryData(events=[TelemetryEvent("a", message) for message in messages])


def soon():
    """A deadline that is not reached."""
    return time.monotonic() + DEADLINE


def test_batches_arrive_in_order():
    """On another thread."""
    gathered, threads = Gathered(), set()
    consumer = Consumer(lambda data: (threads.add(threading.get_ident()), gathered(data)), 100)
    for i in range(50):
        consumer.offer(batch(str(i)))
    assert consumer.wait(soon())
    assert gathered.messages == [str(i) for i in range(50)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    consumer.close()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_consumer_that_raises_goes_on(error):
    """What it raised is counted and kept, whatever it is."""
    calls = []

    def broken(data):
        calls.append(len(data))
        raise error("x")

    consumer = Consumer(broken, 100)
    consumer.offer(batch("a"))
    consumer.offer(batch("b", "c"))
    assert consumer.wait(soon())
    assert calls == [1, 2]
    assert consumer.stats() == ConsumerStats(
        "test_consumer_that_raises_goes_on.<locals>.broken", 3, 3, 0
    )
    assert type(consumer.last_error) is error
    consumer.close()


def test_full_queue_misses_exactly():
    """What comes while it is full; what was in it arrives."""
    gate, gathered = Gate(), Gathered()
    consumer = Consumer(lambda data: (gate(), gathered(data)), queue_size=2)
    consumer.offer(batch("held"))
    assert gate.reached.wait(DEADLINE)
    for message in ("queued", "queued too"):
        consumer.offer(batch(message))
    consumer.offer(batch("missed", "missed"))
    consumer.offer(batch("missed"))
    assert consumer.stats().missed == 3
    assert not consumer.wait(time.monotonic())
    gate.opened.set()
    assert consumer.wait(soon())
    assert gathered.messages == ["held", "queued", "queued too"]
    assert consumer.stats()[1:] == (3, 0, 3)
    consumer.close()


def test_closed_consumer_starts_again():
    """With the next offer; nothing offered meanwhile is forgotten."""
    gathered = Gathered()
    consumer = Consumer(gathered, 10_000)
    for i in range(500):
        consumer.offer(batch(str(i)))
        consumer.close()
    assert consumer.wait(soon())
    assert gathered.messages == [str(i) for i in range(500)]


def test_thread_ends_when_closed():
    """And the consumer has none any more."""
    threads = []
    consumer = Consumer(lambda data: threads.append(threading.current_thread()), 10)
    consumer.offer(batch("a"))
    assert consumer.wait(soon())
    consumer.close()
    threads[0].join(DEADLINE)
    assert not threads[0].is_alive()


def test_what_a_consumer_does_is_not_instrumented():
    """Else forwarding over an instrumented HTTP client would record itself for ever."""
    seen = []
    key = context_api._SUPPRESS_INSTRUMENTATION_KEY
    consumer = Consumer(lambda data: seen.append(context_api.get_value(key)), 10)
    consumer.offer(batch("a"))
    assert consumer.wait(soon())
    assert seen == [True]
    assert context_api.get_value(key) is None
    consumer.close()


def test_interpreter_that_starts_no_thread(monkeypatch):
    """At its exit the batch is delivered on the caller's."""

    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    gathered = Gathered()
    consumer = Consumer(gathered, 10)
    consumer.start()
    consumer.offer(batch("a"))
    assert gathered.messages == ["a"]
    assert consumer.wait(time.monotonic())


def test_name_of_a_consumer_that_is_an_object():
    """What has no __qualname__ is named by its text."""
    assert Consumer(Gathered(), 1).stats().name.startswith("<tests.doubles.Gathered object")
