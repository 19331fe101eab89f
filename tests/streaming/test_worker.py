"""The threads of a stream: the worker, and one for each consumer."""

from __future__ import annotations

import threading
import time

import pytest
from opentelemetry import context as context_api

from rimp_otel import TelemetryData, TelemetryEvent
from rimp_otel.process import Reporter
from rimp_otel.streaming.worker import Consumer, ConsumerStats, Worker
from tests.doubles import DEADLINE, Gate, Gathered


def soon():
    """Return a deadline that is not reached."""
    return time.monotonic() + DEADLINE


class Ticks:
    """Counts ticks, and can be waited for."""

    def __init__(self, pause=60.0):
        self.pause = pause
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self):
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        return self.pause

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, DEADLINE)


def test_ticks_when_due():
    """The thread ticks as often as the tick asks for."""
    ticks = Ticks(pause=0.001)
    worker = Worker(ticks, "w")
    worker.start()
    ticks.wait_for(5)
    assert worker.stop(soon())


def test_ticks_when_woken():
    """Any number of wakes before a tick make one tick."""
    ticks = Ticks()
    worker = Worker(ticks, "w")
    worker.start()
    ticks.wait_for(1)
    worker.wake()
    ticks.wait_for(2)
    gate = Gate()
    blocked = threading.Thread(target=worker.perform, args=(gate, soon()))
    blocked.start()
    assert gate.reached.wait(DEADLINE)
    for _ in range(100):
        worker.wake()
    gate.opened.set()
    blocked.join()
    ticks.wait_for(3)
    assert worker.perform(lambda: ticks.count, soon()) == (True, 3)
    assert worker.stop(soon())


def test_tick_that_raises_does_not_end_the_thread():
    """Whatever a tick raises, the thread goes on."""
    raised = []
    again = threading.Event()

    def tick():
        if len(raised) < 2:
            raised.append(1)
            raise SystemExit if raised else ValueError
        again.set()
        return 60.0

    worker = Worker(tick, "w")
    worker.start()
    worker.wake()
    worker.wake()
    assert worker.perform(lambda: 1, soon()) == (True, 1)
    worker.wake()
    assert again.wait(DEADLINE)
    assert worker.stop(soon())


def test_perform_runs_on_the_thread():
    """perform returns what the function returns; None if it raises."""
    worker = Worker(Ticks(), "rimp-test")
    worker.start()
    assert worker.perform(lambda: threading.current_thread().name, soon()) == (True, "rimp-test")
    assert worker.perform(lambda: 1 / 0, soon()) == (True, None)

    def leave():
        raise SystemExit

    assert worker.perform(leave, soon()) == (True, None)
    assert worker.is_running
    assert worker.stop(soon())


def test_perform_without_a_thread():
    """Without the thread, a function that hangs keeps nobody past the deadline."""
    worker = Worker(Ticks(), "w")
    done, thread = worker.perform(threading.current_thread, soon())
    assert done
    assert thread is not threading.current_thread()
    gate = Gate()
    before = time.monotonic()
    assert worker.perform(gate, before + 0.05) == (False, None)
    assert time.monotonic() - before < 5.0
    gate.opened.set()


def test_perform_keeps_its_deadline_while_the_thread_hangs():
    """The function is called later."""
    worker = Worker(Ticks(), "w")
    worker.start()
    gate, done = Gate(), threading.Event()
    assert worker.perform(gate, time.monotonic() + 0.05) == (False, None)
    assert worker.perform(done.set, time.monotonic()) == (False, None)
    assert not worker.stop(time.monotonic())
    gate.opened.set()
    assert done.wait(DEADLINE)


def test_task_that_asks_for_another_is_not_served():
    """A task that asked for another would wait for itself."""
    worker = Worker(Ticks(), "w")
    nested = lambda: (worker.is_current, worker.perform(lambda: 1, soon()))  # noqa: E731
    assert worker.perform(nested, soon()) == (True, (True, (False, None)))
    worker.start()
    assert worker.perform(nested, soon()) == (True, (True, (False, None)))
    assert not worker.is_current
    assert worker.stop(soon())


def test_stop_on_the_thread_itself():
    """A stop on the thread itself ends it without waiting."""
    worker = Worker(Ticks(), "w")
    worker.start()
    thread = worker.perform(threading.current_thread, soon())[1]
    assert worker.perform(lambda: worker.stop(soon()), soon()) == (True, False)
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_start_stop_start():
    """After a stop there is a new thread."""
    worker = Worker(Ticks(), "w")
    assert worker.start()
    first = worker.perform(threading.current_thread, soon())[1]
    assert worker.start()
    assert worker.perform(threading.current_thread, soon())[1] is first
    assert worker.stop(soon())
    assert worker.stop(soon())
    assert not worker.is_running
    assert worker.start()
    assert worker.perform(threading.current_thread, soon())[1] is not first
    assert worker.stop(soon())


def test_interpreter_that_starts_no_thread(monkeypatch):
    """At the interpreter's exit start says so, and the caller does the tasks."""

    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    worker = Worker(Ticks(), "w")
    assert not worker.start()
    assert not worker.is_running
    done, thread = worker.perform(threading.current_thread, soon())
    assert done
    assert thread is threading.current_thread()
    assert not worker.is_current


@pytest.mark.parametrize("started", [True, False])
def test_interpreter_that_starts_no_thread_while_one_hangs(monkeypatch, started):
    """A hanging task would keep the caller as well, so that nothing is done."""
    worker = Worker(Ticks(), "w")
    gate = Gate()
    if started:
        worker.start()
    assert worker.perform(gate, time.monotonic() + 0.05) == (False, None)
    worker.stop(time.monotonic())

    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert worker.perform(lambda: 1, time.monotonic()) == (False, None)
    gate.opened.set()
    assert worker.perform(lambda: 1, soon()) == (True, 1)


def batch(*messages):
    """Return a batch of events with these messages."""
    return TelemetryData(events=[TelemetryEvent("a", message) for message in messages])


def test_batches_arrive_in_order():
    """Batches arrive in order, on another thread."""
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
    """What a consumer raised is counted and kept, whatever it is."""
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
        "test_consumer_that_raises_goes_on.<locals>.broken", 3, 3, 0, f"{error.__name__}: x"
    )
    assert type(consumer.last_error) is error
    consumer.close()


def test_consumer_that_raises_is_reported():
    """The exception is said once in a while, with the consumer's name."""
    said = []

    def broken(data):
        raise ValueError("no such host")

    consumer = Consumer(broken, 100, Reporter(write=said.append))
    consumer.offer(batch("a"))
    consumer.offer(batch("b"))
    assert consumer.wait(soon())
    consumer.close()
    name = "test_consumer_that_raises_is_reported.<locals>.broken"
    assert said == [f"the consumer {name} raised ValueError: no such host"]


def test_full_queue_misses_exactly():
    """What comes while the queue is full is missed; what was in it arrives."""
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
    assert consumer.stats()[1:4] == (3, 0, 3)
    consumer.close()


def test_closed_consumer_starts_again():
    """The next offer starts a closed consumer; nothing is forgotten."""
    gathered = Gathered()
    consumer = Consumer(gathered, 10_000)
    for i in range(500):
        consumer.offer(batch(str(i)))
        consumer.close()
    assert consumer.wait(soon())
    assert gathered.messages == [str(i) for i in range(500)]


def test_thread_ends_when_closed():
    """A closed consumer has no thread."""
    threads = []
    consumer = Consumer(lambda data: threads.append(threading.current_thread()), 10)
    consumer.offer(batch("a"))
    assert consumer.wait(soon())
    consumer.close()
    threads[0].join(DEADLINE)
    assert not threads[0].is_alive()


def test_what_a_consumer_does_is_not_instrumented():
    """Forwarding over an instrumented HTTP client must not record itself for ever."""
    seen = []
    key = context_api._SUPPRESS_INSTRUMENTATION_KEY
    consumer = Consumer(lambda data: seen.append(context_api.get_value(key)), 10)
    consumer.offer(batch("a"))
    assert consumer.wait(soon())
    assert seen == [True]
    assert context_api.get_value(key) is None
    consumer.close()


def test_batches_at_the_interpreters_exit(monkeypatch):
    """At the interpreter's exit a batch is delivered on the caller's thread."""

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
    """A consumer without __qualname__ is named by its text."""
    assert Consumer(Gathered(), 1).stats().name.startswith("<tests.doubles.Gathered object")
