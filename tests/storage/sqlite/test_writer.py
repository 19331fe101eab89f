"""Writing: each batch once, with a journal's slice in the same transaction; and retention."""

from __future__ import annotations

import pytest

from rimp_otel import (
    SQLiteStorage,
    StorageError,
    TelemetryConfig,
    TelemetryData,
    TelemetryEvent,
)
from rimp_otel.batch import set_slice_id
from rimp_otel.config import DefaultSize
from rimp_otel.journal.slots import Slot
from rimp_otel.models.records import ResourceInfo
from rimp_otel.storage.sqlite.writer import Retention
from tests.contract.samples import everything
from tests.storage.sqlite.databases import (
    SECOND,
    batch,
    is_whole,
    journaled,
    messages,
    query,
    stored,
)


def sliced(slice_id, *texts):
    """Return a batch out of a journal."""
    data = batch(*texts)
    set_slice_id(data, slice_id)
    return data


@pytest.fixture
def path(tmp_path):
    """The path of a database."""
    return tmp_path / "telemetry.db"


@pytest.fixture
def storage(path):
    """A storage at that path."""
    storage = SQLiteStorage(path)
    yield storage
    storage.close()


def test_a_slice_is_stored_once(storage, path):
    """A slice is stored once, also by another process, which finds its place in the file."""
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
    """Batches that no journal of ours has named are told apart by their ids."""
    storage.store(sliced("anything", "one"))
    storage.store(sliced("anything", "one"))
    storage.store(sliced("another", "two"))
    assert stored(path) == ["one", "two"]


def test_a_place_is_forgotten_with_its_records(storage, path, monkeypatch):
    """If the transaction fails, the slice is offered again, and stored."""
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
    """Resources, scopes and metrics are kept once, whoever refers to them."""
    storage.store(everything())
    kinds = "SELECT kind, count(*) FROM origins GROUP BY kind ORDER BY kind"
    first = query(path, kinds)
    storage.store(everything())
    SQLiteStorage(path).store(everything())
    assert query(path, kinds) == first == [("metric", 6), ("resource", 3), ("scope", 3)]


def test_origins_that_another_process_has_deleted(storage, path):
    """Parts that another process has deleted are written again."""
    storage.store(batch("one"))
    query(path, "DELETE FROM records")
    query(path, "DELETE FROM origins")
    storage.store(batch("two"))
    assert stored(path) == ["two"]


class Dies(SQLiteStorage):
    """A storage whose process dies right after it has stored."""

    def store(self, data):
        super().store(data)
        raise KeyboardInterrupt


def test_a_death_between_storing_and_noting_it(path):
    """The next process offers the slice again; it is there once."""
    first = journaled(path, Dies(path))
    first.collect("one", "two")
    first.drain()
    first.die()
    first.storage.close()
    second = journaled(path)
    second.journal.open()
    second.collect("three")
    second.drain()
    assert stored(path) == ["one", "two", "three"]
    assert second.storage.stats().repeats == 1
    second.close()


def test_a_loss_of_power(path, monkeypatch):
    """If the headers are older than the file, its records are found in it, and what it has lost is
    stored again."""
    first = journaled(path)
    first.collect("one")
    first.drain()
    first.sync()
    kept = path.read_bytes() if not path.with_name("telemetry.db-wal").exists() else None
    first.collect("two")
    first.drain()
    first.collect("three", "four")
    first.die()
    first.storage.close()
    assert kept is None
    monkeypatch.setattr(Slot, "take", rebooted(Slot.take))
    second = journaled(path)
    second.journal.open()
    second.drain()
    assert stored(path) == ["one", "two", "three", "four"]
    second.close()


def test_a_loss_of_power_that_the_file_has_not_survived_whole(path, monkeypatch):
    """Transactions since the last sync are gone, with their places."""
    first = journaled(path)
    first.collect("one")
    first.drain()
    first.sync()
    first.collect("two")
    first.drain()
    first.die()
    first.storage.close()
    query(path, "DELETE FROM records WHERE message = 'two'")
    query(path, "UPDATE slices SET position = 0")
    monkeypatch.setattr(Slot, "take", rebooted(Slot.take))
    second = journaled(path)
    second.journal.open()
    second.drain()
    assert messages(second.storage.retrieve()) == ["one", "two"]
    second.close()


def rebooted(take):
    """Return a function that makes slots look like those of a rebooted machine."""

    def taken(directory_of, first=0):
        slot = take(directory_of, first)
        slot.rebooted = True
        return slot

    return taken


# Retention, by the file's size and by age.


def test_by_age(tmp_path):
    """Older records go with the next batch, out of the index too."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    storage._writer._retention = Retention(age=60.0, clock=lambda: 1_000.0)
    storage.store(batch("old", time=939 * SECOND))
    storage.store(batch("new", time=940 * SECOND))
    assert messages(storage.retrieve()) == ["new"]
    assert messages(storage.search("old")) == []
    assert storage.stats().deleted == 1
    assert is_whole(path)
    storage.close()


def test_by_size(tmp_path):
    """The file stays about as large as it may be, with the newest records."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path, retain_size=400_000)
    for number in range(60):
        texts = [f"{number} {i} {'x' * 500}" for i in range(40)]
        storage.store(batch(*texts, time=(number + 1) * SECOND))
    found = messages(storage.retrieve())
    assert found[-1].startswith("59 39 ")
    assert 0 < len(found) < 1_000
    assert storage.stats().deleted == 2_400 - len(found)
    storage.close()
    assert path.stat().st_size < 1_500_000
    assert is_whole(path)


def test_the_first_deletion_by_default_is_said_once(tmp_path, capsys):
    """A bound that nobody has set is named when it first deletes; one that somebody has set is not."""
    for bound, said in ((DefaultSize(400_000), 1), (400_000, 0)):
        storage = SQLiteStorage(tmp_path / f"{said}.db", retain_size=bound)
        for number in range(30):
            texts = [f"{number} {i} {'x' * 500}" for i in range(40)]
            storage.store(batch(*texts, time=(number + 1) * SECOND))
        assert storage.stats().deleted > 0
        storage.close()
        assert capsys.readouterr().err.count("its oldest records are deleted from now on") == said


def test_space_is_given_back(tmp_path):
    """Space is given back if less is kept than before."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    for number in range(20):
        storage.store(
            batch(*(f"{i} {'x' * 1_000}" for i in range(500)), time=(number + 1) * SECOND)
        )
    storage.close()
    before = path.stat().st_size
    storage = SQLiteStorage(path, retain_size=400_000)
    for number in range(50):
        storage.store(batch("later", time=(100 + number) * SECOND))
    assert "later" in messages(storage.retrieve())
    storage.close()
    assert path.stat().st_size < before / 3
    assert is_whole(path)


def test_resources_go_with_their_last_record(tmp_path):
    """Resources of many short-lived processes are not kept for ever."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    storage._writer._retention = Retention(age=60.0, clock=lambda: 1_000.0)
    for number in range(3):
        event = TelemetryEvent(
            "app",
            "x",
            time_unix_nano=(900 + 40 * number) * SECOND,
            resource=ResourceInfo({"service.name": f"s{number}"}),
        )
        storage.store(TelemetryData(events=[event]))
    assert query(path, "SELECT name FROM origins WHERE kind = 'resource'") == [("s1",), ("s2",)]
    assert [e.resource.attributes for e in storage.retrieve().events] == [
        {"service.name": "s1"},
        {"service.name": "s2"},
    ]
    storage.close()


def test_as_configured(tmp_path):
    """The configuration's fields are those of files."""
    config = TelemetryConfig(
        storage_backend="sqlite", storage_path=tmp_path / "x.db", retain_size=7, retain_age=8.0
    )
    assert SQLiteStorage.from_config(config)._writer._retention[:2] == (7, 8.0)
