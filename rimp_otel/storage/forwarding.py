"""What forwarders leave beside a recording, as far as whoever deletes records must know of it.

For each destination there is a directory in ``forward/``::

    destination.json              its name, and how much it holds of what retention would delete
    lock                          held by the process that forwards to it
    traces.json  logs.json  ...   the cursor of each signal: how far it has come, and its ledger
    refused-traces-<n>.jsonl      records that the destination refused, as OTLP JSON
    expired-traces-<id>-<records> a file that was deleted before all of it was forwarded

A note of an expired file is a name without content, so that it can be made on a disk that is full.
Nobody but the forwarder of a destination knows how much of that file it had forwarded: it takes the
notes in, and removes them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.fsutil import CREATE_NEW_FLAGS, READ_FLAGS, sync_directory
from rimp_otel.models.records import Signal

__all__ = [
    "DESTINATION_FILE",
    "DestinationHold",
    "ExpiredNote",
    "FilePosition",
    "Positions",
    "cursor_name",
    "directory_name",
    "list_destinations",
    "list_notes",
    "read_holds",
    "read_json",
    "write_note",
]

DESTINATION_FILE = "destination.json"
"""The name of the file that makes a directory one of a destination."""

_NOTE = re.compile(
    rf"expired-({'|'.join(signal.value for signal in Signal)})-([0-9a-f]{{16}})-([0-9]{{1,19}})",
    re.ASCII,
)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.]+", re.ASCII)
_MAX_NAME = 80


class FilePosition(NamedTuple):
    """How far a file of the recording has been dealt with."""

    #: Bytes of its text.
    offset: int = 0
    #: Records in them.
    records: int = 0
    #: The length and the checksum of their end, which tells whether the file is still the same.
    tail: str = ""
    #: True if there is nothing more to come.
    is_complete: bool = False


class Positions(NamedTuple):
    """How far a destination has come with one signal."""

    #: By the ids of files.
    files: dict[str, FilePosition]
    #: The last record of a database; 0 for none.
    record: int = 0
    #: The length and the checksum of that record, which tells whether the database is the same.
    anchor: str = ""

    @classmethod
    def parse(cls, data: Any) -> Positions:
        """Return positions out of a cursor's JSON; what is damaged there counts as not dealt with.

        Raises:
            ValueError: it is not of a cursor's shape.
        """
        try:
            files = {
                str(id): FilePosition(int(found[0]), int(found[1]), str(found[2]), bool(found[3]))
                for id, found in data["files"].items()
            }
            return cls(files, int(data["record"]), str(data["anchor"]))
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a cursor: {error!r}") from None

    def as_json(self) -> dict[str, Any]:
        """Return what ``parse`` takes."""
        return {
            "files": {id: list(found) for id, found in self.files.items()},
            "record": self.record,
            "anchor": self.anchor,
        }


class ExpiredNote(NamedTuple):
    """A file that was deleted before all of it was forwarded."""

    signal: Signal
    #: Of the file.
    id: str
    #: In the whole file.
    records: int

    @classmethod
    def parse(cls, name: str) -> ExpiredNote | None:
        """Parse the name of a note; return None for another name."""
        match = _NOTE.fullmatch(name)
        return None if match is None else cls(Signal(match[1]), match[2], int(match[3]))

    def __str__(self) -> str:
        return f"expired-{self.signal.value}-{self.id}-{self.records}"


def directory_name(name: str) -> str:
    """Return the name of the directory of a destination, by the destination's name."""
    readable = _NOT_IN_NAMES.sub("-", name).strip("-.")[:_MAX_NAME]
    return f"{readable}-{blake2b(name.encode(), digest_size=4).hexdigest()}"


def cursor_name(signal: Signal) -> str:
    """Return the name of the file with the cursor of a signal."""
    return f"{signal.value}.json"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a JSON object.
    """
    try:
        file = os.open(path, READ_FLAGS)
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb") as opened:
        found = json.loads(opened.read())
    if not isinstance(found, dict):
        raise ValueError(f"not a JSON object: {path}")
    return found


class DestinationHold:
    """What one destination holds of a recording: what it has not acknowledged, up to a bound.

    A cursor that is damaged has acknowledged nothing.

    Args:
        directory: of the destination.

    Raises:
        OSError: what it remembers cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: Bytes that are kept for it beyond the bounds of retention.
        self.size = 0
        try:
            self.size = int((read_json(directory / DESTINATION_FILE) or {})["hold"])
        except (KeyError, ValueError, TypeError):
            pass
        self._positions: dict[Signal, Positions] = {}

    def has_all_of(self, signal: Signal, id: str) -> bool:
        """Return True if a file has been dealt with as a whole.

        Raises:
            OSError: the cursor cannot be read.
        """
        found = self.positions(signal).files.get(id)
        return found is not None and found.is_complete

    def positions(self, signal: Signal) -> Positions:
        """Return how far it has come with a signal.

        Raises:
            OSError: the cursor cannot be read.
        """
        found = self._positions.get(signal)
        if found is None:
            try:
                data = read_json(self.directory / cursor_name(signal))
                found = Positions({}) if data is None else Positions.parse(data)
            except ValueError:
                found = Positions({})
            self._positions[signal] = found
        return found


def list_destinations(forward: Path) -> list[Path]:
    """Return the directories of all destinations of a recording.

    Args:
        forward: the ``forward`` directory of its layout, which need not exist.

    Raises:
        OSError: it cannot be read.
    """
    try:
        names = sorted(os.listdir(forward))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [forward / name for name in names]
    return [path for path in found if os.path.lexists(path / DESTINATION_FILE)]


def read_holds(forward: Path) -> list[DestinationHold]:
    """Return what each destination of a recording holds.

    Raises:
        OSError: what one remembers cannot be read.
    """
    return [DestinationHold(path) for path in list_destinations(forward)]


def list_notes(directory: Path, signal: Signal) -> Iterator[ExpiredNote]:
    """Iterate over the notes of expired files in the directory of a destination.

    Raises:
        OSError: it cannot be read.
    """
    for note in map(ExpiredNote.parse, os.listdir(directory)):
        if note is not None and note.signal is signal:
            yield note


def write_note(directories: Iterable[Path], note: ExpiredNote) -> None:
    """Note for some destinations that a file is about to be deleted.

    Raises:
        OSError: that could not be noted for one of them.
    """
    for directory in directories:
        try:
            os.close(os.open(directory / str(note), CREATE_NEW_FLAGS, 0o600))
        except FileExistsError:
            continue  # by a process that died before it could delete the file
        sync_directory(directory)
