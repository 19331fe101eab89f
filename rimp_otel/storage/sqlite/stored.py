"""What is in a database for certain, in the order in which it arrived, without what journals hold."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import count_records
from rimp_otel.storage.reading import LineDecoder
from rimp_otel.storage.sqlite.connection import DatabaseConnection
from rimp_otel.storage.sqlite.expired import count_expired
from rimp_otel.storage.sqlite.query import SELECT, Rows
from rimp_otel.storage.sqlite.schema import SIGNAL_NUMBERS, open_for_reading

__all__ = [
    "PendingRecords",
    "RecordPlace",
    "StoredPage",
    "count_pending",
    "last_stored",
    "read_stored",
]

_PAGE = f"{SELECT} WHERE id > ? AND id <= ? AND signal = ? ORDER BY id LIMIT ?"


class RecordPlace(NamedTuple):
    """A place in the order of arrival: right behind a record."""

    #: The number of the record; 0 for the beginning.
    record: int = 0
    #: The length and the checksum of its text; empty if it is not known.
    anchor: str = ""


class StoredPage(NamedTuple):
    """Records of one signal, one after the other."""

    #: OTLP JSON without line ends.
    lines: list[bytes]
    #: In all lines.
    records: int
    #: Records that cannot be read.
    damaged: int
    #: Records that were there, and were deleted.
    expired: int
    place: RecordPlace
    #: True if the database is not the one that the place before was of, and was read from its start.
    is_another: bool


def read_stored(
    path: Path,
    signal: Signal,
    after: RecordPlace,
    until: int | None,
    size: int,
    records: int,
    seconds: float,
) -> StoredPage | None:
    """Return the next records behind a place; None for no database.

    Args:
        path: of the database.
        signal: whose records.
        after: where to begin.
        until: the last record to return; None for all.
        size: bytes of records after which the page ends.
        records: the most records.
        seconds: to wait while the database is locked.

    Raises:
        StorageError: it cannot be read.
    """
    with open_for_reading(path, seconds) as db:
        if db is None:
            return None
        is_another = not _is_same(db, after)
        first = 0 if is_another else after.record
        last = _last_number(db) if until is None else until
        number = SIGNAL_NUMBERS[signal]
        rows = db.execute(_PAGE, (first, last, number, records))
        is_all = len(rows) < records
        rows, is_cut = _cut_rows(rows, size)
        end = last if is_all and not is_cut else rows[-1][0]
        anchor = _anchor_of(rows[-1][-1]) if rows and rows[-1][0] == end else ""
        lines, count, damaged = _to_lines(db, signal, rows)
        expired = count_expired(db, first, end, number)
        return StoredPage(
            lines, count, damaged, expired, RecordPlace(max(end, first), anchor), is_another
        )


def _cut_rows(rows: list[Any], size: int) -> tuple[list[Any], bool]:
    total = 0
    for count, row in enumerate(rows):
        total += len(row[-1])
        if total > size and count:
            return rows[:count], True
    return rows, False


def _to_lines(
    db: DatabaseConnection, signal: Signal, rows: list[Any]
) -> tuple[list[bytes], int, int]:
    reader = Rows(db, LineDecoder())
    lines = _readable_lines(reader, signal, rows)
    if lines is not None:
        return lines, len(rows), 0
    each = [_readable_lines(reader, signal, [row]) for row in rows]
    lines = [line for found in each if found is not None for line in found]
    damaged = sum(found is None for found in each)
    return lines, len(rows) - damaged, damaged


def _readable_lines(reader: Rows, signal: Signal, rows: list[Any]) -> list[bytes] | None:
    try:
        lines = reader.to_lines(signal, rows)
        return lines if sum(map(count_records, lines)) == len(rows) else None
    except (DecodeError, TypeError):
        return None


def _last_number(db: DatabaseConnection) -> int:
    ((following,),) = db.execute("SELECT next_id FROM state")
    return int(following) - 1


def last_stored(path: Path, seconds: float) -> int:
    """Return the number of the last record of a database; 0 for none.

    Raises:
        StorageError: it cannot be read.
    """
    with open_for_reading(path, seconds) as db:
        return 0 if db is None else _last_number(db)


def _is_same(db: DatabaseConnection, place: RecordPlace) -> bool:
    if place.record > _last_number(db):
        return False
    if not place.anchor:
        return True
    rows = db.execute("SELECT text FROM records WHERE id = ?", (place.record,))
    return not rows or _anchor_of(rows[0][0]) == place.anchor


def _anchor_of(text: str | bytes) -> str:
    data = text.encode(errors="replace") if isinstance(text, str) else text
    return f"{len(data)}-{zlib.crc32(data):08x}"


class PendingRecords(NamedTuple):
    """What lies behind a place."""

    records: int = 0
    #: Deleted, and not passed yet.
    expired: int = 0
    #: The time of the first one, in nanoseconds since the epoch; None for none.
    first: int | None = None


def count_pending(path: Path, signal: Signal, after: RecordPlace, seconds: float) -> PendingRecords:
    """Return how many records of a signal lie behind a place.

    Raises:
        StorageError: it cannot be read.
    """
    with open_for_reading(path, seconds) as db:
        if db is None:
            return PendingRecords()
        first = after.record if _is_same(db, after) else 0
        number = SIGNAL_NUMBERS[signal]
        sql = "SELECT count(*), min(time) FROM records WHERE id > ? AND signal = ?"
        ((count, time),) = db.execute(sql, (first, number))
        expired = count_expired(db, first, _last_number(db), number)
        return PendingRecords(count, expired, time)
