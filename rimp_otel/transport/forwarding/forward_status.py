"""The state of forwarding, as it is on disk: ledgers with what is pending, lags, and errors.

A running forwarder and its cursors are not touched.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.journal.reader import read_journal
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import times_of_line
from rimp_otel.process import importing
from rimp_otel.storage.base import RecordingLayout, reading_errors
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import DataFile, open_data_file, read_lines
from rimp_otel.storage.files.snapshot import Snapshot
from rimp_otel.storage.forwarding import (
    DESTINATION_FILE,
    FilePosition,
    list_destinations,
    list_notes,
    read_json,
)
from rimp_otel.storage.reading import JournalLine, LineDecoder
from rimp_otel.transport.forwarding.cursor import Cursor, CursorStatus, is_forwarded, read_cursor
from rimp_otel.transport.forwarding.ledger import Ledger
from rimp_otel.transport.forwarding.sources import count_line_records

__all__ = ["DestinationStatus", "Pending", "SignalStatus", "StatusReader"]


class Pending(NamedTuple):
    """What a destination has not dealt with of one signal."""

    records: int = 0
    #: Of these, in the journals of processes that have not stored them yet.
    in_journals: int = 0
    #: Deleted, and not in the ledger yet.
    expired: int = 0
    #: The time of the first one, in nanoseconds since the epoch; None for none.
    first: int | None = None


class SignalStatus(NamedTuple):
    """How far a destination has come with one signal."""

    ledger: Ledger
    pending: Pending
    status: CursorStatus
    #: Records of files that had changed, and were sent again.
    repeated: int
    #: Lines of files that cannot be read, and that no count has.
    damaged_lines: int
    #: Of the dead-letter file, if there are any.
    dead_letters: Path | None

    @property
    def recorded(self) -> int:
        """All records of the signal since the destination was first forwarded to."""
        return self.ledger.passed + self.pending.records

    def lag(self, now: int) -> float:
        """Return the age of the oldest pending record, in seconds; 0 if nothing is pending."""
        first = self.pending.first
        return 0.0 if first is None else max(0.0, (now - first) / 1e9)


class DestinationStatus(NamedTuple):
    """The state of one destination."""

    name: str
    directory: Path
    #: Bytes that are held for it.
    hold: int
    #: True if a living process forwards to it.
    is_running: bool
    signals: dict[Signal, SignalStatus]


class StatusReader:
    """Reads the state of a recording's destinations.

    What was counted once of a file is remembered, so that asking again costs what is new. For one
    thread at a time.

    Args:
        layout: of the recording.
        lock_timeout: seconds to wait while a database is locked.
    """

    def __init__(self, layout: RecordingLayout, lock_timeout: float = 5.0) -> None:
        self._layout = layout
        self._timeout = lock_timeout
        # Of files, by the offsets where pending records begin and end.
        self._counted: dict[tuple[Signal, str, int], _Counted] = {}

    def read(self, names: Iterable[str] | None = None) -> list[DestinationStatus]:
        """Return the states of all destinations, or of those with these names.

        Raises:
            StorageError: something cannot be read.
        """
        wanted = None if names is None else set(names)
        forward = self._layout.forward
        with reading_errors(forward):
            directories = list_destinations(forward)
        found = [(_read_destination(directory), directory) for directory in directories]
        found = [entry for entry in found if wanted is None or entry[0][0] in wanted]
        if not found:
            return []
        view: _Pending = (
            _PendingInFiles(self._layout, self._counted)
            if isinstance(self._layout, Layout)
            else _PendingInDatabase(self._layout, self._timeout)
        )
        states = [
            DestinationStatus(
                name,
                directory,
                hold,
                is_forwarded(directory),
                {signal: _signal_status(directory, signal, view) for signal in Signal},
            )
            for (name, hold), directory in found
        ]
        self._counted = view.counted
        return states


def _read_destination(directory: Path) -> tuple[str, int]:
    try:
        with reading_errors(directory):
            found = read_json(directory / DESTINATION_FILE) or {}
        return str(found["name"]), int(found["hold"])
    except (ValueError, LookupError, TypeError) as error:
        raise StorageError(
            f"cannot read {directory / DESTINATION_FILE}: it is damaged ({error})"
        ) from None


def _signal_status(directory: Path, signal: Signal, view: _Pending) -> SignalStatus:
    cursor = read_cursor(directory, signal)
    pending = view.of(signal, cursor)
    # What is gone and not settled yet counts as the forwarder will count it.
    ledger = cursor.ledger._replace(expired=cursor.ledger.expired + pending.expired)
    number, size = cursor.letters
    letters = directory / f"refused-{signal.value}-{number}.jsonl" if size else None
    return SignalStatus(ledger, pending, cursor.status, cursor.repeated, cursor.damaged, letters)


class _Counted(NamedTuple):
    """Records of a file behind an offset."""

    end: int
    records: int
    first: int | None


class _Pending:
    """What is pending at one moment."""

    def __init__(self, counted: dict[tuple[Signal, str, int], _Counted]) -> None:
        #: What was counted now, for the next time.
        self.counted: dict[tuple[Signal, str, int], _Counted] = {}
        self._before = counted

    def of(self, signal: Signal, cursor: Cursor) -> Pending:
        """Return what lies behind a cursor."""
        raise NotImplementedError


def _sum(parts: Iterable[Pending]) -> Pending:
    parts = list(parts)
    return Pending(
        sum(part.records for part in parts),
        sum(part.in_journals for part in parts),
        sum(part.expired for part in parts),
        min((part.first for part in parts if part.first is not None), default=None),
    )


def _count_journals(lines: Iterable[JournalLine]) -> dict[Signal, Pending]:
    found: dict[Signal, Pending] = {}
    for signal, text in lines:
        records = count_line_records(text)
        times = times_of_line(text)
        part = Pending(records, records, first=times[0] if times else None)
        found[signal] = _sum([found.get(signal, Pending()), part])
    return found


class _PendingInFiles(_Pending):
    """Pending records of a recording in files, and in the journals beside them."""

    def __init__(self, layout: Layout, counted: dict[tuple[Signal, str, int], _Counted]) -> None:
        super().__init__(counted)
        self._layout = layout
        with _certain_snapshot(layout) as snapshot:
            self._files = [*snapshot.sealed, *snapshot.active]
            self._journals = _count_journals(snapshot.journal)

    def of(self, signal: Signal, cursor: Cursor) -> Pending:
        files = [data_file for data_file in self._files if data_file.signal is signal]
        parts = [self._in_file(data_file, cursor) for data_file in files]
        there = {data_file.id for data_file in files}
        with reading_errors(cursor.path.parent):
            notes = list(list_notes(cursor.path.parent, signal))
        for note in notes:
            if note.id not in there and str(note) not in cursor.notes:
                passed = cursor.files.get(note.id, FilePosition()).records
                parts.append(Pending(expired=max(note.records - passed, 0)))
        return _sum([*parts, self._journals.get(signal, Pending())])

    def _in_file(self, data_file: DataFile, cursor: Cursor) -> Pending:
        position = cursor.files.get(data_file.id, FilePosition())
        if position.is_complete:
            return Pending()
        key = (*data_file.key, position.offset)
        counted = self._before.get(key) or _Counted(position.offset, 0, None)
        counted = self._count_on(data_file, counted)
        self.counted[key] = counted
        return Pending(counted.records, first=counted.first)

    def _count_on(self, data_file: DataFile, counted: _Counted) -> _Counted:
        if data_file.limit == counted.end:
            return counted
        found = open_data_file(data_file, self._layout.sealed)
        if found is None:
            return counted  # deleted just now
        end, records, first = counted
        with found.file, reading_errors(found.path):
            for line in read_lines(found, end, 0, data_file.limit, found.is_sealed):
                text = b"" if line.text is None else line.text.strip()
                end = line.end
                if count := count_line_records(text):
                    if first is None:
                        first = (times_of_line(text) or (None, None))[0]
                    records += count
        return _Counted(end, records, first)


_ATTEMPTS = 10


def _certain_snapshot(layout: Layout) -> Snapshot:
    """Return a snapshot in which no record is both in a file and in a journal."""
    for _ in range(_ATTEMPTS):
        snapshot = Snapshot(layout, LineDecoder())
        if all(data_file.is_certain for data_file in [*snapshot.sealed, *snapshot.active]):
            break
        snapshot.close()
        time.sleep(0.01)  # files are just being rotated
    return snapshot


class _PendingInDatabase(_Pending):
    """Pending records of a database, and of the journals beside it."""

    def __init__(self, layout: RecordingLayout, seconds: float) -> None:
        super().__init__({})
        self._layout = layout
        self._seconds = seconds
        lines = [
            JournalLine(signal, line)
            for slot in layout.slots()
            for signal, line, _ in read_journal(layout.journal(slot), lambda *_: False).lines
        ]
        self._journals = _count_journals(lines)

    def of(self, signal: Signal, cursor: Cursor) -> Pending:
        with importing():
            from rimp_otel.storage.sqlite.stored import RecordPlace, count_pending
        place = RecordPlace(cursor.record, cursor.anchor)
        records, expired, first = count_pending(self._layout.path, signal, place, self._seconds)
        stored = Pending(records, expired=expired, first=first)
        return _sum([stored, self._journals.get(signal, Pending())])
