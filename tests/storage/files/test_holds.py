"""Retention keeps what a destination has not acknowledged, and notes what it deletes all the same."""

from __future__ import annotations

import json
import os

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.config import TelemetryConfig
from rimp_otel.models.records import Signal, TelemetryEvent
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.policy import FilePolicy
from rimp_otel.storage.files.retention import delete_expired, list_sealed
from rimp_otel.storage.files.sealer import Sealer
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.storage.forwarding import (
    DestinationHold,
    ExpiredNote,
    FilePosition,
    Positions,
    cursor_name,
    list_destinations,
    list_notes,
    read_holds,
)


def record(path, files, **policy):
    """Store three records into each of some files, and have them sealed."""
    policy = FilePolicy.of(TelemetryConfig(**{"retain_size": None, **policy}))
    with FileStorage(path, retain_size=None) as storage:
        for number in range(files):
            events = [TelemetryEvent("source", f"{number} {i}") for i in range(3)]
            storage.store(TelemetryData(events))
            storage.rotate()
    Sealer(Layout(path), policy).run()


@pytest.fixture
def sealed(tmp_path):
    """The directory of five sealed files with three records each."""
    record(tmp_path, 5, compression="none")
    return tmp_path / "sealed"


def register(directory, hold, complete=()):
    """Register a destination that has acknowledged some files."""
    directory.mkdir(parents=True)
    (directory / "destination.json").write_text(json.dumps({"name": "x", "hold": hold}))
    positions = Positions({id: FilePosition(1, 3, "", True) for id in complete})
    cursor = json.dumps(positions.as_json())
    (directory / cursor_name(Signal.LOGS)).write_text(cursor)
    return directory


def ids(sealed):
    """Return the ids of the files, oldest first."""
    return [found.name.id for found in list_sealed(sealed)]


def test_what_is_not_acknowledged_is_held_up_to_a_bound(sealed):
    """What goes beyond it is deleted, with a note of its records for each destination."""
    everything = ids(sealed)
    size = max(found.size for found in list_sealed(sealed))
    here = register(sealed.parent / "forward" / "a", hold=2 * size)
    there = register(sealed.parent / "forward" / "b", hold=0, complete=everything)
    deleted = delete_expired(sealed, 0, None, 0.0, holds=read_holds(sealed.parent / "forward"))
    assert ids(sealed) == everything[-2:]
    assert deleted.error is None
    assert deleted.files == len(everything) - 2
    assert deleted.expired == 3 * deleted.files
    assert {note.id for note in list_notes(here, Signal.LOGS)} == set(everything[:-2])
    assert {note.records for note in list_notes(here, Signal.LOGS)} == {3}
    assert list(list_notes(there, Signal.LOGS)) == []


def test_what_all_have_acknowledged_is_deleted(sealed):
    """Without a note; also where a bound of age says so."""
    register(sealed.parent / "forward" / "a", hold=10**9, complete=ids(sealed))
    holds = read_holds(sealed.parent / "forward")
    assert delete_expired(sealed, None, 1.0, 1e12, holds=holds).expired == 0
    assert ids(sealed) == []


def test_a_damaged_cursor_has_acknowledged_nothing(sealed):
    """It is held, and retention goes on."""
    directory = register(sealed.parent / "forward" / "a", hold=10**9)
    (directory / cursor_name(Signal.LOGS)).write_text("{")
    (hold,) = read_holds(sealed.parent / "forward")
    assert not hold.has_all_of(Signal.LOGS, ids(sealed)[0])
    (directory / "destination.json").write_text("[]")
    assert DestinationHold(directory).size == 0
    assert list_destinations(sealed / "nothing") == []


def test_a_note_is_the_name_of_an_empty_file(sealed):
    """Noting again what a process that died had noted changes nothing."""
    note = ExpiredNote(Signal.LOGS, "0123456789abcdef", 12)
    assert ExpiredNote.parse(str(note)) == note
    assert ExpiredNote.parse("destination.json") is None
    directory = register(sealed.parent / "forward" / "a", hold=0)
    found = list_sealed(sealed)[0]
    noted = directory / str(ExpiredNote(Signal.LOGS, found.name.id, 3))
    noted.touch()
    delete_expired(sealed, 0, None, 0.0, holds=read_holds(sealed.parent / "forward"))
    assert ids(sealed) == []
    assert os.path.getsize(noted) == 0


def test_the_sealer_reads_what_is_held(tmp_path):
    """A storage whose files are rotated keeps what was not forwarded, beyond its own bound."""
    register(tmp_path / "forward" / "a", hold=10**9)
    record(tmp_path, 3, retain_size=0)
    assert len(ids(tmp_path / "sealed")) == 3
    (tmp_path / "forward" / "a" / "destination.json").unlink()
    Sealer(Layout(tmp_path), FilePolicy.of(TelemetryConfig(retain_size=0))).run()
    assert ids(tmp_path / "sealed") == []
