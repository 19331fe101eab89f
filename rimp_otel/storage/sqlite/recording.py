"""A recording in a database, also one that is being written, with the journals beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from rimp_otel.batch import TelemetryData
from rimp_otel.journal.reader import Damage, read_journal
from rimp_otel.models.accessors import trace_id_of
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import summarize_line
from rimp_otel.storage.base import (
    ALL_RECORDS,
    DamagedLine,
    RecordingFile,
    Selection,
    keep_newest,
    select_with_times,
    without_times,
)
from rimp_otel.storage.reading import (
    Decode,
    JournalLine,
    LineDecoder,
    SeenRecords,
    list_files,
    list_journal_files,
)
from rimp_otel.storage.sqlite.connection import SUFFIXES
from rimp_otel.storage.sqlite.query import PAGE, SELECT, DatabaseQuery, Rows, match_words
from rimp_otel.storage.sqlite.schema import SIGNAL_NUMBERS, DatabaseLayout, open_for_reading

__all__ = ["SQLiteRecording"]

_LOCK_TIMEOUT = 5.0


class SQLiteRecording:
    """A recording in a database: see ``rimp_otel.storage.Recording``.

    The journals are looked at first: what is stored meanwhile is met in both, and returned once.

    Args:
        path: of the file. There need be nothing yet.
        decode: makes a batch of a line; ``decode_batch`` if None.
        lock_timeout: seconds to wait while the file is locked.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        decode: Decode | None = None,
        lock_timeout: float = _LOCK_TIMEOUT,
    ) -> None:
        self.layout = DatabaseLayout(path)
        self._decoder = LineDecoder(decode)
        self._timeout = lock_timeout
        self._query = DatabaseQuery(self.layout.path, lock_timeout, self._decoder)
        self._seen = SeenRecords()
        #: What living processes had measured and not stored at the last poll: lines of data points,
        #: each in the place of the one before.
        self.measured: list[bytes] = []
        # How far polls have come: the last record, and the file that it is in.
        self._last = 0
        self._inode = 0

    @property
    def path(self) -> Path:
        """The path that was passed, as a Path."""
        return self.layout.path

    @property
    def damaged(self) -> list[DamagedLine]:
        """Records that were skipped so far, in the order in which they were met."""
        return self._decoder.damaged

    def files(self) -> list[RecordingFile]:
        """Return the database with what SQLite keeps beside it; then the journals' files.

        Raises:
            StorageError: a directory cannot be read.
        """
        path = self.layout.path
        paths = [path.with_name(path.name + suffix) for suffix in ("", *SUFFIXES)]
        return list_files(paths, "active") + list_journal_files(self.layout)

    def retrieve(self, selection: Selection = ALL_RECORDS) -> TelemetryData:
        """Return the selected records, oldest first; found by the indexes of the database.

        Raises:
            StorageError: it cannot be read.
        """
        return self._select(selection)

    def search(self, words: list[str], selection: Selection = ALL_RECORDS) -> TelemetryData:
        """Return the selected log records whose messages hold all words, oldest first.

        Raises:
            StorageError: it cannot be read.
        """
        return self._select(selection, words)

    def _select(self, selection: Selection, words: list[str] | None = None) -> TelemetryData:
        view = _JournalView(self._read_journals(with_measured=not words))
        stored = self._query.select(selection, words, view.without_seen)
        waiting = list(view.records(selection))
        if words and waiting:
            waiting = [found for found in waiting if found[1] == "events"]
            matching = match_words([event.message for _, _, event in waiting], words)
            waiting = [found for i, found in enumerate(waiting) if i in matching]
        return without_times(keep_newest(selection, [*stored, *waiting]))

    def iter_retrieve(
        self, selection: Selection = ALL_RECORDS, batch_size: int = 1_000
    ) -> Iterator[TelemetryData]:
        """Iterate over the selected records, oldest first, in batches of ``batch_size``.

        Raises:
            StorageError: it cannot be read.
        """
        view = _JournalView(self._read_journals(with_measured=True))
        stored = self._query.iter_select(selection, view.without_seen)
        waiting = sorted(view.records(selection), key=itemgetter(0))
        records = merge(stored, waiting, key=itemgetter(0))
        while batch := list(islice(records, batch_size)):
            yield without_times(batch)

    def batches(
        self,
        selection: Selection = ALL_RECORDS,
        on_file: Callable[[], None] | None = None,
    ) -> Iterator[TelemetryData]:
        """Iterate over all that may be selected, in any order.

        Raises:
            StorageError: it cannot be read.
        """
        view = _JournalView(self._read_journals(with_measured=True))
        yield from self._query.batches(selection._replace(limit=None), view.without_seen)
        yield from view.fresh()
        if on_file is not None:
            on_file()

    def trace_ids(self, prefix: str) -> set[int]:
        """Return the ids of all traces that start with these digits, by the index of the database.

        Raises:
            StorageError: it cannot be read.
        """
        first, last = (int(prefix.ljust(32, digit), 16) for digit in "0f")
        found = {
            number
            for data in _JournalView(self._read_journals()).fresh()
            for number in [
                *(trace_id_of(span) for span in data.spans),
                *(event.trace_id for event in data.events),
            ]
            if first <= number <= last
        }
        with open_for_reading(self.layout.path, self._timeout) as db:
            if db is not None:
                sql = "SELECT DISTINCT trace_id FROM records WHERE trace_id BETWEEN ? AND ?"
                rows = db.execute(sql, [first.to_bytes(16, "big"), last.to_bytes(16, "big")])
                found.update(int.from_bytes(id, "big") for (id,) in rows)
        return found - {0}

    def poll(self, final: bool = False, signal: Signal | None = None) -> Iterator[TelemetryData]:
        """Iterate over what was recorded since the last poll; over everything at first.

        Args:
            final: makes no difference here.
            signal: whose stored records to read; what the journals hold is returned anyway. None for
                all. The same in every poll.

        Raises:
            StorageError: it cannot be read.
        """
        self._seen.begin(self._read_journals())
        yield from self._stored(signal)
        yield from self._seen.fresh()
        self._seen.end()

    def skip(self) -> None:
        """Leave out what there is now, without reading it: polls return what comes after.

        Raises:
            StorageError: it cannot be read.
        """
        self._seen.begin(self._read_journals())
        with open_for_reading(self.layout.path, self._timeout) as db:
            if db is not None:
                self._look_at_file()
                ((following,),) = db.execute("SELECT next_id FROM state")
                self._last = following - 1
        self._seen.skip()

    def position(self) -> Any:
        """Return how far the polls have come with the database: what JSON can hold."""
        return [self._inode, self._last]

    def resume(self, position: Any) -> bool:
        """Go on where another object was; return False if that was another database.

        To be called before the first poll. What the journals held then is returned once more.

        Args:
            position: as ``position`` returned it.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            inode, last = position
            inode, last = int(inode), int(last)
            if os.stat(self.layout.path).st_ino != inode:
                return False
        except (OSError, TypeError, ValueError):
            return False
        with open_for_reading(self.layout.path, self._timeout) as db:
            ((following,),) = [(0,)] if db is None else db.execute("SELECT next_id FROM state")
        if following <= last:
            return False
        self._inode, self._last = inode, last
        return True

    def _read_journals(self, with_measured: bool = False) -> list[JournalLine]:
        lines: list[JournalLine] = []
        damaged: list[Damage] = []
        self.measured = []
        for slot in self.layout.slots():
            contents = read_journal(self.layout.journal(slot), lambda *_: False)
            lines += [JournalLine(signal, line) for signal, line, _ in contents.lines]
            self.measured += contents.measured
            if with_measured:  # not for a poll: they are replaced by the next ones
                lines += [JournalLine(Signal.METRICS, line) for line in contents.measured]
            damaged += contents.damaged
        self._decoder.note_in_journals(damaged)
        return lines

    def _look_at_file(self) -> None:
        inode = os.stat(self.layout.path).st_ino
        if inode != self._inode:
            self._inode, self._last = inode, 0  # another one

    def _stored(self, signal: Signal | None) -> Iterator[TelemetryData]:
        with open_for_reading(self.layout.path, self._timeout) as db:
            if db is None:
                return
            self._look_at_file()
            rows = Rows(db, self._decoder)
            where = "id > ?" if signal is None else f"id > ? AND signal = {SIGNAL_NUMBERS[signal]}"
            for page in db.pages(f"{SELECT} WHERE {where} ORDER BY id", [self._last], PAGE):
                self._last = page[-1][0]
                left = self._seen.without_seen(rows.decode(page), is_certain=False)
                if left:
                    yield left


class _JournalView:
    """The journals, as they were before the database was looked at, for one question."""

    def __init__(self, lines: list[JournalLine]) -> None:
        self._seen = SeenRecords()
        self._seen.begin(lines)
        found = [summarize_line(line.text) for line in lines]
        self._first = min((facts.first for facts in found), default=0)
        self._last = max((facts.last for facts in found), default=-1)

    def without_seen(self, data: TelemetryData, first: int, last: int) -> TelemetryData | None:
        """Return stored records, of times from ``first`` to ``last``, that no journal holds."""
        # To compare records costs about as much as to decode them.
        is_certain = last < self._first or first > self._last
        return self._seen.without_seen(data, is_certain)

    def fresh(self) -> Iterator[TelemetryData]:
        """Iterate over what the journals held, a batch for each line."""
        return self._seen.fresh()

    def records(self, selection: Selection) -> Iterable[tuple[int, str, Any]]:
        """Iterate over the selected records that the journals held, before ``limit``."""
        for data in self.fresh():
            yield from select_with_times(selection, data)
