"""What is asked for as SQL, and rows as records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.errors import ConfigurationError, DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.storage.base import Selection, untimed
from rimp_otel.storage.sqlite.connection import Connection
from rimp_otel.storage.sqlite.rows import LARGEST_TIME
from rimp_otel.storage.sqlite.schema import NUMBERS, SIGNALS, has_index, reading
from rimp_otel.storage.sqlite.writer import Wrappings

__all__ = [
    "PAGE",
    "SELECT",
    "DamagedRecord",
    "Index",
    "Place",
    "Query",
    "Retrieval",
    "Rows",
    "words_of",
]


# --- What is asked for as SQL, and rows as records.

PAGE = 1_000
"""Rows that are read, and records that are decoded, at once."""

SELECT = "SELECT id, signal, time, resource, scope, metric, text FROM records"
"""The columns that ``Rows`` decodes."""

_FOUND = "SELECT rowid FROM messages WHERE messages MATCH ?"


class DamagedRecord(NamedTuple):
    """A record that was skipped."""

    path: Path
    #: Its number, in the table ``records``.
    line: int
    reason: str


def words_of(text: str) -> list[str]:
    """The words that are searched for.

    Raises:
        ConfigurationError: there are none.
    """
    words = text.replace("\0", " ").split() if isinstance(text, str) else []
    if not words:
        raise ConfigurationError(f"text={text!r} is not allowed: give at least one word")
    return words


class Index(NamedTuple):
    """The index of messages, within one transaction."""

    #: The last record that it knows of.
    until: int
    #: Whether there is none after that.
    is_complete: bool


class Place(NamedTuple):
    """How far somebody has got who asks for some records at a time, oldest first."""

    #: Of the last one, and its number.
    time: int
    id: int
    #: Records that were stored after this one do not count.
    last: int


class Query:
    """A selection as SQL. What SQL cannot say of it is for ``Selection.of_timed`` to see to.

    Args:
        selection: of which records.
        words: that must be in their messages.
        index: how far the index of messages goes; None where there is none.
        place: of which records only those that come after a place; None for all.
    """

    def __init__(
        self,
        selection: Selection,
        words: Iterable[str] = (),
        index: Index | None = None,
        place: Place | None = None,
    ) -> None:
        self._conditions: list[str] = []
        self.values: list[Any] = []
        self._selection = selection
        self._add_columns()
        self._add_times()
        self._add_words(list(words), index)
        if place is not None:
            self._add("time >= ? AND (time > ? OR id > ?)", place.time, place.time, place.id)
            self._add("id <= ?", place.last)

    @property
    def sql(self) -> str:
        """The statement: of a limited selection the newest first, else the oldest first."""
        where = f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
        if self._selection.limit is None:
            return f"{SELECT}{where} ORDER BY time, id"
        most = "" if self._selection.filter.attributes else f" LIMIT {self._selection.limit}"
        return f"{SELECT}{where} ORDER BY time DESC, id DESC{most}"

    def _add(self, condition: str, *values: Any) -> None:
        self._conditions.append(condition)
        self.values += values

    def _add_times(self) -> None:
        # By the trace's index then: it leaves fewer.
        column = "time" if self._selection.filter.trace_id is None else "+time"
        start, end = self._selection.start, self._selection.end
        if start is not None:
            self._add(f"{column} >= ?", _within(start))
        if end is not None:
            # Times that SQLite cannot hold count as the last one that it can.
            self._add(f"{column} <= ?", _within(end - 1))

    def _add_columns(self) -> None:
        wanted = self._selection.filter
        if wanted.trace_id is not None:
            self._add("trace_id = ?", wanted.trace_id.to_bytes(16, "big"))
        if wanted.signals != frozenset(Signal):
            numbers = sorted(NUMBERS[signal] for signal in wanted.signals)
            self._add(f"signal IN ({', '.join(map(str, numbers))})")
        if wanted.service is not None:
            services = "SELECT id FROM origins WHERE kind = 'resource' AND name = ?"
            self._add(f"resource IN ({services})", wanted.service)
        if wanted.name is not None:
            self._add("name = ?", wanted.name)
        if wanted.min_duration is not None:
            self._add("duration >= ?", _within(wanted.min_duration))
        if wanted.severity is not None:
            self._add("severity >= ?", wanted.severity)

    def _add_words(self, words: list[str], index: Index | None) -> None:
        if not words:
            return
        like = " AND ".join(["message LIKE ? ESCAPE '\\'"] * len(words))
        if index is None:
            self._add(like, *map(_pattern, words))
            return
        found, quoted = f"id IN ({_FOUND})", " ".join(map(_quoted, words))
        if index.is_complete:
            self._add(found, quoted)
        else:
            patterns = map(_pattern, words)
            self._add(f"({found} OR (id > ? AND {like}))", quoted, index.until, *patterns)


def _within(number: int) -> int:
    return max(-LARGEST_TIME, min(number, LARGEST_TIME))


def _quoted(word: str) -> str:
    """For FTS5: the word, or its beginning where it ends in a star, and no operator."""
    start = word.rstrip("*") or word
    star = "*" if start != word else ""
    return '"' + start.replace('"', '""') + '"' + star


def _pattern(word: str) -> str:
    for special in "\\%_":
        word = word.replace(special, "\\" + special)
    return f"%{word.rstrip('*') or word}%"


class Rows:
    """Decodes rows, of one transaction that reads.

    Args:
        db: where they come from.
        decode: makes a batch of a line.
    """

    def __init__(
        self, db: Connection, decode: Callable[[bytes], TelemetryData] = decode_batch
    ) -> None:
        self._db = db
        self._decode = decode
        self._wrappings = Wrappings(db)
        #: Records that were skipped.
        self.damaged: list[DamagedRecord] = []

    def batches(
        self, sql: str, values: Iterable[Any], newest_first: bool = False
    ) -> Iterator[TelemetryData]:
        """The records of the rows, a page at a time; the oldest first within it.

        Raises:
            StorageError: they cannot be read.
        """
        for rows in self._db.pages(sql, list(values), PAGE):
            yield self.decoded(rows[::-1] if newest_first else rows)

    def decoded(self, rows: list[Any]) -> TelemetryData:
        """The records of rows."""
        found: list[TelemetryData] = []
        for signal in SIGNALS:
            given = [row for row in rows if row[1] == NUMBERS[signal]]
            try:
                found += map(self._decode, self._lines(signal, given))
            except (DecodeError, TypeError):
                found += self._each(signal, given)
        return TelemetryData.concat(found)

    def lines(self, signal: Signal, sql: str, values: Iterable[Any]) -> Iterator[bytes]:
        """The rows, all of one signal, as OTLP JSON lines.

        Raises:
            StorageError: they cannot be read.
        """
        for rows in self._db.pages(sql, list(values), PAGE):
            yield from self._lines(signal, rows)

    def _each(self, signal: Signal, rows: list[Any]) -> Iterator[TelemetryData]:
        """Where one of them is damaged: the others."""
        for row in rows:
            try:
                yield from map(self._decode, self._lines(signal, [row]))
            except (DecodeError, TypeError) as error:
                self.damaged.append(DamagedRecord(self._db.path, row[0], str(error)))

    def _lines(self, signal: Signal, rows: list[Any]) -> list[bytes]:
        known = self._wrappings
        return list(
            join_lines(
                signal,
                [
                    EncodedRecord(
                        time,
                        known[resource],
                        known[scope],
                        None if metric is None else known[metric],
                        text,
                    )
                    for _, _, time, resource, scope, metric, text in rows
                ],
            )
        )


# --- What the storage is asked for, out of its file.

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
