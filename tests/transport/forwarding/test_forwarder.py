"""Forwarding: every record once, whatever the files do meanwhile, and a ledger that adds up."""

from __future__ import annotations

import shutil
import threading

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal, TelemetryEvent, TelemetryMetric
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.retention import delete_expired
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.storage.forwarding import read_holds
from rimp_otel.transport.forwarding.cursor import Cursor, DestinationLockedError, read_cursor
from rimp_otel.transport.forwarding.destination import Delivered, Refused, RetryLater, Stopped
from rimp_otel.transport.forwarding.forward_status import StatusReader
from rimp_otel.transport.forwarding.forwarder import DEFAULT_HOLD, Forwarder, ForwarderOptions
from rimp_otel.transport.forwarding.ledger import Ledger
from tests.transport.doubles import FakeTime, ScriptedDestination

ONCE = ForwarderOptions(once=True, signals=(Signal.LOGS,))


def store(storage, *messages):
    """Store a log record for each message, in one line."""
    storage.store(TelemetryData([TelemetryEvent("source", message) for message in messages]))


def forward(path, *destinations, options=ONCE, **arguments):
    """Forward what is there; return the outcomes."""
    forwarder = Forwarder(path, destinations, options, **arguments)
    forwarder.start()
    assert forwarder.wait(20)
    forwarder.close()
    return forwarder.outcomes()


def ledger_of(forwarder_path, destination, signal=Signal.LOGS):
    """Return the ledger that is on disk."""
    (directory,) = [
        path
        for path in (forwarder_path / "forward").iterdir()
        if destination.name in (path / "destination.json").read_text()
    ]
    return read_cursor(directory, signal).ledger


@pytest.fixture
def path(tmp_path):
    """The path of a recording."""
    return tmp_path / "telemetry"


@pytest.fixture
def storage(path):
    """A storage whose files hold a few lines each."""
    with FileStorage(path, rotate_size=1_000, retain_size=None) as storage:
        yield storage


def test_everything_is_sent_once(path, storage):
    """Out of sealed files and active ones; what comes later comes with the next run."""
    for number in range(20):
        store(storage, f"a{number}", f"b{number}")
    destination = ScriptedDestination()
    (outcome,) = forward(path, destination)
    assert outcome.failure == ""
    assert outcome.ledger == Ledger(acknowledged=40)
    assert len(destination.counts) == 40 == destination.counts.total()
    assert list((path / "sealed").iterdir())
    (outcome,) = forward(path, destination)
    assert outcome.ledger == Ledger()
    store(storage, "later")
    forward(path, destination)
    assert destination.messages[-1] == "later"
    assert destination.counts.total() == 41
    assert ledger_of(path, destination) == Ledger(acknowledged=41)


def test_a_file_is_followed_while_it_is_rotated_and_sealed(path, storage):
    """What was sent of it while it was active is not sent again."""
    destination = ScriptedDestination()
    for number in range(30):
        store(storage, f"m{number}")
        forward(path, destination)
    assert destination.messages == [f"m{number}" for number in range(30)]


def test_two_forwarders_of_one_destination_exclude_one_another(path, storage):
    """The second one says so; one for another destination runs beside it."""
    store(storage, "a")
    first = Forwarder(path, [ScriptedDestination()], ForwarderOptions())
    first.start()
    with pytest.raises(DestinationLockedError, match="another process forwards this recording"):
        Forwarder(path, [ScriptedDestination()], ONCE).start()
    other = ScriptedDestination(name="test://other")
    forward(path, other)
    assert other.messages == ["a"]
    assert first.stop()
    forward(path, ScriptedDestination())


def test_names_must_differ(path, storage):
    """Two destinations of one address need a fragment."""
    with pytest.raises(ConfigurationError, match="#fragment"):
        Forwarder(path, [ScriptedDestination(), ScriptedDestination()])
    with pytest.raises(ConfigurationError, match="at least one"):
        Forwarder(path, [])


def test_a_refused_record_is_set_aside_alone(path, storage):
    """A batch is split down to it; it can be read in the dead-letter file, with the reason."""
    store(storage, *(f"m{number}" for number in range(50)))
    destination = ScriptedDestination()
    destination.otherwise = lambda batch: (
        Refused("bad m17") if b'"m17"' in b"".join(batch.lines) else Delivered()
    )
    (outcome,) = forward(path, destination)
    assert outcome.failure == ""
    assert outcome.ledger == Ledger(acknowledged=49, refused={"by_destination": 1})
    assert len(destination.counts) == 49
    (letters,) = (path / "forward").glob("*/refused-logs-*.jsonl")
    (line,) = letters.read_bytes().splitlines()
    (event,) = TelemetryData.from_otlp_json([line]).events
    assert event.message == "m17"
    assert b"bad m17" in line


def test_a_partial_success_is_counted(path, storage):
    """Never sent again, with the message."""
    store(storage, "a", "b", "c")
    destination = ScriptedDestination([Delivered(2, "two are bad")])
    (outcome,) = forward(path, destination)
    assert outcome.ledger == Ledger(acknowledged=1, refused={"partial_success": 2})
    assert len(destination.attempts) == 1


def test_what_is_not_taken_now_is_offered_again(path, storage):
    """With growing pauses, and as long as the destination asks for."""
    store(storage, "a")
    time = FakeTime()
    later = RetryLater("503")
    destination = ScriptedDestination([later, later, later, RetryLater("429", 30.0, True)])
    (outcome,) = forward(path, destination, make_pace=time.make_pace)
    assert outcome.ledger == Ledger(acknowledged=1)
    assert time.pauses == [1.0, 2.0, 4.0, 32.0]


def test_a_destination_that_is_stopped_drops_nothing(path, storage):
    """It says why; the other destination gets everything; later nothing is missing."""
    store(storage, "a", "b")
    denied = ScriptedDestination(name="test://denied")
    denied.otherwise = lambda batch: Stopped("401 Unauthorized")
    other = ScriptedDestination()
    first, second = forward(path, denied, other)
    assert first.failure == "401 Unauthorized"
    assert second.failure == ""
    assert other.messages == ["a", "b"]
    assert ledger_of(path, denied) == Ledger()
    denied.otherwise = lambda batch: Delivered()
    forward(path, denied)
    assert denied.messages == ["a", "b"]


def test_once_gives_up_where_nothing_is_taken(path, storage):
    """After some time without a success, with the reason."""
    store(storage, "a")
    time = FakeTime()
    destination = ScriptedDestination()
    destination.otherwise = lambda batch: RetryLater("connection refused")
    (outcome,) = forward(path, destination, make_pace=lambda stop: time.make_pace(stop, give_up=30))
    assert "connection refused" in outcome.failure
    assert ledger_of(path, destination) == Ledger()


def test_a_service_sends_what_comes(path, storage):
    """Until it is stopped, which waits for what is under way."""
    destination = ScriptedDestination()
    options = ForwarderOptions(interval=0.01)
    forwarder = Forwarder(path, [destination], options)
    forwarder.start()
    for number in range(20):
        store(storage, f"m{number}")
        destination.wait_for(lambda number=number: len(destination.messages) == number + 1)
    assert not forwarder.is_done
    assert forwarder.stop()
    assert destination.is_closed
    assert destination.counts.total() == 20


def delete_all_sealed(path):
    """Have retention delete what it may, and all that no destination holds."""
    deleted = delete_expired(path / "sealed", 0, None, 0.0, holds=read_holds(path / "forward"))
    assert deleted.error is None
    return deleted


def test_what_retention_deletes_unsent_is_expired(path, storage):
    """Counted to the record, also of a file of which a part was sent; and only once."""
    options = ONCE._replace(hold=0)
    store(storage, "a", "b")
    destination = ScriptedDestination()
    forward(path, destination, options=options)
    store(storage, "c")
    store(storage, "d", "e", "f")
    storage.rotate()
    other = ScriptedDestination(name="test://other")
    assert delete_all_sealed(path).expired == 6
    (outcome, unheld) = forward(path, destination, other, options=options)
    assert outcome.ledger == Ledger(expired=4)
    assert ledger_of(path, destination) == Ledger(acknowledged=2, expired=4)
    assert unheld.ledger == Ledger()  # it came later
    assert not list((path / "forward").glob("*/expired-*"))
    (outcome, _) = forward(path, destination, other, options=options)
    assert outcome.ledger == Ledger()


def test_a_note_that_was_counted_is_not_counted_again(path, storage):
    """A death after the ledger was saved, before the note was removed."""
    options = ONCE._replace(hold=0)
    destination = ScriptedDestination()
    forward(path, destination, options=options)
    store(storage, "a")
    storage.rotate()
    delete_all_sealed(path)
    (note,) = (path / "forward").glob("*/expired-*")
    forward(path, destination, options=options)
    note.touch()
    (outcome,) = forward(path, destination, options=options)
    assert outcome.ledger == Ledger()
    assert not note.exists()


def test_a_file_that_is_being_sent_is_sent_to_its_end(path, storage):
    """Although it is deleted meanwhile: nothing of it is expired."""
    store(storage, "a", "b")
    storage.rotate()
    destination = ScriptedDestination([lambda batch: delete_all_sealed(path) and Delivered()])
    (outcome,) = forward(path, destination, options=ONCE._replace(hold=0))
    assert outcome.ledger == Ledger(acknowledged=2)
    (outcome,) = forward(path, destination)
    assert outcome.ledger == Ledger()
    assert not list((path / "forward").glob("*/expired-*"))


def test_a_file_that_was_changed_is_sent_again(path, storage):
    """From its start, so that nothing of it is missing."""
    store(storage, "a")
    store(storage, "b")
    destination = ScriptedDestination()
    forward(path, destination)
    file = path / "logs.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second.replace(b'"b"', b'"changed"') + second)
    forward(path, destination)
    assert destination.messages == ["a", "b", "a", "changed", "b"]


def test_a_damaged_line_costs_itself(path, storage):
    """It is counted by itself, since nobody knows how many records it had."""
    store(storage, "a")
    with (path / "logs.jsonl").open("ab") as file:
        file.write(b'{"resourceLogs":[{\n')
    store(storage, "b")
    destination = ScriptedDestination()
    (outcome,) = forward(path, destination)
    assert outcome.ledger == Ledger(acknowledged=2)
    (status,) = StatusReader(Layout(path)).read()
    assert status.signals[Signal.LOGS].damaged_lines == 1
    assert status.signals[Signal.LOGS].recorded == 2


def test_what_is_held_by_default_is_a_part_of_the_disk(path, storage):
    """Never more than a quarter of it."""
    forward(path, ScriptedDestination())
    (status,) = StatusReader(Layout(path)).read()
    assert 0 < status.hold <= min(DEFAULT_HOLD, shutil.disk_usage(path).total // 4)


def test_what_hangs_or_is_throttled_keeps_nothing_else_waiting(path, storage):
    """Neither other destinations nor other signals."""
    storage.store(TelemetryData([TelemetryEvent("source", "a")], [TelemetryMetric("metric", 1.0)]))
    released = threading.Event()
    hanging = ScriptedDestination(name="test://hanging")
    hanging.otherwise = lambda batch: released.wait(20) and RetryLater("timed out")
    partly = ScriptedDestination(name="test://partly")
    partly.otherwise = lambda batch: (
        RetryLater("429", 60.0, True) if batch.signal is Signal.METRICS else Delivered()
    )
    other = ScriptedDestination(name="test://other")
    forwarder = Forwarder(path, [hanging, partly, other], ForwarderOptions(interval=0.01))
    forwarder.start()
    other.wait_for(lambda: len(other.batches) == 2)
    partly.wait_for(lambda: partly.messages == ["a"])
    store(storage, "b")
    other.wait_for(lambda: other.messages == ["a", "b"])
    partly.wait_for(lambda: partly.messages == ["a", "b"])
    (status,) = StatusReader(Layout(path)).read([partly.name])
    assert status.is_running
    assert status.signals[Signal.METRICS].pending.records == 1
    assert status.signals[Signal.METRICS].status.state == "waiting"
    released.set()
    assert forwarder.stop()
    assert ledger_of(path, hanging) == Ledger()


def test_one_signal_can_stop_alone(path, storage):
    """As of a 404 on one path; the others go on, and the outcome says which."""
    storage.store(TelemetryData([TelemetryEvent("source", "a")], [TelemetryMetric("metric", 1.0)]))
    destination = ScriptedDestination()
    destination.otherwise = lambda batch: (
        Stopped("404", True) if batch.signal is Signal.METRICS else Delivered()
    )
    outcomes = forward(path, destination, options=ForwarderOptions(once=True))
    assert {outcome.signal: outcome.failure for outcome in outcomes} == {
        Signal.TRACES: "",
        Signal.LOGS: "",
        Signal.METRICS: "404",
    }
    assert destination.messages == ["a"]


def test_a_full_disk_is_waited_for(path, storage, monkeypatch):
    """Nothing is sent beyond what the cursor can note; then it goes on."""
    store(storage, "a")
    destination = ScriptedDestination()
    time = FakeTime()
    real, failures = Cursor.save, [OSError(28, "No space left on device")] * 3

    def save(cursor):
        if failures and destination.messages:
            raise failures.pop()
        real(cursor)

    monkeypatch.setattr(Cursor, "save", save)
    (outcome,) = forward(path, destination, make_pace=time.make_pace)
    assert outcome.failure == ""
    assert destination.messages == ["a"]
    assert len(time.pauses) == 3
    assert ledger_of(path, destination) == Ledger(acknowledged=1)
