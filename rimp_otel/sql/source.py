"""What is recorded of one signal, for DuckDB to read: Parquet twins, and tables in memory.

Of each sealed file its twin is read, which is made where there is none. The rest (active files,
journals, what waits to be sealed) is decoded into memory by a reader that goes on where it
stopped, so that each record is there once. A sealed file that the reader has read is not read again
as a twin: only when it has read many records, it starts over, with the twins that there are then.
Records move forward only, from a journal to a file and so among the sealed ones; so what has
a twin before a reader begins is nowhere else when it looks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.sql.extras import pyarrow
from rimp_otel.sql.parquet import BUILDERS, is_readable, is_whole, make_twin, twin_path
from rimp_otel.storage.files.lines import Content, ContentId, list_contents
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.reading import count_line

__all__ = ["Progress", "Source"]

Progress = Callable[[Signal, int, int], None]
"""Told, before a sealed file is decoded: which signal, how many are done, and of how many."""

_MANY = 500_000
_MOST_ROWS = 100_000


class Source:
    """The records of one signal. Not safe for several threads.

    Args:
        path: of the recording.
        signal: which one.
        aside: where twins are made if they cannot be made beside the sealed files.
        progress: told what is done.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        signal: Signal,
        aside: Path,
        progress: Progress | None = None,
    ) -> None:
        self.signal = signal
        #: Lines that could not be read, of those that were decoded into memory.
        self.damaged = 0
        self._path = path
        self._aside = aside
        self._progress = progress
        self._builder = BUILDERS[signal]()
        self._begin()

    def _begin(self) -> None:
        self._recording = FileRecording(self._path, count_line)
        self._twins: dict[ContentId, Path] = {}
        self._tables: list[Any] = []
        self._rows = 0
        self._is_new = True

    def files(self) -> list[str]:
        """The paths of the twins."""
        return [str(path) for path in self._twins.values()]

    def table(self) -> Any:
        """What is in no twin."""
        if not self._tables:
            return BUILDERS[self.signal]().schema().empty_table()
        # The same columns, but each table has dictionaries of its own.
        return pyarrow.concat_tables(self._tables)

    def refresh(self) -> bool:
        """Takes in what was recorded since the last time; says whether there was anything.

        Raises:
            StorageError: something cannot be read.
        """
        sealed = self._sealed()
        if self._is_new or (self._rows > _MANY and any(c.key not in self._twins for c in sealed)):
            self.start_over()
            return True
        return self._read_on()

    def start_over(self) -> None:
        """Forgets what was read, and takes it in as it is now.

        Raises:
            StorageError: something cannot be read.
        """
        self._begin()
        self._is_new = False
        sealed = self._sealed()
        missing = {c.key for c in sealed if not is_whole(c, twin_path(c))}
        done = 0
        for content in sealed:
            if content.key in missing:
                if self._progress is not None:
                    self._progress(self.signal, done, len(missing))
                done += 1
            twin = self._twin_of(content, content.key in missing)
            if twin is not None:
                self._twins[content.key] = twin
        self._read_on()

    def discard_damaged(self) -> bool:
        """Deletes the twins that cannot be read; says whether one could not be, or was gone."""
        damaged = [path for path in self._twins.values() if not is_readable(path)]
        for path in damaged:
            path.unlink(missing_ok=True)
        return bool(damaged)

    def _sealed(self) -> list[Content]:
        return [
            content
            for content in list_contents(self._recording.layout.sealed)
            if content.signal is self.signal and content.name and not content.name.is_waiting
        ]

    def _twin_of(self, content: Content, is_missing: bool) -> Path | None:
        """The path of the twin; None where it is the reader that has to decode the file."""
        beside = twin_path(content)
        if not is_missing:
            return beside
        for path in (beside, twin_path(content, self._aside)):
            try:
                if is_whole(content, path) or make_twin(content, beside.parent, path):
                    return path
            except StorageError:
                return None  # the reader says what is wrong with it
            except OSError:
                continue  # no room, or a recording that is not ours to write to
        return None

    def _read_on(self) -> bool:
        before, builder = self._rows, self._builder
        for data in self._recording.poll(final=True, wanted=self._is_wanted):
            for line in data.otlp_json(self.signal):
                try:
                    builder.add(line)
                except DecodeError:
                    self.damaged += 1
                if builder.rows >= _MOST_ROWS:
                    self._take()
        self._take()
        self.damaged += len(self._recording.damaged)
        self._recording.damaged.clear()
        return self._rows > before

    def _is_wanted(self, content: Content) -> bool:
        return content.signal is self.signal and content.key not in self._twins

    def _take(self) -> None:
        if self._builder.rows:
            self._rows += self._builder.rows
            self._tables.append(self._builder.take(is_sorted=False))
