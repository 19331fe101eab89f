"""A recording in files, also while it is written.

A reader sees what is in active files, in sealed ones, and in the journals of living and of dead
processes, each record once, and changes nothing. ``snapshot`` says why that is so within one poll,
``lines`` and ``SeenRecords`` why it is so from one poll to the next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import (
    ALL_RECORDS,
    DamagedLine,
    RecordingFile,
    Selection,
    UnreadableError,
    reading_errors,
)
from rimp_otel.storage.files import query
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import (
    DataFile,
    FileKey,
    Line,
    OpenFile,
    find_last_line_end,
    list_data_files,
    read_lines,
)
from rimp_otel.storage.files.snapshot import Snapshot
from rimp_otel.storage.files.view import LineFilter, RecordingView
from rimp_otel.storage.reading import (
    Decode,
    LineDecoder,
    SeenRecords,
    list_files,
    list_journal_files,
)

__all__ = ["FileRecording"]


class _Position(NamedTuple):
    """The place up to which a file has been read."""

    offset: int = 0
    lines: int = 0
    #: True if there is nothing more to come.
    is_complete: bool = False


class FileRecording:
    """A recording in files: see ``rimp_otel.storage.Recording``.

    Args:
        path: as given to FileStorage. There need be nothing yet.
        decode: makes a batch of a line; ``decode_batch`` if None. ``count_line`` is ten
            times as fast.
    """

    def __init__(self, path: str | os.PathLike[str], decode: Decode | None = None) -> None:
        self.layout = Layout(path)
        self._decoder = LineDecoder(decode)
        self._positions: dict[FileKey, _Position] = {}
        self._seen = SeenRecords()
        #: What living processes had measured and not stored at the last poll: lines of data points,
        #: which no poll returns, since later ones replace them.
        self.measured: list[bytes] = []

    @property
    def path(self) -> Path:
        """The path that was passed, as a Path."""
        return self.layout.path

    @property
    def damaged(self) -> list[DamagedLine]:
        """Lines that were skipped so far, in the order in which they were met."""
        return self._decoder.damaged

    def files(self) -> list[RecordingFile]:
        """Return the files that are there.

        Of each signal the oldest come first, then the active ones by their slots; journals last.

        Raises:
            StorageError: the directory cannot be read.
        """
        slots = self.layout.slots()
        found: list[RecordingFile] = []
        try:
            sealed = list_data_files(self.layout.sealed)
        except UnreadableError:
            sealed = []  # which reading it names
        for signal in Signal:
            paths = [data_file.path for data_file in sealed if data_file.signal is signal]
            found += list_files(paths, "sealed", signal)
            found += list_files([self.layout.file(signal, n) for n in slots], "active", signal)
        return found + list_journal_files(self.layout)

    def retrieve(self, selection: Selection = ALL_RECORDS) -> TelemetryData:
        """Return the selected records, oldest first; little else is decoded.

        Raises:
            StorageError: a file cannot be read.
        """
        with RecordingView(self.layout, self._decoder) as view:
            return query.retrieve_selected(view, selection)

    def iter_retrieve(
        self,
        selection: Selection = ALL_RECORDS,
        batch_size: int = 1_000,
    ) -> Iterator[TelemetryData]:
        """Iterate over the selected records, oldest first, in batches of ``batch_size``.

        Raises:
            StorageError: a file cannot be read.
        """
        with RecordingView(self.layout, self._decoder) as view:
            yield from query.iter_retrieve_selected(view, selection, batch_size)

    def batches(
        self,
        selection: Selection = ALL_RECORDS,
        on_file: Callable[[], None] | None = None,
    ) -> Iterator[TelemetryData]:
        """Iterate over all that may be selected, a batch for each line, in any order.

        Raises:
            StorageError: a file cannot be read.
        """
        with RecordingView(self.layout, self._decoder) as view:
            for file in view.newest_first(LineFilter(selection)):
                for _, data in file:
                    yield data
                if on_file is not None:
                    on_file()

    def trace_ids(self, prefix: str) -> None:
        """Return None: the indexes of sealed files know whole ids only."""

    def poll(
        self,
        final: bool = False,
        signal: Signal | None = None,
        wanted: Callable[[DataFile], bool] | None = None,
    ) -> Iterator[TelemetryData]:
        """Iterate over what was recorded since the last poll, a batch for each line; over
        everything at first.

        Wherever a record lies and moves to, it is returned once. A poll that is broken off is
        continued by the next one. A file that was replaced or truncated is read from its start.

        Args:
            final: read a last line that does not end yet, too; one that cannot be read is damaged.
            signal: whose files to read; what the journals hold is returned anyway. None for all.
            wanted: returns True for those of them that are to be read; None for all.

        Raises:
            StorageError: a file cannot be read.
        """
        with Snapshot(self.layout, self._decoder) as snapshot:
            self._begin(snapshot)
            for data_file in [*snapshot.sealed, *snapshot.active]:
                if signal not in (None, data_file.signal):
                    continue
                if wanted is None or wanted(data_file):
                    yield from self._read(snapshot, data_file, final)
            yield from self._seen.fresh()
            self._end(snapshot)

    def skip(self) -> None:
        """Leave out what there is now, without reading it: polls return what comes after.

        Raises:
            StorageError: something cannot be read.
        """
        with Snapshot(self.layout, self._decoder) as snapshot:
            self._begin(snapshot)
            for data_file in [*snapshot.sealed, *snapshot.active]:
                found = snapshot.open(data_file)
                if found is not None:
                    with found.file, reading_errors(found.path):
                        self._positions[data_file.key] = _position_after(data_file, found)
            self._seen.skip()

    def position(self) -> Any:
        """Return how far the polls have come with the files: what JSON can hold."""
        return [[*key, *position] for key, position in self._positions.items()]

    def resume(self, position: Any) -> bool:
        """Go on where another object was; return False if that is no position.

        To be called before the first poll. What the journals held then is returned once more.

        Args:
            position: as ``position`` returned it.
        """
        try:
            self._positions = {
                (Signal(signal), str(id)): _Position(int(offset), int(lines), bool(is_complete))
                for signal, id, offset, lines, is_complete in position
            }
        except (TypeError, ValueError):
            return False
        return True

    def _begin(self, snapshot: Snapshot) -> None:
        self._seen.begin(snapshot.journal)
        self.measured = [line.text for line in snapshot.measured]

    def _end(self, snapshot: Snapshot) -> None:
        self._seen.end()
        there = {data_file.key for data_file in [*snapshot.sealed, *snapshot.active]}
        self._positions = {
            key: position for key, position in self._positions.items() if key in there
        }

    def _read(
        self, snapshot: Snapshot, data_file: DataFile, final: bool = False
    ) -> Iterator[TelemetryData]:
        position = self._positions.get(data_file.key, _Position())
        found = None if position.is_complete else snapshot.open(data_file)
        if found is None:
            return
        with found.file:
            for line in self._lines(data_file, found, position, final or found.is_sealed):
                data = self._decoder.decode_line(found.path, line.number, line.text, line.reason)
                data = data and self._seen.without_seen(data, data_file.is_certain)
                if data:
                    yield data
        if data_file.name is not None:
            position = self._positions.get(data_file.key, position)
            self._positions[data_file.key] = position._replace(is_complete=True)

    def _lines(
        self, data_file: DataFile, found: OpenFile, position: _Position, torn: bool
    ) -> Iterator[Line]:
        lines = read_lines(found, position.offset, position.lines, data_file.limit, torn)
        while True:
            try:
                with reading_errors(found.path):
                    line = next(lines, None)
            except UnreadableError as error:  # a part of it; the next poll tries again
                self._decoder.note_unreadable(error)
                return
            if line is None:
                return
            self._positions[data_file.key] = _Position(line.end, line.number)
            yield line


def _position_after(data_file: DataFile, found: OpenFile) -> _Position:
    """Return the position after everything that a file has now."""
    if data_file.name is not None or found.is_sealed:
        return _Position(is_complete=data_file.limit is None, offset=data_file.limit or 0)
    limit = data_file.limit
    if limit is None:
        limit = find_last_line_end(found.file, os.fstat(found.file.fileno()).st_size)
    return _Position(limit)
