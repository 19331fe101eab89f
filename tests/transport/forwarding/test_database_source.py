"""Forwarding out of a database: in order of arrival, and exactly counted while it deletes."""

from __future__ import annotations

import sqlite3

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import Signal, TelemetryEvent, TelemetryMetric
from rimp_otel.storage.sqlite.storage import SQLiteStorage
from rimp_otel.transport.forwarding.destination import Delivered
from rimp_otel.transport.forwarding.forwarder import ForwarderOptions
from rimp_otel.transport.forwarding.ledger import Ledger
from tests.transport.doubles import ScriptedDestination
from tests.transport.forwarding.test_forwarder import ONCE, forward

EVERYTHING = ForwarderOptions(once=True)


@pytest.fixture
def path(tmp_path):
    """The path of a database."""
    return tmp_path / "telemetry.db"


def store(path, *messages, retain_size=None):
    """Store a log record for each message."""
    with SQLiteStorage(path, retain_size=retain_size) as storage:
        storage.store(TelemetryData([TelemetryEvent("source", message) for message in messages]))


def ledger_of(outcomes):
    """Return the ledger of the log records."""
    (found,) = [outcome.ledger for outcome in outcomes if outcome.signal is Signal.LOGS]
    return found


def test_everything_is_sent_once(path):
    """All signals; what comes later comes with the next run."""
    with SQLiteStorage(path) as storage:
        for number in range(2_500):
            event = TelemetryEvent("source", f"m{number}")
            storage.store(TelemetryData([event], [TelemetryMetric("metric", number)]))
    destination = ScriptedDestination()
    outcomes = forward(path, destination, options=EVERYTHING)
    acknowledged = {outcome.signal: outcome.ledger.acknowledged for outcome in outcomes}
    assert acknowledged == {Signal.TRACES: 0, Signal.LOGS: 2_500, Signal.METRICS: 2_500}
    assert destination.messages == [f"m{number}" for number in range(2_500)]
    assert (path.parent / "telemetry.db.forward").is_dir()
    store(path, "later")
    assert ledger_of(forward(path, destination)) == Ledger(acknowledged=1)


def test_what_retention_deletes_unsent_is_expired(path):
    """Counted to the record, while others are held."""
    destination = ScriptedDestination()
    store(path, *(f"a{number}" for number in range(300)))
    forward(path, destination, options=ONCE._replace(hold=10**9))
    store(path, *(f"b{number}" for number in range(600)), retain_size=1)
    assert ledger_of(forward(path, destination, options=ONCE._replace(hold=0))) == Ledger(
        acknowledged=600
    )
    store(path, *(f"c{number}" for number in range(600)))
    store(path, "d", retain_size=1)
    ledger = ledger_of(forward(path, destination, options=ONCE._replace(hold=0)))
    assert ledger.acknowledged + ledger.expired == 601
    store(path, *(f"e{number}" for number in range(600)), retain_size=1)
    ledger = ledger_of(forward(path, destination, options=ONCE._replace(hold=0)))
    assert ledger.expired > 0
    assert ledger.acknowledged + ledger.expired == 600


def test_what_is_deleted_while_it_is_sent_is_not_expired(path):
    """It was read before, and is acknowledged."""
    store(path, "a", "b")
    destination = ScriptedDestination()
    forward(path, destination, options=ONCE._replace(hold=0))

    def delete(batch):
        store(path, *(f"d{number}" for number in range(300)), retain_size=1)
        return Delivered()

    store(path, "c")
    destination.answers = [delete]
    first = ledger_of(forward(path, destination, options=ONCE._replace(hold=0)))
    assert first == Ledger(acknowledged=1)
    second = ledger_of(forward(path, destination, options=ONCE._replace(hold=0)))
    assert second.acknowledged + second.expired == 300


def test_another_database_is_sent_from_its_start(path):
    """Also if it has as many records."""
    store(path, "a", "b")
    destination = ScriptedDestination()
    forward(path, destination)
    for found in path.parent.glob("telemetry.db*"):
        if found.is_file():
            found.unlink()
    store(path, "c", "d")
    forward(path, destination)
    assert destination.messages == ["a", "b", "c", "d"]
    path.unlink()
    assert ledger_of(forward(path, destination)) == Ledger()


def test_a_damaged_record_costs_itself(path):
    """It is counted as refused."""
    store(path, "a", "b", "c")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE records SET text = '{' WHERE id = 2")
    db.close()
    destination = ScriptedDestination()
    assert ledger_of(forward(path, destination)) == Ledger(acknowledged=2, refused={"damaged": 1})
    assert destination.messages == ["a", "c"]
