"""What the storage is asked for, out of its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rimp_otel.data import TelemetryData
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.selecting import Selection, untimed
from rimp_otel.storage.sqlite.connection import Connection
from rimp_otel.storage.sqlite.opening import reading
from rimp_otel.storage.sqlite.query import PAGE, SELECT, DamagedRecord, Index, Place, Query, Rows
from rimp_otel.storage.sqlite.rows import LARGEST_TIME
from rimp_otel.storage.sqlite.schema import NUMBERS, has_index

__all__ = ["Retrieval"]

_Page = list[tuple[int, str, object]]


class Retrieval:
    """Asks a database file.

    Args:
        path: of the file; there need be none.
        timeout: seconds to wait while it is locked.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    def select(
        self, selection: Selection, words: list[str], damaged: list[DamagedRecord]
    ) -> TelemetryData:
        """The records that are selected, and whose messages hold all words.

        Args:
            selection, words: which ones.
            damaged: what is skipped is appended to it.

        Raises:
            StorageError: the file cannot be read.
        """
        limit, number = selection.limit, 0
        pages: list[_Page] = []
        with reading(self._path, self._timeout) as db:
            if db is None:
                return TelemetryData()
            query, rows = Query(selection, words, _index(db) if words else None), Rows(db)
            for data in rows.batches(query.sql, query.values, newest_first=limit is not None):
                pages.append(selection.of_timed(data))
                number += len(pages[-1])
                if limit is not None and number >= limit:
                    break
            damaged += rows.damaged
        oldest_first = pages if limit is None else reversed(pages)
        return untimed(selection.newest([record for page in oldest_first for record in page]))

    def batches(
        self, selection: Selection, size: int, damaged: list[DamagedRecord]
    ) -> Iterator[TelemetryData]:
        """The same without words, in batches of so many records, oldest first.

        Raises:
            StorageError: the file cannot be read.
        """
        found: _Page = []
        for page in self._pages(selection, damaged):
            found += selection.newest(page)
            while len(found) >= size:
                yield untimed(found[:size])
                del found[:size]
        if found:
            yield untimed(found)

    def _pages(self, selection: Selection, damaged: list[DamagedRecord]) -> Iterator[_Page]:
        """A connection for each, since nobody knows how long the caller takes in between."""
        place: Place | None = None
        while True:
            with reading(self._path, self._timeout) as db:
                if db is None:
                    return
                place = place or Place(-1, 0, _last(db))
                query, rows = Query(selection, place=place), Rows(db)
                given = db.execute(f"{query.sql} LIMIT {PAGE}", query.values)
                data = rows.decoded(given)
            if not given:
                return
            damaged += rows.damaged
            place = place._replace(id=given[-1][0], time=given[-1][2])
            yield selection.of_timed(data)

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterator[bytes]:
        """The signal's records of that time or a later one, as OTLP JSON lines.

        Raises:
            StorageError: the file cannot be read.
        """
        with reading(self._path, self._timeout) as db:
            if db is not None:
                sql = f"{SELECT} WHERE time >= ? AND +signal = ? ORDER BY time, id"
                values = (min(time_unix_nano, LARGEST_TIME), NUMBERS[signal])
                yield from Rows(db).lines(signal, sql, values)


def _index(db: Connection) -> Index | None:
    if not has_index(db):
        return None
    ((until,),) = db.execute("SELECT indexed_to FROM state")
    return Index(until, until >= _last(db))


def _last(db: Connection) -> int:
    """The number of the newest record."""
    ((following,),) = db.execute("SELECT next_id FROM state")
    return int(following) - 1
