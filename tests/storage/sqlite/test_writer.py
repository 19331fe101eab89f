"""Writing: each batch once, with a journal's slice in the same transaction."""

from __future__ import annotations

import pytest

from rimp_otel import SQLiteStorage, StorageError, TelemetryCollector, TelemetryConfig
from rimp_otel.batch import set_slice_id
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.slots import Slot
from rimp_otel.process import Reporter
from rimp_otel.streaming.journal_drain import JournalDrain
from tests.contract.samples import everything
from tests.journal.records import die
from tests.storage.sqlite.databases import batch, messages, query, stored


def sliced(slice_id, *texts):
    """A batch out of a journal."""
    data = batch(*texts)
    set_slice_id(data, slice_id)
    return data


@pytest.fixture
def path(tmp_path):
    """Of a database."""
    return tmp_path / "telemetry.db"


@pytest.fixture
def storage(path):
    """At that path."""
    storage = SQLiteStorage(path)
    yield storage
    storage.close()


def test_a_slice_is_stored_once(storage, path):
    """Also by another process, which finds its place in the file."""
    storage.store(sliced("a1-logs-4096-5000", "one"))
    storage.store(sliced("a1-logs-4096-5000", "one"))
    SQLiteStorage(path).store(sliced("a1-logs-4096-5000", "one"))
    assert stored(path) == ["one"]
    assert storage.stats()[:3] == (1, 1, 1)


def test_places_by_segment_and_signal(storage, path):
    """What comes after a place is new; what lies before it has been stored."""
    storage.store(sliced("a1-logs-4096-5000", "one"))
    storage.store(sliced("a1-logs-5000-6000", "two"))
    storage.store(sliced("a1-traces-4096-5000", "three"))
    storage.store(sliced("b2-logs-4096-5000", "four"))
    storage.store(sliced("a1-logs-4096-5000", "one"))
    assert sorted(stored(path)) == ["four", "one", "three", "two"]
    assert query(path, "SELECT * FROM slices ORDER BY place") == [
        ("a1-logs", 6000),
        ("a1-traces", 5000),
        ("b2-logs", 5000),
    ]


def test_other_ids(storage, path):
    """Of batches that no journal of ours has named."""
    storage.store(sliced("anything", "one"))
    storage.store(sliced("anything", "one"))
    storage.store(sliced("another", "two"))
    assert stored(path) == ["one", "two"]


def test_a_place_is_forgotten_with_its_records(storage, path, monkeypatch):
    """Where the transaction fails, the slice is offered again, and stored."""
    storage.store(batch("zero"))
    insert = storage._writer._insert

    def fail(db, rows):
        insert(db, rows)
        db.execute("SELECT no_such_function()")

    monkeypatch.setattr(storage._writer, "_insert", fail)
    with pytest.raises(StorageError, match="no_such_function"):
        storage.store(sliced("a1-logs-4096-5000", "one"))
    assert stored(path) == ["zero"]
    monkeypatch.undo()
    storage.store(sliced("a1-logs-4096-5000", "one"))
    assert stored(path) == ["zero", "one"]


def test_resources_scopes_and_metrics_are_kept_once(storage, path):
    """Whoever refers to them."""
    storage.store(everything())
    kinds = "SELECT kind, count(*) FROM origins GROUP BY kind ORDER BY kind"
    first = query(path, kinds)
    storage.store(everything())
    SQLiteStorage(path).store(everything())
    assert query(path, kinds) == first == [("metric", 6), ("resource", 3), ("scope", 3)]


def test_origins_that_another_process_has_deleted(storage, path):
    """Are written again."""
    storage.store(batch("one"))
    query(path, "DELETE FROM records")
    query(path, "DELETE FROM origins")
    storage.store(batch("two"))
    assert stored(path) == ["two"]


class Journaled:
    """A process that records through a journal, and does each step when it is told to."""

    def __init__(self, path, storage=None):
        self.storage = storage or SQLiteStorage(path)
        self.collector = TelemetryCollector(TelemetryConfig())
        target = self.storage.journal_target()
        self.journal = Journal(target, 16 * 1024 * 1024, Reporter(), False)
        self.buffer = CollectorBuffer(self.collector)
        self.buffer.attach(self, self.journal)
        self.drain = JournalDrain(
            self.journal,
            target,
            self.buffer.counts,
            lambda data: None,
            Reporter(),
            self.buffer,
            self.storage,
            sync_after=TelemetryConfig().sync_interval,
        )

    def wake(self):
        """Is never due by itself."""

    def collect(self, *texts):
        """Into the journal."""
        for text in texts:
            self.collector.collect_event("a", text)


class Dies(SQLiteStorage):
    """Its process dies right after it has stored."""

    def store(self, data):
        super().store(data)
        raise KeyboardInterrupt


def test_a_death_between_storing_and_noting_it(path):
    """The next process offers the slice again; it is there once."""
    first = Journaled(path, Dies(path))
    first.collect("one", "two")
    first.drain.run()
    die(first.journal)
    first.storage.close()
    second = Journaled(path)
    second.journal.open()
    second.collect("three")
    second.drain.run()
    assert stored(path) == ["one", "two", "three"]
    assert second.storage.stats().repeats == 1
    second.drain.close()


def test_a_loss_of_power(path, monkeypatch):
    """The headers are rolled back to the last sync; what the file has all the same is found in it,
    and what it has lost is stored again."""
    first = Journaled(path)
    first.collect("one")
    first.drain.run()
    first.drain.sync()
    kept = path.read_bytes() if not path.with_name("telemetry.db-wal").exists() else None
    first.collect("two")
    first.drain.run()
    first.collect("three", "four")
    die(first.journal)
    first.storage.close()
    assert kept is None
    monkeypatch.setattr(Slot, "take", rebooted(Slot.take))
    second = Journaled(path)
    second.journal.open()
    second.drain.run()
    assert stored(path) == ["one", "two", "three", "four"]
    second.drain.close()


def test_a_loss_of_power_that_the_file_has_not_survived_whole(path, monkeypatch):
    """Transactions since the last sync are gone, with their places."""
    first = Journaled(path)
    first.collect("one")
    first.drain.run()
    first.drain.sync()
    first.collect("two")
    first.drain.run()
    die(first.journal)
    first.storage.close()
    query(path, "DELETE FROM records WHERE message = 'two'")
    query(path, "UPDATE slices SET position = 0")
    monkeypatch.setattr(Slot, "take", rebooted(Slot.take))
    second = Journaled(path)
    second.journal.open()
    second.drain.run()
    assert messages(second.storage.retrieve()) == ["one", "two"]
    second.drain.close()


def rebooted(take):
    """Has slots look like those of a machine that was started anew."""

    def taken(directory_of, first=0):
        slot = take(directory_of, first)
        slot.rebooted = True
        return slot

    return taken
