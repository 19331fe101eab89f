"""Reading a recording in a database, also one that is being written, as one in files is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rimp_otel.data import TelemetryData
from rimp_otel.journal.reading import Damage, read_journal
from rimp_otel.storage.layout import SealedName
from rimp_otel.storage.reader import (
    DamagedLine,
    RecordingFile,
    RecordingReader,
    file_at,
    journal_files,
)
from rimp_otel.storage.snapshot import JournalLine
from rimp_otel.storage.sqlite.files import SUFFIXES
from rimp_otel.storage.sqlite.layout import DatabaseLayout
from rimp_otel.storage.sqlite.opening import reading
from rimp_otel.storage.sqlite.query import Rows

__all__ = ["DatabaseReader", "is_database"]

_NAMES = {".db", ".sqlite", ".sqlite3"}
_WAIT = 5.0
_SELECT = (
    "SELECT id, signal, time, resource, scope, metric, text FROM records WHERE id > ? ORDER BY id"
)


def is_database(path: Path) -> bool:
    """Whether a recording of this path is one in a database: a file, or, where there is nothing
    yet, what is named like one. (The others are directories, or families of files.)"""
    return path.is_file() or (path.suffix in _NAMES and not path.exists())


class DatabaseReader(RecordingReader):
    """Reads what is in a database, and in the journals beside it, from where it stopped the last
    time. Changes nothing.

    The journals are looked at first: what is stored meanwhile is met in both, and given once.

    Args:
        path: of the file. There need be nothing yet.
        decode: makes a batch of a line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        decode: Callable[[bytes], TelemetryData] = TelemetryData.decoded,
    ) -> None:
        super().__init__(path, decode)
        self.layout: DatabaseLayout = DatabaseLayout(path)
        self._last = 0
        self._inode = 0

    def files(self) -> list[RecordingFile]:
        """The database with what SQLite keeps beside it; then the journals.

        Raises:
            StorageError: it is not possible to look.
        """
        path = self.layout.path
        found: list[RecordingFile] = []
        for name in (path.name, *(path.name + suffix for suffix in SUFFIXES)):
            found += file_at(None, path.with_name(name), "active")
        for slot in self.layout.slots():
            for journal in journal_files(self.layout.journal(slot)):
                found += file_at(None, journal, "journal")
        return found

    def poll(self, final: bool = False) -> Iterator[TelemetryData]:
        """What has been recorded since the last poll; everything at first.

        Raises:
            StorageError: it cannot be read.
        """
        self._begin_with(*self._journals())
        yield from self._stored()
        yield from self._shown.fresh()
        self._shown.end()

    def newest_first(
        self, wanted: Callable[[SealedName], bool]
    ) -> Iterator[Iterator[TelemetryData]]:
        """All that was not read yet."""
        yield self.poll(final=True)

    def skip(self) -> None:
        """Leaves out what there is now."""
        self._begin_with(*self._journals())
        for _ in self._stored(counts=True):
            pass
        self._shown.skip()

    def _journals(self) -> tuple[list[JournalLine], list[Damage]]:
        lines, damaged = [], []
        for slot in self.layout.slots():
            contents = read_journal(self.layout.journal(slot), lambda *_: False)
            lines += [JournalLine(signal, line) for signal, line, _ in contents.lines]
            damaged += contents.damaged
        return lines, damaged

    def _stored(self, counts: bool = False) -> Iterator[TelemetryData]:
        with reading(self.layout.path, _WAIT) as db:
            if db is None:
                return
            inode = os.stat(self.layout.path).st_ino
            if inode != self._inode:
                self._inode, self._last = inode, 0  # another file
            rows = Rows(db, self._decode)
            if counts:
                ((following,),) = db.execute("SELECT next_id FROM state")
                self._last = following - 1
                return
            for page in db.pages(_SELECT, [self._last], 1_000):
                self._last = page[-1][0]
                yield from self._new(rows.decoded(page))
            self.damaged += [DamagedLine(*found) for found in rows.damaged]

    def _new(self, data: TelemetryData) -> Iterator[TelemetryData]:
        left = self._shown.without(data, is_certain=False)
        if left:
            yield left
