"""Writes into a database: each batch in one transaction, with its slice's place; and retention."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from rimp_otel.config import DefaultSize
from rimp_otel.errors import StorageError
from rimp_otel.otlp.lines import Envelope
from rimp_otel.process import BoundedCache, Reporter
from rimp_otel.storage.forwarding import DestinationHold, read_holds
from rimp_otel.storage.sqlite.connection import (
    SUFFIXES,
    DatabaseConnection,
    check_database_file,
    create_database_file,
    is_locked,
    retry_while_locked,
)
from rimp_otel.storage.sqlite.expired import forget_expired, note_expired
from rimp_otel.storage.sqlite.rows import MAX_TIME, Part, Row
from rimp_otel.storage.sqlite.schema import (
    SIGNAL_NUMBERS,
    SIGNALS,
    create_schema,
    has_text_index,
)

__all__ = ["DatabaseWriter", "Envelopes", "PartNumbers", "Retention", "SQLiteStats"]


# --- Retention.

_MIN_DELETED, _DELETED_PER_RECORD = 256, 2
# Pages that are given back to the disk at once; and that stay with the file, for what comes next.
_GIVEN_BACK, _KEPT = 256, 1_024
_OLDEST = "SELECT id FROM records WHERE time <= ? ORDER BY time, id LIMIT ?"
# Held records at the head of these are passed over.
_CANDIDATES = 4
_OLDEST_WITH_SIGNALS = "SELECT id, signal FROM records WHERE time <= ? ORDER BY time, id LIMIT ?"
_UNINDEX = (
    "INSERT INTO messages (messages, rowid, message) SELECT 'delete', id, message FROM records"
    " WHERE id = ? AND id <= (SELECT indexed_to FROM state) AND message IS NOT NULL"
)
_UNUSED = (
    "DELETE FROM origins WHERE last_record <"
    " (SELECT coalesce(min(id), (SELECT next_id FROM state)) FROM records)"
)


class Retention(NamedTuple):
    """Bounds of size and age. The oldest records are deleted, a few with each batch.

    Each batch makes room for about twice its records, so that a file which has become too large, or
    its records too old, shrinks steadily, and no batch waits for long. What a destination has not
    acknowledged is kept beyond the bounds, up to one of its own; past that it is deleted all the same,
    and noted in the table ``forward_expired``.
    """

    #: Bytes of the file that may be in use; None for any number.
    size: int | None = None
    #: Seconds; None for ever.
    age: float | None = None
    #: Seconds since the epoch.
    clock: Callable[[], float] = time.time
    #: The directory of what forwarders remember; None for none.
    forward: Path | None = None

    def run(self, db: DatabaseConnection, has_text_index: bool, arrived: int) -> int:
        """Delete what is not to be kept any more, as far as it has to be done now.

        Args:
            db: may write; not in a transaction.
            has_text_index: True if there is an index of messages.
            arrived: records that were just stored.

        Returns:
            How many records were deleted; 0 if that was not possible now.
        """
        if self.size is None and self.age is None:
            return 0
        try:
            before = self._before(db)
            if before is None:
                return 0
            holds = [] if self.forward is None else read_holds(self.forward)
            most = max(_MIN_DELETED, _DELETED_PER_RECORD * arrived)
            db.execute("BEGIN IMMEDIATE")
            with db.committing():
                if holds:
                    ids = self._choose(db, holds, before, most)
                else:
                    ids = db.execute(_OLDEST, (before, most))
                _delete_records(db, ids, has_text_index)
            _give_back(db)
        except (StorageError, OSError):
            return 0  # the next batch brings the next attempt
        return len(ids)

    def _before(self, db: DatabaseConnection) -> int | None:
        """Return up to which time records may be deleted; None for none."""
        if self.size is not None and _size_in_use(db) > self.size:
            return MAX_TIME
        if self.age is None:
            return None
        before = round((self.clock() - self.age) * 1e9) - 1
        found = db.execute("SELECT 1 FROM records WHERE time <= ? LIMIT 1", (before,))
        return before if found else None

    def _choose(
        self, db: DatabaseConnection, holds: list[DestinationHold], before: int, most: int
    ) -> list[tuple[int]]:
        """Return the ids of the oldest records that no destination holds; note which of them had
        not been forwarded to all."""
        in_use, size = _size_in_use(db), self.size or 0
        passed = _passed_by(holds)
        kept = _passed_by([hold for hold in holds if in_use <= size + hold.size])
        found = db.execute(_OLDEST_WITH_SIGNALS, (before, _CANDIDATES * most))
        chosen = [(id, signal) for id, signal in found if id <= kept[signal]][:most]
        note_expired(db, [(id, signal) for id, signal in chosen if id > passed[signal]])
        forget_expired(db, passed)
        return [(id,) for id, _ in chosen]


def _passed_by(holds: list[DestinationHold]) -> list[int]:
    """Return, for each signal, the last record that all of the destinations have dealt with."""
    return [
        min((hold.positions(signal).record for hold in holds), default=_EVERY_RECORD)
        for signal in SIGNALS
    ]


_EVERY_RECORD = 2**63 - 1


def _delete_records(
    db: DatabaseConnection, ids: Sequence[Sequence[int]], has_text_index: bool
) -> None:
    if has_text_index:
        db.change_many(_UNINDEX, ids)
    db.change_many("DELETE FROM records WHERE id = ?", ids)
    db.change(_UNUSED)


def _size_in_use(db: DatabaseConnection) -> int:
    return (_read_pragma(db, "page_count") - _read_pragma(db, "freelist_count")) * _read_pragma(
        db, "page_size"
    )


def _give_back(db: DatabaseConnection) -> None:
    if _read_pragma(db, "freelist_count") > _KEPT:
        db.run(f"PRAGMA incremental_vacuum({_GIVEN_BACK})")


def _read_pragma(db: DatabaseConnection, name: str) -> int:
    ((value,),) = db.execute(f"PRAGMA {name}")
    return int(value)


# --- Resources, scopes and metrics by number: each is kept once, however many records refer to it.


class PartNumbers:
    """Numbers of resources, scopes and metrics, each of which is kept once.

    Used within transactions that write. What is remembered from one to the next may be wrong by
    then: a transaction was rolled back, or another process has deleted what no record referred to
    any more. ``use`` finds that out.
    """

    def __init__(self) -> None:
        self._known: BoundedCache[Part, int] = BoundedCache(4_096)

    def forget(self) -> None:
        """Forget all, after a transaction that was rolled back."""
        self._known.clear()

    def use(self, db: DatabaseConnection, parts: Iterable[Part], record: int) -> dict[Part, int]:
        """Return the numbers of all parts, new ones included, and note them to be in use up to a
        record.

        Raises:
            StorageError: they could not be written.
        """
        return {part: self._use(db, part, record) for part in parts}

    def _use(self, db: DatabaseConnection, part: Part, record: int) -> int:
        number = self._known.get(part)
        if number is None:
            number = self._known[part] = _number_of_part(db, part, record)
        if not db.change("UPDATE origins SET last_record = ? WHERE id = ?", (record, number)):
            number = self._known[part] = _number_of_part(db, part, record)
        return number


def _number_of_part(db: DatabaseConnection, part: Part, record: int) -> int:
    head, tail = part.envelope
    digest = blake2b(f"{part.kind}\0{head}\0{tail}".encode(), digest_size=16).digest()
    found = db.execute("SELECT id FROM origins WHERE digest = ?", (digest,))
    if not found:
        db.change(
            "INSERT INTO origins (kind, digest, name, head, tail, last_record)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (part.kind, digest, part.name, head, tail, record),
        )
        found = db.execute("SELECT last_insert_rowid()")
    return int(found[0][0])


class Envelopes:
    """The resources, scopes and metrics of numbers, within one transaction that reads."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._known: dict[int, Envelope] = {}

    def __getitem__(self, number: int) -> Envelope:
        found = self._known.get(number)
        if found is None:
            rows = self._db.execute("SELECT head, tail FROM origins WHERE id = ?", (number,))
            # None only where the file is damaged; then the record cannot be read either.
            found = self._known[number] = Envelope(*rows[0]) if rows else Envelope("", "")
        return found


# --- Writing.

_INSERT = f"INSERT INTO records VALUES ({', '.join('?' * 14)})"
_INDEX = "INSERT INTO messages (rowid, message) VALUES (?, ?)"
_CATCH_UP = (
    "INSERT INTO messages (rowid, message) SELECT id, message FROM records"
    " WHERE id > ? AND id <= ? AND message IS NOT NULL"
)
_MAX_INDEXED_LATER = 2_000
_SLICE = re.compile(r"(.+-[a-z]+)-[0-9]+-([0-9]+)", re.ASCII | re.DOTALL)
# Seconds, and a part of the time that a batch took, for which the file is left to others.
_MIN_GAP, _GAP = 0.000_25, 1 / 16
# Kept when SQLite begins its write-ahead log again.
_LOG_SIZE = 16 * 1024 * 1024


class SQLiteStats(NamedTuple):
    """Exact counts of a storage's work in this process."""

    #: Batches that were stored.
    batches: int = 0
    #: Records in them.
    records: int = 0
    #: Batches that were in the file already: a process had died before it could note that.
    repeats: int = 0
    #: Records deleted to keep within ``retain_size`` and ``retain_age``.
    deleted: int = 0
    #: Times that the file was opened, such as after it was removed.
    opened: int = 0


class DatabaseWriter:
    """Writes into one file, which it opens when it has to, and again if that was replaced.

    For one thread at a time.

    Args:
        path: of the file.
        retention: what to delete.
        synchronous: SQLite's setting: "FULL" or "NORMAL".
        lock_timeout: seconds to wait while another process writes.
    """

    def __init__(
        self, path: Path, retention: Retention, synchronous: str, lock_timeout: float
    ) -> None:
        self.path = path
        self._retention = retention
        self._synchronous = synchronous
        self._timeout = lock_timeout
        self.stats = SQLiteStats()
        self._db: DatabaseConnection | None = None
        self._file: tuple[int, int] | None = None
        self._numbers = PartNumbers()
        self._has_index = False
        self._not_before = 0.0

    def renew(self) -> None:
        """Forget the connection in a forked child, which opens the file for itself."""
        self._db = None
        self.stats = SQLiteStats()
        self._numbers.forget()

    def write(self, rows: Sequence[Row], slice_id: str | None) -> None:
        """Keep all rows, unless the slice was stored before.

        Raises:
            StorageError: they cannot be written; none of them is kept.
        """
        self._give_way()
        db = retry_while_locked(self._begin, self._timeout)
        try:
            with self._measured(), db.committing():
                is_new = self._note(db, slice_id)
                if is_new:
                    self._insert(db, rows)
            self._stay()
        except BaseException as error:
            self._failed(db, error)
            raise
        self._count(len(rows), is_new)
        self._retain(db, len(rows))
        db.is_busy = False

    def _begin(self) -> DatabaseConnection:
        """Return the connection, in a transaction."""
        db = self._open()
        try:
            db.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._failed(db, error)
            raise
        return db

    def _failed(self, db: DatabaseConnection, error: BaseException) -> None:
        db.is_busy = False
        self._numbers.forget()
        if isinstance(error, StorageError) and not is_locked(error):
            self.close()  # what is wrong may be repaired from outside

    @contextmanager
    def _measured(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        ended = time.monotonic()
        self._not_before = ended + _MIN_GAP + (ended - began) * _GAP

    def _give_way(self) -> None:
        """Leave the file to others for a moment, between one batch and the next.

        Those that wait for it look only from time to time whether it is free.
        """
        pause = self._not_before - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def _open(self) -> DatabaseConnection:
        """Return the connection to the file that has the path now."""
        db = self._db
        if db is not None and db.is_open and self._is_there():
            db.is_busy = True
            return db
        self.close()
        create_database_file(self.path)
        db = self._db = DatabaseConnection(self.path)
        try:
            create_schema(db)
            db.execute(f"PRAGMA synchronous = {self._synchronous}")
            db.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")
            self._has_index = has_text_index(db)
            self._file = _file_identity(self.path)
        except BaseException:
            self.close()
            raise
        self.stats = self.stats._replace(opened=self.stats.opened + 1)
        return db

    def _is_there(self) -> bool:
        try:
            return _file_identity(self.path) == self._file
        except StorageError:
            return False

    def _stay(self) -> None:
        """Raise if what was committed is in a file that has lost its name.

        Raises:
            StorageError: the file was removed meanwhile.
        """
        if not self._is_there():
            self.close()
            raise StorageError(f"cannot write {self.path}: the file was removed or replaced")

    def _note(self, db: DatabaseConnection, slice_id: str | None) -> bool:
        """Note how far a journal has been stored; return True if the slice is not in the file yet.

        A slice's id is its place: journal segment, signal, start and end. The slices of a segment's
        signal come in order, so the last one's end stands for all of them.
        """
        if slice_id is None:
            return True
        match = _SLICE.fullmatch(slice_id)
        place, position = (match[1], int(match[2])) if match else (slice_id, 0)
        stored = db.execute("SELECT position FROM slices WHERE place = ?", (place,))
        if stored and position <= stored[0][0]:
            return False
        db.change("INSERT OR REPLACE INTO slices VALUES (?, ?)", (place, position))
        return True

    def _insert(self, db: DatabaseConnection, rows: Sequence[Row]) -> None:
        ((first, indexed_to),) = db.execute("SELECT next_id, indexed_to FROM state")
        last = first + len(rows) - 1
        parts = {part for row in rows for part in row[2:5] if part is not None}
        numbers = self._numbers.use(db, parts, last)
        db.change_many(
            _INSERT, [_to_values(id, row, numbers) for id, row in enumerate(rows, first)]
        )
        if self._has_index:
            indexed_to = self._index(db, rows, first, indexed_to)
        db.change("UPDATE state SET next_id = ?, indexed_to = ?", (last + 1, indexed_to))

    def _index(
        self, db: DatabaseConnection, rows: Sequence[Row], first: int, indexed_to: int
    ) -> int:
        """Add messages to the index; return up to which record it is complete then."""
        last = first + len(rows) - 1
        if indexed_to == first - 1:
            messages = [(id, row.columns.message) for id, row in enumerate(rows, first)]
            db.change_many(_INDEX, [message for message in messages if message[1] is not None])
            return last
        # Of what an SQLite without full-text search has stored, a part each time.
        until = min(last, indexed_to + _MAX_INDEXED_LATER + len(rows))
        db.change(_CATCH_UP, (indexed_to, until))
        return until

    def _count(self, records: int, is_new: bool) -> None:
        stats = self.stats
        if is_new:
            stats = stats._replace(batches=stats.batches + 1, records=stats.records + records)
        else:
            stats = stats._replace(repeats=stats.repeats + 1)
        self.stats = stats

    def _retain(self, db: DatabaseConnection, arrived: int) -> None:
        retention = self._retention
        is_default = isinstance(retention.size, DefaultSize)
        if isinstance(retention.size, DefaultSize):
            retention = retention._replace(size=retention.size.on_disk(self.path))
        deleted = retention.run(db, self._has_index, arrived)
        if deleted and is_default and not self.stats.deleted:
            Reporter().warn(
                "bound",
                f"{self.path} has reached {retention.size} bytes, and its oldest records are deleted from "
                "now on: set RIMP_RETAIN_SIZE, retain_size, or rimp run --retain to keep more",
            )
        self.stats = self.stats._replace(deleted=self.stats.deleted + deleted)

    def sync(self) -> None:
        """Force to the device what was committed.

        Raises:
            OSError: the device refused.
        """
        # Also where it is closed: another process may have kept SQLite from moving the log. Of these two files, no descriptor carries locks of SQLite's.
        for path in (self.path.with_name(self.path.name + SUFFIXES[0]), self.path.parent):
            try:
                file = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue  # all of it was moved into the database, which was synced then
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def close(self) -> None:
        """Close the file; the next batch opens it again."""
        db, self._db = self._db, None
        if db is not None:
            db.close()
        self._numbers.forget()


def _file_identity(path: Path) -> tuple[int, int]:
    status = check_database_file(path)
    return status.st_dev, status.st_ino


def _to_values(id: int, row: Row, numbers: Mapping[Part, int]) -> tuple[object, ...]:
    time, trace_id, span_id, name, severity, status, duration, message = row.columns
    return (
        id,
        SIGNAL_NUMBERS[row.signal],
        time,
        trace_id,
        span_id,
        name,
        severity,
        status,
        duration,
        message,
        numbers[row.resource],
        numbers[row.scope],
        None if row.metric is None else numbers[row.metric],
        row.text,
    )
