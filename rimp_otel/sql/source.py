"""The records of one signal for DuckDB to read: Parquet copies, and tables in memory.

Sealed files are read as Parquet copies, which are made if they are missing. The rest (active files,
journals, files that wait to be sealed) is decoded into memory by a reader that continues where it
stopped, so that each record is there once. A sealed file that was decoded into memory is not read
again as a copy: only after many records, all are dropped and read again, with the copies that exist
then. Records move forward only, from a journal to an active file to a sealed one: a record that is in
a copy before a reader starts is nowhere else when it reads.

A database has no copies: all of its records are decoded into memory, and then those that are new.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.sql.extras import pyarrow
from rimp_otel.sql.parquet import (
    BUILDERS,
    is_current_parquet,
    is_intact_parquet,
    make_parquet_file,
    parquet_path,
)
from rimp_otel.storage.base import DamagedLine, UnreadableError
from rimp_otel.storage.files.lines import DataFile, FileKey, list_data_files
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.recording import is_database
from rimp_otel.storage.sqlite.recording import SQLiteRecording

__all__ = ["DecodingProgress", "SignalSource"]

DecodingProgress = Callable[[Signal, int, int], None]
"""Called before a sealed file is decoded, with its signal, the number of files that are decoded
already, and the number of all that have to be."""

_MAX_ROWS_IN_MEMORY = 500_000
_MAX_TABLE_ROWS = 100_000


_FileState = tuple[Path, int, int, int]


def _file_state(path: Path) -> _FileState:
    """Return what tells that a file was replaced or changed; zeros for one that is gone."""
    try:
        status = path.stat()
    except OSError:
        return path, 0, 0, 0
    return path, status.st_ino, status.st_size, status.st_mtime_ns


class SignalSource:
    """The records of one signal. Use it in one thread at a time.

    Args:
        path: of the recording.
        signal: whose records are read.
        private_directory: where copies are made that cannot be made beside their sealed files.
        progress: called before a sealed file is decoded.
        max_rows: how many rows in memory are kept if copies could replace some of them.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        signal: Signal,
        private_directory: Path,
        progress: DecodingProgress | None = None,
        max_rows: int = _MAX_ROWS_IN_MEMORY,
    ) -> None:
        self.signal = signal
        #: Lines that could not be read, of those that were decoded into memory.
        self.damaged = 0
        #: Files and places that could not be read at all.
        self.unreadable: list[DamagedLine] = []
        self._path = path
        self._private_directory = private_directory
        self._progress = progress
        self._max_rows = max_rows
        self._builder = BUILDERS[signal]()
        # Copies whose checksums were computed: once in the life of a connection.
        self._intact: set[_FileState] = set()
        self._begin()

    def _begin(self) -> None:
        path = Path(self._path)
        self._database = SQLiteRecording(path, count_line) if is_database(path) else None
        self._recording = FileRecording(path, count_line)
        self._copies: dict[FileKey, Path] = {}
        self._tables: list[Any] = []
        self._measured: list[Any] = []
        self._rows = 0
        self._is_new = True

    def files(self) -> list[str]:
        """Return the paths of the Parquet copies."""
        return [str(path) for path in self._copies.values()]

    def table(self) -> Any:
        """Return the records that are in no copy."""
        tables = [*self._tables, *self._measured]
        if not tables:
            return self._builder.schema.empty_table()
        # Equal columns, though each table has dictionaries of its own.
        return pyarrow.concat_tables(tables)

    def refresh(self) -> bool:
        """Read what was recorded since the last time; return True if there was anything.

        Raises:
            StorageError: a file cannot be read.
        """
        sealed = self._sealed_contents()
        is_large = self._rows > self._max_rows
        if self._is_new or (is_large and any(c.key not in self._copies for c in sealed)):
            self.reload()
            return True
        return self._read_new_lines()

    def reload(self) -> None:
        """Drop what was read, and read it again with the copies that exist now.

        Raises:
            StorageError: a file cannot be read.
        """
        self._begin()
        self._is_new = False
        sealed = self._sealed_contents()
        missing = {c.key for c in sealed if not self._is_usable(c, parquet_path(c))}
        done = 0
        for content in sealed:
            if content.key in missing:
                if self._progress is not None:
                    self._progress(self.signal, done, len(missing))
                done += 1
            path = self._copy_of(content, content.key in missing)
            if path is not None:
                self._copies[content.key] = path
        self._read_new_lines()

    def has_damaged_copies(self) -> bool:
        """Return True if a copy cannot be read any more, or is gone; the next reload replaces it."""
        damaged = [path for path in self._copies.values() if not is_intact_parquet(path)]
        self._intact -= set(map(_file_state, damaged))
        return bool(damaged)

    def _sealed_contents(self) -> list[DataFile]:
        if self._database is not None:
            return []
        try:
            sealed = list_data_files(self._recording.layout.sealed)
        except UnreadableError:
            return []  # the reader reports it
        return [
            content
            for content in sealed
            if content.signal is self.signal and content.name and not content.name.is_waiting
        ]

    def _copy_of(self, content: DataFile, is_missing: bool) -> Path | None:
        """Return the path of the copy; None if the reader has to decode the sealed file."""
        beside = parquet_path(content)
        if not is_missing:
            return beside
        for path in (beside, parquet_path(content, self._private_directory)):
            try:
                if self._is_usable(content, path):
                    return path
                if make_parquet_file(content, beside.parent, path):
                    self._intact.add(_file_state(path))
                    return path
            except StorageError:
                return None  # the reader reports it
            except OSError:
                continue  # no space left, or a recording of another user
        return None

    def _is_usable(self, content: DataFile, path: Path) -> bool:
        """Return True if a copy is there, of this sealed file, and not damaged."""
        if not is_current_parquet(content, path):
            return False
        state = _file_state(path)
        if state not in self._intact and is_intact_parquet(path):
            self._intact.add(state)
        return state in self._intact

    def _read_new_lines(self) -> bool:
        recording = self._database or self._recording
        before, measured = self._rows, recording.measured
        for data in self._poll():
            self._add_lines(data.otlp_json(self.signal))
        self._take_table()
        self.damaged += sum(1 for skipped in recording.damaged if skipped.line)
        self.unreadable += [skipped for skipped in recording.damaged if not skipped.line]
        recording.damaged.clear()
        if self.signal is Signal.METRICS and recording.measured != measured:
            # In the place of those that were measured before.
            self._add_lines(recording.measured)
            has_rows = bool(self._builder.rows)
            self._measured = [self._builder.take_table(is_sorted=False)] if has_rows else []
            return True
        return self._rows > before

    def _poll(self) -> Iterator[TelemetryData]:
        if self._database is not None:
            return self._database.poll(signal=self.signal)
        return self._recording.poll(final=True, wanted=self._is_wanted)

    def _add_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                self._builder.add_line(line)
            except DecodeError:
                self.damaged += 1
            if self._builder.rows >= _MAX_TABLE_ROWS:
                self._take_table()

    def _is_wanted(self, content: DataFile) -> bool:
        return content.signal is self.signal and content.key not in self._copies

    def _take_table(self) -> None:
        if self._builder.rows:
            self._rows += self._builder.rows
            self._tables.append(self._builder.take_table(is_sorted=False))
