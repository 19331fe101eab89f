"""Reading a recording in a database, also one that is being written, as one in files is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.errors import StorageError
from rimp_otel.journal.reader import Damage, read_journal
from rimp_otel.journal.slots import LOCK
from rimp_otel.storage.files.reader import DamagedLine, Kind, RecordingFile
from rimp_otel.storage.files.snapshot import JournalLine, Shown
from rimp_otel.storage.sqlite.connection import SUFFIXES
from rimp_otel.storage.sqlite.query import PAGE, SELECT, Rows
from rimp_otel.storage.sqlite.schema import DatabaseLayout, reading

__all__ = ["DatabaseReader", "is_database"]

_NAMES = {".db", ".sqlite", ".sqlite3"}
_WAIT = 5.0


def is_database(path: Path) -> bool:
    """Whether a recording of this path is one in a database: a file, or, where there is nothing
    yet, what is named like one. (The others are directories, or families of files.)"""
    return path.is_file() or (path.suffix in _NAMES and not path.exists())


class DatabaseReader:
    """Reads what is in a database, and in the journals beside it, from where it stopped the last
    time, as RecordingReader reads files. Changes nothing.

    The journals are looked at first: what is stored meanwhile is met in both, and given once.

    Args:
        path: of the file. There need be nothing yet.
        decode: makes a batch of a line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        decode: Callable[[bytes], TelemetryData] = decode_batch,
    ) -> None:
        self.layout = DatabaseLayout(path)
        #: Records that were skipped so far, in the order in which they were met.
        self.damaged: list[DamagedLine] = []
        self._decode = decode
        self._shown = Shown()
        self._in_journals: set[Damage] = set()
        self._last = 0
        self._inode = 0

    def files(self) -> list[RecordingFile]:
        """The database with what SQLite keeps beside it; then the journals.

        Raises:
            StorageError: it is not possible to look.
        """
        path = self.layout.path
        found: list[RecordingFile] = []
        for suffix in ("", *SUFFIXES):
            found += _file_at(path.with_name(path.name + suffix), "active")
        for slot in self.layout.slots():
            for file in _files_of(self.layout.journal(slot)):
                found += _file_at(file, "journal")
        return found

    def poll(self, final: bool = False) -> Iterator[TelemetryData]:
        """What has been recorded since the last poll; everything at first.

        Args:
            final: makes no difference here.

        Raises:
            StorageError: it cannot be read.
        """
        self._begin()
        yield from self._stored()
        yield from self._shown.fresh()
        self._shown.end()

    def skip(self) -> None:
        """Leaves out what there is now, without reading it: polls give what comes after.

        Raises:
            StorageError: it cannot be read.
        """
        self._begin()
        with reading(self.layout.path, _WAIT) as db:
            if db is not None:
                self._look_at_file()
                ((following,),) = db.execute("SELECT next_id FROM state")
                self._last = following - 1
        self._shown.skip()

    def _begin(self) -> None:
        lines: list[JournalLine] = []
        damaged: list[Damage] = []
        for slot in self.layout.slots():
            contents = read_journal(self.layout.journal(slot), lambda *_: False)
            lines += [JournalLine(signal, line) for signal, line, _ in contents.lines]
            damaged += contents.damaged
        self._shown.begin(lines)
        self.damaged += [
            DamagedLine(damage.path, 0, f"at byte {damage.offset}: {damage.reason}")
            for damage in damaged
            if damage not in self._in_journals
        ]
        self._in_journals = set(damaged)

    def _look_at_file(self) -> None:
        inode = os.stat(self.layout.path).st_ino
        if inode != self._inode:
            self._inode, self._last = inode, 0  # another one

    def _stored(self) -> Iterator[TelemetryData]:
        with reading(self.layout.path, _WAIT) as db:
            if db is None:
                return
            self._look_at_file()
            rows = Rows(db, self._decode)
            for page in db.pages(f"{SELECT} WHERE id > ? ORDER BY id", [self._last], PAGE):
                self._last = page[-1][0]
                left = self._shown.without(rows.decoded(page), is_certain=False)
                if left:
                    yield left
            self.damaged += [DamagedLine(*found) for found in rows.damaged]


def _file_at(path: Path, kind: Kind) -> list[RecordingFile]:
    try:
        return [RecordingFile(None, path, path.stat().st_size, kind)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _files_of(journal: Path) -> list[Path]:
    try:
        return sorted(path for path in journal.iterdir() if path.name != LOCK)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {journal}: {error.strerror or error}") from error
