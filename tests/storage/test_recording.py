"""Recording: one way to read files and databases, also while a process records into them."""

from __future__ import annotations

import re

import pytest

from rimp_otel import FileStorage, NoRecordingError, SQLiteStorage, StorageError
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.storage import Selection, open_recording
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.recording import is_database, layout_of, open_storage
from rimp_otel.storage.slots import inspect_slots
from rimp_otel.storage.sqlite.recording import SQLiteRecording
from tests.storage.journaled import Journaled
from tests.storage.sqlite.databases import journaled


@pytest.fixture(params=["files", "database"])
def process(request, tmp_path):
    """A process that records into files or a database; 30 records are stored, 3 wait."""
    is_files = request.param == "files"
    process = Journaled(tmp_path / "t") if is_files else journaled(tmp_path / "t.db")
    for number in range(30):
        process.collect(f"{number}")
        if number % 10 == 9:
            process.drain()
    process.collect("30", "31", "32")
    yield process
    process.close()


@pytest.fixture
def recording(process, tmp_path):
    """The recording of that process, opened."""
    (path,) = [tmp_path / name for name in ("t", "t.db") if (tmp_path / name).exists()]
    return open_recording(path)


ALL = [str(number) for number in range(33)]


def messages(batches):
    """Return the messages of all events, in order."""
    return [event.message for data in batches for event in data.events]


def test_all_ways_return_each_record_once(process, recording):
    """Stored and waiting records are returned, in order where that is promised."""
    assert messages([recording.retrieve()]) == ALL
    assert messages(recording.iter_retrieve(batch_size=7)) == ALL
    assert [len(data) for data in recording.iter_retrieve(batch_size=20)] == [20, 13]
    assert sorted(messages(recording.batches()), key=int) == ALL
    assert messages(recording.poll()) == ALL
    assert recording.damaged == []


def test_the_newest(process, recording):
    """A limit counts what waits, too."""
    for limit in (0, 1, 3, 4, 20, 33, 99):
        selection = Selection.of(limit=limit)
        assert messages([recording.retrieve(selection)]) == ALL[len(ALL) - min(limit, 33) :]


class LastDigit(Filter):
    """A filter with a condition that no index knows."""

    def matches(self, record):
        """Return True if the message ends in 2."""
        return record.message.endswith("2")


def test_a_limit_counts_what_a_filter_of_ones_own_leaves(process, recording):
    """A limit counts the records that such a filter accepts, not those that the storage was asked
    for."""
    selection = Selection(limit=3, filter=LastDigit(frozenset({Signal.LOGS})))
    assert messages([recording.retrieve(selection)]) == ["12", "22", "32"]


def test_questions_do_not_disturb_polls(process, recording):
    """Retrieving between polls changes nothing that they return, and the other way round."""
    recording.skip()
    assert messages([recording.retrieve()]) == ALL
    process.collect("33")
    assert len(messages(recording.batches())) == 34
    assert messages(recording.poll()) == ["33"]
    process.drain()
    assert messages([recording.retrieve()]) == [*ALL, "33"]
    assert messages(recording.poll()) == []


def test_what_is_stored_while_it_is_read(process, recording):
    """A record that is stored during an iteration is neither missed nor returned twice."""
    batches = recording.iter_retrieve(batch_size=5)
    found = messages([next(batches)])
    process.drain()
    assert found + messages(batches) == ALL


def test_storages_read_what_waits(process, recording):
    """A storage returns what its recording does."""
    assert messages([process.storage.retrieve()]) == ALL
    assert messages(process.storage.iter_retrieve(batch_size=10)) == ALL


def test_files_are_counted(process, recording):
    """``on_file`` is called, whatever is found."""
    done = []
    list(recording.batches(Selection.of(signals="traces"), lambda: done.append(1)))
    assert done
    assert recording.files()


def test_slots(process, recording):
    """The journal's slot says what waits in it."""
    (slot,) = inspect_slots(layout_of(recording.path))
    assert (slot.number, slot.is_owned, slot.is_left) == (0, True, False)
    assert slot.records == {Signal.LOGS: 3}


def test_nothing_is_recorded(tmp_path):
    """No recording is an error, unless something may come."""
    path = tmp_path / "nothing"
    with pytest.raises(NoRecordingError, match=re.escape(f"no recording at {path}: ")):
        open_recording(path)
    recording = open_recording(path, must_exist=False)
    assert messages(recording.poll()) == []
    assert not recording.retrieve()


@pytest.mark.parametrize("name", ["logs.jsonl", "otlp.json", "logs.zst", "telemetry.jsonl"])
def test_a_file_that_is_no_recording(tmp_path, name):
    """The message says which path to give instead."""
    (tmp_path / name).touch()
    with pytest.raises(NoRecordingError) as caught:
        open_recording(tmp_path / name, must_exist=False)
    assert isinstance(caught.value, StorageError)
    assert ("give its directory" in str(caught.value)) is (name == "logs.jsonl")


def test_databases_are_told_from_files(tmp_path):
    """What is there decides, else the name."""
    (tmp_path / "directory.db").mkdir()
    (tmp_path / "file").touch()
    databases = {"file", "new.db", "new.sqlite3"}
    for name in (*databases, "directory.db", "new", "new.jsonl"):
        path = tmp_path / name
        assert is_database(path) is (name in databases)
        expected = SQLiteStorage if name in databases else FileStorage
        assert type(open_storage(path)) is expected
        kind = SQLiteRecording if name in databases else FileRecording
        assert type(open_recording(path, must_exist=False)) is kind
