"""Cursors: how far each signal has come with a destination, in files beside the recording.

A cursor file is replaced as a whole and forced to the device, with the ledger in it, so that both are
of one moment whatever kills the process. ``storage.forwarding`` describes the directory.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import (
    CREATE_FLAGS,
    CREATE_NEW_FLAGS,
    lock_file,
    sync_directory,
    sync_file,
    unlock_file,
)
from rimp_otel.models.records import Signal
from rimp_otel.storage.forwarding import (
    DESTINATION_FILE,
    FilePosition,
    Positions,
    cursor_name,
    directory_name,
    read_json,
)
from rimp_otel.transport.forwarding.ledger import Ledger

__all__ = [
    "Cursor",
    "CursorStatus",
    "DestinationDirectory",
    "DestinationLockedError",
    "is_forwarded",
    "read_cursor",
]

_VERSION = 1
_LOCK = "lock"
# Whoever only asks whether it is taken has it for a moment.
_LOCK_ATTEMPTS, _LOCK_PAUSE = 5, 0.02


class DestinationLockedError(StorageError):
    """Another process forwards this recording to the destination."""


class CursorStatus(NamedTuple):
    """What a forwarder does with one signal, for those who look."""

    #: "forwarding", "waiting" or "stopped".
    state: str = "forwarding"
    #: Why it waits or has stopped, or what was refused last; without secrets.
    error: str = ""
    #: When that was, in nanoseconds since the epoch; 0 for never.
    error_time: int = 0
    #: Until when it waits, in nanoseconds since the epoch; 0 if it does not.
    until: int = 0

    @classmethod
    def parse(cls, data: Any) -> CursorStatus:
        """Return the status in a cursor's JSON.

        Raises:
            ValueError: it is not of a status's shape.
        """
        try:
            return cls(
                str(data["state"]),
                str(data["error"]),
                int(data["error_time"]),
                int(data["until"]),
            )
        except (LookupError, TypeError) as error:
            raise ValueError(f"not a status: {error!r}") from None


class Cursor:
    """The cursor of one destination and one signal. For one thread at a time.

    Args:
        path: of its file, which need not exist.

    Raises:
        StorageError: it cannot be read, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: How far each file has been dealt with, by its id.
        self.files: dict[str, FilePosition] = {}
        #: The last record of a database that has been dealt with, and what it was.
        self.record, self.anchor = 0, ""
        self.ledger = Ledger()
        self.status = CursorStatus()
        #: The number of the dead-letter file, and how many of its bytes count.
        self.letters = (0, 0)
        #: Notes of expired files that are in the ledger, and were perhaps not removed yet.
        self.notes: list[str] = []
        #: Records of files that were found changed, and are being sent again from their start.
        self.repeated = 0
        #: Lines of files that cannot be read, and that no count has.
        self.damaged = 0
        #: Records of the portion that is being sent, for a destination that knows it by its name; 0 for none.
        self.intended = 0
        try:
            found = read_json(path)
            if found is not None:
                self._parse(found)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise StorageError(
                f"cannot read {path}: it is damaged ({error}); remove it, and all that is recorded is"
                " sent again"
            ) from None

    def _parse(self, found: dict[str, Any]) -> None:
        if found.get("version") != _VERSION:
            raise ValueError(f"its version is {found.get('version')!r}, known here is {_VERSION}")
        positions = Positions.parse(found)
        self.files, self.record, self.anchor = positions
        self.ledger = Ledger.parse(found.get("ledger"))
        self.status = CursorStatus.parse(found.get("status"))
        try:
            number, size = found["letters"]
            self.letters = (int(number), int(size))
            self.notes = [str(name) for name in found["notes"]]
            self.repeated = int(found["repeated"])
            self.damaged = int(found.get("damaged", 0))
            self.intended = int(found.get("intended", 0))
        except (LookupError, TypeError) as error:
            raise ValueError(f"{error!r}") from None

    @property
    def positions(self) -> Positions:
        """What whoever deletes records knows of it."""
        return Positions(self.files, self.record, self.anchor)

    def save(self) -> None:
        """Replace its file by what it is now, and force that to the device.

        Raises:
            OSError: that was not possible; the file is as it was.
        """
        found = {
            "version": _VERSION,
            **self.positions.as_json(),
            "ledger": self.ledger.as_json(),
            "status": self.status._asdict(),
            "letters": list(self.letters),
            "notes": self.notes,
            "repeated": self.repeated,
            "damaged": self.damaged,
            "intended": self.intended,
        }
        write_json(self.path, found)

    def remove_notes(self) -> None:
        """Remove the notes that are in the ledger, now that the ledger is saved."""
        for name in self.notes:
            (self.path.parent / name).unlink(missing_ok=True)
        self.notes = []


def read_cursor(directory: Path, signal: Signal) -> Cursor:
    """Return the cursor of a signal in the directory of a destination, as it is on disk.

    Raises:
        StorageError: it cannot be read, or is damaged.
    """
    return Cursor(directory / cursor_name(signal))


def write_json(path: Path, found: dict[str, Any]) -> None:
    """Replace a file by JSON, as a whole or not at all, and force it to the device.

    Raises:
        OSError: that was not possible.
    """
    made = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    made.unlink(missing_ok=True)
    file = os.open(made, CREATE_NEW_FLAGS, 0o600)
    try:
        with os.fdopen(file, "wb") as target:
            target.write(json.dumps(found, separators=(",", ":")).encode() + b"\n")
            target.flush()
            sync_file(file)
        os.rename(made, path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


class DestinationDirectory:
    """The directory of what a forwarder remembers of one destination.

    Args:
        forward: the ``forward`` directory of the recording's layout.
        name: of the destination.
    """

    def __init__(self, forward: Path, name: str) -> None:
        self.name = name
        self.path = forward / directory_name(name)
        self._lock = -1

    def make(self) -> None:
        """Make the directory, readable by its owner alone.

        Raises:
            OSError: that was not possible.
        """
        for directory in (self.path.parent.parent, self.path.parent, self.path):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def register(self, hold: int) -> None:
        """Note in the directory how many bytes are held for the destination.

        Raises:
            OSError: that was not possible.
        """
        found = {"name": self.name, "hold": hold}
        try:
            is_noted = read_json(self.path / DESTINATION_FILE) == found
        except ValueError:
            is_noted = False
        if not is_noted:
            write_json(self.path / DESTINATION_FILE, found)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the destination: one process forwards to it.

        Raises:
            DestinationLockedError: another process holds it.
            OSError: it cannot be locked.
        """
        self.take_lock()
        try:
            yield
        finally:
            self.release_lock()

    def take_lock(self) -> None:
        """Take the lock of the destination, as ``locked`` does."""
        file = os.open(self.path / _LOCK, CREATE_FLAGS, 0o600)
        for _ in range(_LOCK_ATTEMPTS):
            if lock_file(file):
                self._lock = file
                return
            time.sleep(_LOCK_PAUSE)
        os.close(file)
        raise DestinationLockedError(
            f"another process forwards this recording to {self.name}: wait until it ends, or end it"
        )

    def release_lock(self) -> None:
        """Release the lock, if it is held."""
        file, self._lock = self._lock, -1
        if file >= 0:
            unlock_file(file)
            os.close(file)

    def forget_lock(self) -> None:
        """Close an inherited lock in a forked child, which leaves it to the parent."""
        file, self._lock = self._lock, -1
        if file >= 0:
            os.close(file)


def is_forwarded(directory: Path) -> bool:
    """Return True if a living process forwards to the destination of this directory.

    It takes the lock for a moment; a forwarder that starts just then tries again.
    """
    try:
        file = os.open(directory / _LOCK, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False
    try:
        if not lock_file(file):
            return True
        unlock_file(file)
        return False
    finally:
        os.close(file)
