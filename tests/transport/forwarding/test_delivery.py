"""What becomes of a portion by a destination's answers, and how long is waited for them."""

from __future__ import annotations

import threading

import pytest

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.models.records import Signal, TelemetryEvent
from rimp_otel.transport.forwarding.delivery import (
    Delivery,
    GaveUpError,
    InterruptedDeliveryError,
    Kept,
    Pace,
    StoppedDeliveryError,
    Undecided,
)
from rimp_otel.transport.forwarding.destination import Delivered, Refused, RetryLater, Stopped
from rimp_otel.transport.forwarding.ledger import Ledger
from rimp_otel.transport.forwarding.sources import Portion, count_line_records
from tests.transport.doubles import FakeTime, ScriptedDestination


def portion(*groups):
    """Return a portion with a line for each group of messages."""
    batches = [TelemetryData([TelemetryEvent("source", m) for m in group]) for group in groups]
    lines = [line for batch in batches for line in batch.otlp_json(Signal.LOGS)]
    return Portion(lines, sum(map(count_line_records, lines)))


def deliver(destination, found, time=None, selector=None, **pace):
    """Deliver a portion."""
    time = time or FakeTime()
    paced = time.make_pace(threading.Event(), **pace)
    return Delivery(Signal.LOGS, destination, paced, 1.0, selector).deliver(found)


def refusing(*bad, outcome=None):
    """Return an answer that refuses batches with one of some messages."""

    def answer(batch):
        text = b"".join(batch.lines)
        is_bad = any(f'"{message}"'.encode() in text for message in bad)
        return (outcome or Refused("400 bad")) if is_bad else Delivered()

    return answer


def messages_of(letters):
    """Return the messages of dead letters."""
    return [event.message for letter in letters for event in decode_batch(letter.line).events]


def test_refused_records_are_found_by_halves():
    """Over lines and within them; each of the others is sent once."""
    destination = ScriptedDestination()
    destination.otherwise = refusing("b3", "d0")
    groups = [[f"{line}{i}" for i in range(8)] for line in "abcd"]
    settled = deliver(destination, portion(*groups))
    assert settled.ledger == Ledger(acknowledged=30, refused={"by_destination": 2})
    assert messages_of(settled.letters) == ["b3", "d0"]
    assert settled.message == "400 bad"
    assert destination.counts.total() == len(destination.counts) == 30
    assert len(destination.attempts) < 30


def test_a_request_is_not_larger_than_it_should_be():
    """A large line is taken apart; a record that is too large by itself is tried alone."""
    destination = ScriptedDestination(max_request_size=2_000)
    destination.otherwise = lambda batch: (
        Refused("413") if sum(map(len, batch.lines)) > 2_000 else Delivered()
    )
    settled = deliver(destination, portion(["a" * 900, "b" * 900, "c" * 3_000], ["d"], ["e"]))
    assert settled.ledger == Ledger(acknowledged=4, refused={"too_large": 1})
    assert [len(message) for message in destination.messages] == [900, 900, 1, 1]
    assert len(destination.attempts) == 4
    assert settled.letters[0].message == "413"


def test_records_of_a_large_line_are_sent_together():
    """As many in a request as it may have, whatever line they were stored in."""
    destination = ScriptedDestination(max_request_size=20_000)
    settled = deliver(destination, portion([f"{number:0300}" for number in range(100)]))
    assert settled.ledger == Ledger(acknowledged=100)
    assert len(destination.batches) <= 5
    assert all(sum(map(len, batch.lines)) <= 20_000 for batch in destination.batches)


def test_throttling_that_repeats_splits():
    """Some destinations say so of a batch that is too large."""
    destination = ScriptedDestination()
    destination.otherwise = lambda batch: (
        RetryLater("429", None, True) if batch.records > 2 else Delivered()
    )
    settled = deliver(destination, portion(["a", "b", "c", "d"]))
    assert settled.ledger == Ledger(acknowledged=4)
    assert [records for _, records in destination.attempts] == [4, 4, 4, 4, 2, 2]


def test_one_record_that_is_throttled_while_others_are_taken_is_set_aside():
    """It must not keep the others waiting for ever."""
    destination = ScriptedDestination()
    destination.otherwise = refusing("b", outcome=RetryLater("429", None, True))
    settled = deliver(destination, portion(["a", "b", "c", "d"]))
    assert settled.ledger == Ledger(acknowledged=3, refused={"throttled": 1})
    assert messages_of(settled.letters) == ["b"]


def test_throttling_of_everything_drops_nothing():
    """However long it lasts."""
    destination = ScriptedDestination([RetryLater("429", None, True)] * 200)
    time = FakeTime()
    settled = deliver(destination, portion(["a", "b"], ["c", "d"]), time)
    assert settled.ledger == Ledger(acknowledged=4)
    assert max(time.pauses) == 60.0


def test_connections_that_break_again_and_again_split_and_drop_nothing():
    """As a proxy's do that gets too much at once."""
    destination = ScriptedDestination()
    destination.otherwise = lambda batch: (
        RetryLater("connection reset") if batch.records > 1 else Delivered()
    )
    assert deliver(destination, portion(["a", "b"])).ledger == Ledger(acknowledged=2)
    destination = ScriptedDestination([RetryLater("connection refused")] * 300)
    assert deliver(destination, portion(["a", "b"])).ledger == Ledger(acknowledged=2)


def test_a_batch_that_may_have_been_taken_keeps_its_name():
    """Under the names of its halves it would be taken once more, after an answer that was lost."""
    taken: dict[str, int] = {}

    def answer(batch):
        is_known = batch.token in taken
        taken[batch.token] = batch.records
        return Delivered() if is_known else RetryLater("no answer in time")

    throttled = RetryLater("no memory", None, True)
    destination = ScriptedDestination([answer, *[throttled] * 30, *[RetryLater("refused")] * 30])
    destination.knows_repetitions = True
    destination.otherwise = answer
    found = portion(["a", "b"])._replace(name="file:0")
    assert deliver(destination, found).ledger == Ledger(acknowledged=2)
    assert list(taken.values()) == [2]


def test_a_batch_that_was_not_taken_is_split_also_where_names_are_known():
    """A server without memory for the whole may have it for a half."""
    destination = ScriptedDestination()
    destination.knows_repetitions = True
    destination.otherwise = lambda batch: (
        RetryLater("no memory", None, True) if batch.records > 1 else Delivered()
    )
    found = portion(["a", "b"])._replace(name="file:0")
    assert deliver(destination, found).ledger == Ledger(acknowledged=2)


def test_what_a_destination_raises_is_a_failure_for_the_time_being():
    """It should raise nothing; nothing is dropped for it."""

    def fail(batch):
        raise RuntimeError("oops")

    destination = ScriptedDestination([fail])
    time = FakeTime()
    assert deliver(destination, portion(["a"]), time).ledger == Ledger(acknowledged=1)
    assert time.pauses == [1.0]


def test_pauses_grow_with_jitter_and_end_with_a_success():
    """Full jitter: anything from nothing to the bound; what is asked for is waited for."""
    asked: list[float] = []
    pace = Pace(threading.Event(), random_up_to=lambda most: asked.append(most) or most / 2)
    assert [pace.next_pause() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    pace.succeed()
    assert pace.next_pause() == 0.5
    assert asked[-3:] == [60.0, 60.0, 1.0]
    pace.succeed()
    assert pace.next_pause(10.0) == 10.0 + 0.5 / 4
    pace.succeed()
    assert pace.next_pause(1e9) == 900.0 + 0.5 / 4
    pace.succeed()
    assert pace.next_pause(-5.0) == 0.5


def test_a_stop_ends_a_pause():
    """And a delivery between two requests."""
    stop = threading.Event()
    destination = ScriptedDestination([lambda batch: stop.set() or RetryLater("503", 500.0)])
    with pytest.raises(InterruptedDeliveryError):
        Delivery(Signal.LOGS, destination, Pace(stop), 1.0).deliver(portion(["a"]))
    with pytest.raises(InterruptedDeliveryError):
        Delivery(Signal.LOGS, destination, Pace(stop), 1.0).deliver(portion(["a"]))
    assert len(destination.attempts) == 1


def test_it_gives_up_where_it_is_told_to():
    """After so long without a success; the last pause is cut short."""
    time = FakeTime()
    destination = ScriptedDestination([RetryLater("503", 20.0)] * 10)
    with pytest.raises(GaveUpError, match="no success for 30 s: 503"):
        deliver(destination, portion(["a"]), time, give_up=30)
    assert sum(time.pauses) == 30


def test_a_stopped_destination_is_told_from_a_stopped_signal():
    """The error says which."""
    with pytest.raises(StoppedDeliveryError, match="404") as raised:
        deliver(ScriptedDestination([Stopped("404", True)]), portion(["a"]))
    assert raised.value.is_signal_only


class Halver:
    """Keeps the first line of each portion, once it was asked twice."""

    def __init__(self) -> None:
        self.asked = 0

    def select(self, signal, lines, records):
        """Decide."""
        self.asked += 1
        if self.asked == 1:
            return Undecided(7.0)
        kept = count_line_records(lines[0])
        return Kept(lines[:1], kept, {"rule": records - kept})


def test_a_selector_decides_what_is_sent():
    """It is asked again while it cannot decide; what is left out is counted."""
    time, destination = FakeTime(), ScriptedDestination()
    settled = deliver(destination, portion(["a"], ["b", "c"]), time, Halver())
    assert time.pauses == [7.0]
    assert destination.messages == ["a"]
    assert settled.ledger == Ledger(acknowledged=1, not_kept={"rule": 2})


def test_a_selector_that_fails_stops_the_signal():
    """Nothing is sent that was not decided about."""

    class Broken:
        def select(self, signal, lines, records):
            raise ValueError("broken")

    with pytest.raises(StoppedDeliveryError, match="the selection failed: ValueError: broken"):
        deliver(ScriptedDestination(), portion(["a"]), selector=Broken())


def test_what_cannot_be_taken_apart_is_set_aside_as_a_whole():
    """With all of its records."""
    line = portion(["a", "b"]).lines[0].replace(b'"severityNumber":', b'"severityNumber":01', 1)
    destination = ScriptedDestination()
    destination.otherwise = lambda batch: Refused("400")
    found = Portion([line], 2)
    settled = deliver(destination, found)
    assert settled.ledger.refused == {"by_destination": 2}
    assert settled.ledger.passed == 2
