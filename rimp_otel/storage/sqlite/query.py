"""Questions to a database: selections as SQL, and rows as records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError, DecodeError
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.storage.base import Selection, TimedRecord, keep_newest, select_with_times
from rimp_otel.storage.reading import LineDecoder
from rimp_otel.storage.sqlite.connection import DatabaseConnection, knows_fts5
from rimp_otel.storage.sqlite.fork_gate import FORK_GATE
from rimp_otel.storage.sqlite.rows import MAX_TIME
from rimp_otel.storage.sqlite.schema import (
    SIGNAL_NUMBERS,
    SIGNALS,
    has_text_index,
    open_for_reading,
)
from rimp_otel.storage.sqlite.writer import Envelopes

__all__ = [
    "PAGE",
    "SELECT",
    "DatabaseQuery",
    "PagePosition",
    "Rows",
    "SelectionQuery",
    "TextIndex",
    "match_words",
    "parse_words",
]


PAGE = 1_000
"""Rows that are read, and records that are decoded, at once."""

SELECT = "SELECT id, signal, time, resource, scope, metric, text FROM records"
"""The columns that ``Rows`` decodes."""

_FOUND = "SELECT rowid FROM messages WHERE messages MATCH ?"


def parse_words(text: str) -> list[str]:
    """Return the words to search for.

    Raises:
        ConfigurationError: there is none.
    """
    words = text.replace("\0", " ").split() if isinstance(text, str) else []
    if not words:
        raise ConfigurationError(f"text must hold at least one word, got {text!r}")
    return words


class TextIndex(NamedTuple):
    """The extent of the index of messages, within one transaction."""

    #: The last record that it knows of.
    until: int
    #: True if there is no record after that.
    is_complete: bool


class PagePosition(NamedTuple):
    """The position of an iteration in pages, oldest first."""

    #: The time of the last record, and its number.
    time: int
    id: int
    #: Records that were stored after this one do not count.
    last: int


class SelectionQuery:
    """A selection as SQL. What SQL cannot express is left to ``select_with_times``.

    Args:
        selection: of which records.
        words: that must be in their messages.
        index: how far the index of messages goes; None if there is none.
        place: where to go on; None for all records.
    """

    def __init__(
        self,
        selection: Selection,
        words: Iterable[str] = (),
        index: TextIndex | None = None,
        place: PagePosition | None = None,
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
        if self._selection.limit is None:
            return f"{self.unordered_sql} ORDER BY time, id"
        filter = self._selection.filter
        # Another kind of filter has conditions that are not in columns.
        is_whole = type(filter) is Filter and not filter.attributes
        most = f" LIMIT {self._selection.limit}" if is_whole else ""
        return f"{self.unordered_sql} ORDER BY time DESC, id DESC{most}"

    @property
    def unordered_sql(self) -> str:
        """The statement, for rows in any order and without a limit."""
        where = f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
        return f"{SELECT}{where}"

    def _add(self, condition: str, *values: Any) -> None:
        self._conditions.append(condition)
        self.values += values

    def _add_times(self) -> None:
        # By the trace's index then: it leaves fewer.
        column = "time" if self._selection.filter.trace_id is None else "+time"
        start, end = self._selection.window
        if start is not None:
            self._add(f"{column} >= ?", _to_sqlite_integer(start))
        if end is not None:
            # Times that SQLite cannot hold count as the last one that it can.
            self._add(f"{column} <= ?", _to_sqlite_integer(end - 1))

    def _add_columns(self) -> None:
        wanted = self._selection.filter
        if wanted.trace_id is not None:
            self._add("trace_id = ?", wanted.trace_id.to_bytes(16, "big"))
        if wanted.signals != frozenset(Signal):
            numbers = sorted(SIGNAL_NUMBERS[signal] for signal in wanted.signals)
            self._add(f"signal IN ({', '.join(map(str, numbers))})")
        if wanted.service is not None:
            services = "SELECT id FROM origins WHERE kind = 'resource' AND name = ?"
            self._add(f"resource IN ({services})", wanted.service)
        if wanted.name is not None:
            self._add("name = ?", wanted.name)
        if wanted.min_duration is not None:
            self._add("duration >= ?", _to_sqlite_integer(wanted.min_duration))
        if wanted.severity is not None:
            self._add("severity >= ?", wanted.severity)

    def _add_words(self, words: list[str], index: TextIndex | None) -> None:
        if not words:
            return
        like = " AND ".join(["message LIKE ? ESCAPE '\\'"] * len(words))
        if index is None:
            self._add(like, *map(_to_like_pattern, words))
            return
        found, quoted = f"id IN ({_FOUND})", " ".join(map(_quote_word, words))
        if index.is_complete:
            self._add(found, quoted)
        else:
            patterns = map(_to_like_pattern, words)
            self._add(f"({found} OR (id > ? AND {like}))", quoted, index.until, *patterns)


def _to_sqlite_integer(number: int) -> int:
    return max(-MAX_TIME, min(number, MAX_TIME))


def _quote_word(word: str) -> str:
    """Return a word for FTS5, or its beginning if it ends in a star; operators lose their meaning."""
    start = word.rstrip("*") or word
    star = "*" if start != word else ""
    return '"' + start.replace('"', '""') + '"' + star


def _to_like_pattern(word: str) -> str:
    for special in "\\%_":
        word = word.replace(special, "\\" + special)
    return f"%{word.rstrip('*') or word}%"


def match_words(texts: Iterable[str], words: list[str]) -> set[int]:
    """Return which of the texts, counted from 0, hold all words, as a database would find them."""
    numbered = [(i, text.encode(errors="replace").decode()) for i, text in enumerate(texts)]
    kind = "VIRTUAL TABLE messages USING fts5 (message)"
    condition, values = "messages MATCH ?", [" ".join(map(_quote_word, words))]
    if not knows_fts5():
        kind = "TABLE messages (message)"
        condition = " AND ".join(["message LIKE ? ESCAPE '\\'"] * len(words))
        values = list(map(_to_like_pattern, words))
    with FORK_GATE.use(), closing(sqlite3.Connection(":memory:")) as db:
        db.execute(f"CREATE {kind}")
        db.executemany("INSERT INTO messages (rowid, message) VALUES (?, ?)", numbered)
        return {i for (i,) in db.execute(f"SELECT rowid FROM messages WHERE {condition}", values)}


class Rows:
    """Decodes rows, of one transaction that reads.

    Args:
        db: where they come from.
        decoder: makes batches of lines, and notes damaged records.
    """

    def __init__(self, db: DatabaseConnection, decoder: LineDecoder) -> None:
        self._db = db
        self._decoder = decoder
        self._envelopes = Envelopes(db)

    def decode(self, rows: list[Any]) -> TelemetryData:
        """Return the records of rows."""
        found: list[TelemetryData] = []
        for signal in SIGNALS:
            own = [row for row in rows if row[1] == SIGNAL_NUMBERS[signal]]
            try:
                found += map(self._decoder.decode, self.to_lines(signal, own))
            except (DecodeError, TypeError):
                found += self._decode_each(signal, own)
        return TelemetryData.concat(found)

    def lines(self, signal: Signal, sql: str, values: Iterable[Any]) -> Iterator[bytes]:
        """Iterate over the rows of a query, all of one signal, as OTLP JSON lines.

        Raises:
            StorageError: they cannot be read.
        """
        for rows in self._db.pages(sql, list(values), PAGE):
            yield from self.to_lines(signal, rows)

    def _decode_each(self, signal: Signal, rows: list[Any]) -> Iterator[TelemetryData]:
        """Decode rows of which one is damaged: all the others."""
        for row in rows:
            try:
                yield from map(self._decoder.decode, self.to_lines(signal, [row]))
            except (DecodeError, TypeError) as error:
                self._decoder.note(self._db.path, row[0], str(error))

    def to_lines(self, signal: Signal, rows: list[Any]) -> list[bytes]:
        """Return rows of one signal as OTLP JSON lines, in order."""
        known = self._envelopes
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


# --- Questions to a database file.

_TIME = 2
"""Where a row has its time."""

WithoutSeen = Callable[[TelemetryData, int, int], TelemetryData | None]
"""Returns a batch, of records from one time to another, without those that were seen elsewhere."""


class DatabaseQuery:
    """Asks a database file.

    Args:
        path: of the file; there need be none.
        timeout: seconds to wait while it is locked.
        decoder: makes batches of lines, and notes damaged records.
    """

    def __init__(self, path: Path, timeout: float, decoder: LineDecoder) -> None:
        self._path = path
        self._timeout = timeout
        self._decoder = decoder

    def select(
        self,
        selection: Selection,
        words: list[str] | None = None,
        without_seen: WithoutSeen | None = None,
    ) -> list[TimedRecord]:
        """Return the selected records whose messages hold all words, oldest first.

        With ``without_seen``, there may be fewer than ``limit``: those that it takes out count.

        Raises:
            StorageError: the file cannot be read.
        """
        limit, number = selection.limit, 0
        pages: list[list[TimedRecord]] = []
        with open_for_reading(self._path, self._timeout) as db:
            if db is None:
                return []
            query = SelectionQuery(selection, words or (), _find_text_index(db) if words else None)
            rows = Rows(db, self._decoder)
            for page in db.pages(query.sql, query.values, PAGE):
                data = rows.decode(page if limit is None else page[::-1])
                found = select_with_times(selection, data)
                number += len(found)
                left = _without_seen(data, page, without_seen)
                pages.append(found if left is data else select_with_times(selection, left))
                if limit is not None and number >= limit:
                    break
        oldest_first = pages if limit is None else reversed(pages)
        return keep_newest(selection, [record for page in oldest_first for record in page])

    def iter_select(
        self, selection: Selection, without_seen: WithoutSeen | None = None
    ) -> Iterator[TimedRecord]:
        """Iterate over the selected records, oldest first.

        Raises:
            StorageError: the file cannot be read.
        """
        rows: list[Any] | None = None
        place: PagePosition | None = None
        while rows is None or rows:
            # A connection for each page, since nobody knows how long the caller takes in between.
            with open_for_reading(self._path, self._timeout) as db:
                if db is None:
                    return
                place = place or PagePosition(-1, 0, _last_record(db))
                query = SelectionQuery(selection, place=place)
                rows = db.execute(f"{query.sql} LIMIT {PAGE}", query.values)
                data = Rows(db, self._decoder).decode(rows)
            if rows:
                place = place._replace(id=rows[-1][0], time=rows[-1][_TIME])
                left = _without_seen(data, rows, without_seen)
                yield from keep_newest(selection, select_with_times(selection, left))

    def batches(
        self, selection: Selection, without_seen: WithoutSeen | None = None
    ) -> Iterator[TelemetryData]:
        """Iterate over all records that may be selected, in any order.

        Raises:
            StorageError: the file cannot be read.
        """
        with open_for_reading(self._path, self._timeout) as db:
            if db is None:
                return
            query, rows = SelectionQuery(selection), Rows(db, self._decoder)
            for page in db.pages(query.unordered_sql, query.values, PAGE):
                left = _without_seen(rows.decode(page), page, without_seen)
                if left:
                    yield left

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterator[bytes]:
        """Iterate over the signal's records of that time or a later one, as OTLP JSON lines.

        Raises:
            StorageError: the file cannot be read.
        """
        with open_for_reading(self._path, self._timeout) as db:
            if db is not None:
                sql = f"{SELECT} WHERE time >= ? AND +signal = ? ORDER BY time, id"
                values = (min(time_unix_nano, MAX_TIME), SIGNAL_NUMBERS[signal])
                yield from Rows(db, self._decoder).lines(signal, sql, values)


_NOTHING = TelemetryData()


def _without_seen(
    data: TelemetryData, rows: list[Any], without_seen: WithoutSeen | None
) -> TelemetryData:
    if without_seen is None or not rows:
        return data
    times = [row[_TIME] for row in rows]
    return without_seen(data, min(times), max(times)) or _NOTHING


def _find_text_index(db: DatabaseConnection) -> TextIndex | None:
    if not has_text_index(db):
        return None
    ((until,),) = db.execute("SELECT indexed_to FROM state")
    return TextIndex(until, until >= _last_record(db))


def _last_record(db: DatabaseConnection) -> int:
    """Return the number of the newest record."""
    ((following,),) = db.execute("SELECT next_id FROM state")
    return int(following) - 1
