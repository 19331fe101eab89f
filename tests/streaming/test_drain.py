"""The hop from the buffer into the storage."""

from __future__ import annotations

import threading

import pytest

from rimp_otel import (
    CollectorStats,
    StorageError,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryMetric,
)
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter
from rimp_otel.streaming.drain import SLICE_RECORDS, Drain
from tests.doubles import DEADLINE, Gate, ListStorage


class Setup:
    """A drain with its collector and storage, and a clock of its own."""

    def __init__(self, before=None, **settings):
        self.now = 1_000.0
        self.offered = []
        self.storage = ListStorage(before)
        self.collector = TelemetryCollector(TelemetryConfig(**settings))
        buffer = CollectorBuffer(self.collector)
        self.drain = Drain(
            buffer,
            self.storage,
            buffer.counts,
            self.offered.append,
            Reporter(),
            lambda: self.now,
        )

    def collect(self, *messages):
        for message in messages:
            self.collector.collect_event("a", message)


class Refusals:
    """A storage's errors: raised one at each call, then none."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def __call__(self, data):
        if self.errors:
            raise self.errors.pop(0)


def test_everything_is_stored_in_slices_and_offered():
    """Batches are stored in order, and each is offered after it was stored."""
    setup = Setup(buffer_size=1_000)
    setup.collect(*map(str, range(2 * SLICE_RECORDS + 10)))
    taken = []
    assert setup.drain.run(taken)
    assert [len(batch) for batch in setup.storage.stored.batches] == [
        SLICE_RECORDS,
        SLICE_RECORDS,
        10,
    ]
    assert setup.storage.stored.messages == [str(i) for i in range(2 * SLICE_RECORDS + 10)]
    assert setup.offered == setup.storage.stored.batches == taken
    assert setup.drain.batches == 3
    assert setup.collector.stats() == CollectorStats(522, 522, 0, {}, 0)


def test_failing_storage_keeps_records_in_order(capsys):
    """A failing storage loses and repeats nothing; the failure is reported once."""
    setup = Setup(Refusals(OSError("full"), StorageError("full"), OSError("full")))
    setup.collect("1", "2")
    assert not setup.drain.run()
    setup.collect("3")
    assert not setup.drain.run()
    assert not setup.drain.run()
    assert setup.offered == []
    assert setup.collector.stats() == CollectorStats(3, 0, 3, {}, 0, in_memory=3)
    setup.collect("4")
    assert setup.drain.run()
    assert setup.storage.stored.messages == ["1", "2", "3", "4"]
    assert setup.drain.errors == 3
    assert setup.collector.stats() == CollectorStats(4, 4, 0, {}, 0)
    assert capsys.readouterr().err == ("rimp: storing failed, will retry: OSError: full\n")


def test_pauses_grow_and_end_with_success():
    """Pauses double from half a second to half a minute; a flush does not wait for them."""
    setup = Setup(Refusals(*[OSError("x")] * 9))
    setup.collect("1")
    pauses = []
    for _ in range(9):
        setup.drain.run_when_due()
        attempts, before = setup.storage.attempts.count, setup.now
        while setup.storage.attempts.count == attempts:
            setup.now += 0.5
            setup.drain.run_when_due()
            if setup.now - before > 100:
                break
        pauses.append(setup.now - before)
        setup.now = before + pauses[-1]
        if not setup.collector.stats().pending:
            break
    assert setup.storage.stored.messages == ["1"]
    assert setup.drain.errors == 9
    assert pauses[0] == 0.5
    assert max(pauses) == 30.0


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_poison_batch_is_given_up_after_three_attempts(error):
    """A poison batch is counted, and what is behind it is stored."""

    def refuse(data):
        if "poison" in [event.message for event in data.events]:
            raise error("cannot")

    setup = Setup(refuse)
    setup.collect("poison", "beside it")
    assert not setup.drain.run()
    assert not setup.drain.run()
    setup.collect("good")
    assert setup.drain.run()
    assert setup.storage.stored.messages == ["good"]
    assert setup.storage.attempts.count == 2 * 3 + 1
    assert setup.collector.stats() == CollectorStats(3, 1, 0, {"storage_error": 2}, 0)


def test_outage_uses_up_no_attempts():
    """An outage, which passes by itself, is not held against the batch."""
    passing = [OSError("x"), MemoryError(), OSError("x"), MemoryError(), OSError("x")]
    setup = Setup(Refusals(*passing, ValueError("y"), ValueError("y")))
    setup.collect("1")
    for _ in range(7):
        assert not setup.drain.run()
    assert setup.drain.run()
    assert setup.storage.stored.messages == ["1"]


def test_long_outage_drops_the_oldest_and_counts():
    """The buffer's limit is the room to wait in."""
    setup = Setup(lambda data: setup.fail(), buffer_size=4)
    down = [True]

    def fail():
        if down[0]:
            raise OSError("down")

    setup.fail = fail
    setup.collect("1")
    setup.drain.run()
    setup.collect(*map(str, range(2, 11)))
    assert setup.collector.stats() == CollectorStats(10, 0, 5, {"buffer_full": 5}, 0, in_memory=5)
    down[0] = False
    assert setup.drain.run()
    assert setup.storage.stored.messages == ["1", "7", "8", "9", "10"]
    assert setup.collector.stats() == CollectorStats(10, 5, 0, {"buffer_full": 5}, 0)


def test_storage_that_collects_ends():
    """What a storage collects is for the next run."""
    setup = Setup(lambda data: setup.collect("from the storage"))
    setup.collect("1")
    assert setup.drain.run()
    assert setup.storage.stored.messages == ["1"]
    assert setup.collector.stats().pending == 1


def test_storage_that_drains_stores_nothing_twice():
    """A storage that drains stores nothing twice, also while data points are accepted."""
    setup = Setup(lambda data: nested.append(setup.drain.run()))
    nested = []
    setup.collect("1")
    setup.drain.accept_points(TelemetryData(metrics=[TelemetryMetric("m", 1)]))
    assert setup.drain.run()
    assert nested == [False, False]
    assert [repr(batch) for batch in setup.storage.stored.batches] == [
        "TelemetryData(events=0, metrics=1, spans=0)",
        "TelemetryData(events=1, metrics=0, spans=0)",
    ]
    assert setup.collector.stats() == CollectorStats(2, 2, 0, {}, 0)


def test_data_points_wait_behind_what_was_refused():
    """Data points wait in order; what finds no room is counted."""
    setup = Setup(Refusals(OSError("x")))
    setup.collect("1")
    setup.drain.run()
    point = TelemetryData(metrics=[TelemetryMetric("m", 1)])
    for _ in range(300):
        setup.drain.accept_points(point)
    assert setup.collector.stats() == CollectorStats(
        301, 0, 256, {"buffer_full": 45}, 0, in_memory=256
    )
    assert setup.drain.run()
    assert setup.storage.stored.batches[0].events[0].message == "1"
    assert setup.collector.stats() == CollectorStats(301, 256, 0, {"buffer_full": 45}, 0)


def test_run_if_free_waits_for_nobody():
    """A record that another thread gave up to the draining one is stored."""
    gate = Gate()
    setup = Setup(lambda data: gate() if not gate.opened.is_set() else None)
    setup.collect("1")
    other = threading.Thread(target=setup.drain.run_if_free)
    other.start()
    assert gate.reached.wait(DEADLINE)
    setup.collect("2")
    setup.drain.run_if_free()
    assert setup.storage.stored.messages == []
    gate.opened.set()
    other.join(DEADLINE)
    assert setup.storage.stored.messages == ["1", "2"]


def test_record_that_cannot_be_encoded_costs_itself():
    """The record is counted once the storage has tried to encode it."""
    setup = Setup()
    setup.storage.before = lambda data: [data.otlp_json(signal) for signal in Signal]

    class Broken:
        context = type("Context", (), {"trace_flags": 1})

    setup.collect("1")
    setup.collector.on_end(Broken())
    assert setup.drain.run()
    assert setup.collector.stats() == CollectorStats(2, 1, 0, {"encoding": 1}, 0)


def test_close_that_fails(capsys):
    """A close that fails is reported, and raises nothing."""
    setup = Setup()
    setup.storage.close = lambda: 1 / 0
    setup.drain.close()
    assert "the storage could not be closed: ZeroDivisionError" in capsys.readouterr().err


def test_unstored_records_are_reported(capsys):
    """Records that are lost are reported."""
    setup = Setup()
    setup.drain.report_unstored()
    assert capsys.readouterr().err == ""
    setup.collect("1", "2")
    setup.drain.report_unstored()
    assert capsys.readouterr().err == "rimp: 2 records could not be stored and are lost\n"
