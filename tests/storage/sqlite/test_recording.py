"""SQLiteRecording: what it returns at each poll, from the database and the journals beside it."""

from __future__ import annotations

import os

import pytest

from rimp_otel import SQLiteStorage, StorageError
from rimp_otel.storage.sqlite.recording import SQLiteRecording
from tests.storage.sqlite.databases import SECOND, batch, journaled, messages, query
from tests.storage.sqlite.test_writer import Dies


def polled(reader):
    """Return the messages that are new."""
    return [message for data in reader.poll(final=True) for message in messages(data)]


@pytest.fixture
def path(tmp_path):
    """The path of a database."""
    return tmp_path / "telemetry.db"


def test_each_record_once(path):
    """A poll returns what is new, in the order of its arrival."""
    storage, reader = SQLiteStorage(path), SQLiteRecording(path)
    assert polled(reader) == []
    storage.store(batch("two", time=2 * SECOND))
    storage.store(batch("one", time=SECOND))
    assert polled(reader) == ["two", "one"]
    assert polled(reader) == []
    storage.store(batch("three"))
    assert polled(reader) == ["three"]
    storage.close()


def test_skips_what_there_is(path):
    """Skipping leaves out what is in the file and in journals."""
    process = journaled(path)
    process.collect("one")
    process.drain()
    process.collect("two")
    reader = SQLiteRecording(path)
    reader.skip()
    process.collect("three")
    assert polled(reader) == ["three"]
    process.drain()
    assert polled(reader) == []
    process.close()


def test_journals_too(path):
    """What a living process has not stored, and what a dead one has left, is returned once."""
    process, reader = journaled(path), SQLiteRecording(path)
    process.collect("one", "two")
    assert polled(reader) == ["one", "two"]
    process.drain()
    process.collect("three")
    assert polled(reader) == ["three"]
    assert polled(SQLiteRecording(path)) == ["one", "two", "three"]
    process.die()
    process.storage.close()
    assert polled(SQLiteRecording(path)) == ["one", "two", "three"]


def test_a_slice_that_is_stored_and_not_noted(path):
    """A slice that is in the file and in the journal is returned once."""
    process = journaled(path, Dies(path))
    process.collect("one", "two")
    process.drain()
    assert polled(SQLiteRecording(path)) == ["one", "two"]
    process.die()
    process.storage.close()
    assert polled(SQLiteRecording(path)) == ["one", "two"]


def test_another_file_of_that_name(path):
    """A file that replaced another one is read from its start."""
    SQLiteStorage(path).store(batch("one", "two"))
    reader = SQLiteRecording(path)
    assert polled(reader) == ["one", "two"]
    other = path.with_name("other.db")
    SQLiteStorage(other).store(batch("three"))
    os.replace(other, path)
    assert polled(reader) == ["three"]


def test_files(path):
    """The database, what SQLite keeps beside it, and journals are listed."""
    process = journaled(path)
    process.collect("one")
    process.drain()
    names = [(file.kind, file.path.name, file.signal) for file in SQLiteRecording(path).files()]
    assert names == [
        ("active", "telemetry.db", None),
        ("active", "telemetry.db-wal", None),
        ("active", "telemetry.db-shm", None),
        ("journal", "000001.seg", None),
        ("journal", "000002.seg", None),
    ]
    process.close()
    assert [file.path for file in SQLiteRecording(path).files()] == [path]


def test_damage_is_named(path):
    """A damaged record is skipped and named."""
    SQLiteStorage(path).store(batch("one", "two"))
    query(path, "UPDATE records SET text = '{' WHERE id = 1")
    reader = SQLiteRecording(path)
    assert polled(reader) == ["two"]
    assert [(damage.path, damage.line) for damage in reader.damaged] == [(path, 1)]


def test_another_programs_database(path):
    """The database of another program is refused."""
    query(path, "CREATE TABLE users (name)")
    with pytest.raises(StorageError, match="a database of another program"):
        polled(SQLiteRecording(path))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks into /proc")
def test_leaves_nothing_open(path):
    """Reading leaves no file open, and none beside the database."""
    SQLiteStorage(path).store(batch("one"))
    before = len(os.listdir("/proc/self/fd"))
    reader = SQLiteRecording(path)
    next(iter(reader.poll()))
    assert polled(reader) == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(path.parent) == ["telemetry.db"]
