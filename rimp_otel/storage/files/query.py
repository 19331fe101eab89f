"""Questions to a recording in files: the newest records, all records, or all of them in order.

Files are not ordered by time, and overlap. Each chunk of a file has a range of times, though, so
that they can be read in the order in which those ranges begin: a record is returned as soon as no
chunk that was not read can hold an earlier one. Until then it waits. Where too many wait (a few
spans that took hours make many ranges overlap), those of the chunk just read are forgotten, and it
is read again when their time has come. So the memory does not grow with the recording.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from heapq import heappop, heappush
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import StorageError
from rimp_otel.models.filters import Filter
from rimp_otel.otlp.scan import summarize_line
from rimp_otel.storage.base import (
    TIMES,
    Selection,
    TimedRecord,
    keep_newest,
    select_list,
    select_with_times,
    without_times,
)
from rimp_otel.storage.files.chunks import Chunk, ChunkedFile, MayWant, open_chunks
from rimp_otel.storage.files.lines import DataFile, Line
from rimp_otel.storage.files.snapshot import Snapshot
from rimp_otel.storage.files.view import LineFilter, RecordingView
from rimp_otel.storage.reading import JournalLine

__all__ = ["iter_retrieve_selected", "iterate_ordered", "retrieve_selected"]


MAX_WAITING = 20_000
_MAX_OPEN = 16


def iterate_ordered(view: RecordingView, wanted: LineFilter) -> Iterator[TimedRecord]:
    """Iterate over the wanted records, oldest first; those of one time come in any order.

    Raises:
        StorageError: a file cannot be read.
    """
    with _OpenedFiles(view.snapshot) as opened:
        yield from _OrderedIteration(view, wanted, opened).run()


class _PendingChunk(NamedTuple):
    """Something to be read, with no earlier unreturned record than ``first``."""

    first: int
    #: The number of its file, among all of the recording.
    order: int
    key: int
    #: None for a file that was not looked at yet.
    chunk: Chunk | None


class _OrderedIteration:
    def __init__(self, view: RecordingView, wanted: LineFilter, opened: _OpenedFiles) -> None:
        self._view = view
        self._wanted = wanted
        self._opened = opened
        self._data_files = [*view.snapshot.sealed, *view.snapshot.active]
        self._pending: list[_PendingChunk] = []
        # Told apart by two numbers: records cannot be compared.
        self._waiting: list[tuple[int, int, int, TimedRecord]] = []
        self._count = 0
        for order, data_file in enumerate(self._data_files):
            if wanted.may_want_from(data_file):
                first = data_file.name.first if data_file.name is not None else 0
                heappush(self._pending, _PendingChunk(first or 0, order, -1, None))
        for chunk in opened.journal.chunks(wanted.filter):
            self._add(len(self._data_files), chunk)

    def run(self) -> Iterator[TimedRecord]:
        while self._pending:
            pending = heappop(self._pending)
            if pending.chunk is None:
                self._look_at(pending.order)
            else:
                yield from self._read(pending, pending.chunk)
            yield from self._due()
        yield from self._due()

    def _due(self) -> Iterator[TimedRecord]:
        """Yield the records that nothing earlier can follow."""
        until = self._pending[0].first if self._pending else None
        while self._waiting and (until is None or self._waiting[0][0] < until):
            yield heappop(self._waiting)[3]

    def _look_at(self, order: int) -> None:
        chunked = self._opened.get(self._data_files[order])
        for chunk in self._view.chunks(chunked, self._wanted):
            self._add(order, chunk)

    def _add(self, order: int, chunk: Chunk) -> None:
        if self._wanted.may_want(chunk.first, chunk.last):
            heappush(self._pending, _PendingChunk(chunk.first, order, chunk.key, chunk))

    def _read(self, pending: _PendingChunk, chunk: Chunk) -> Iterator[TimedRecord]:
        is_full = len(self._waiting) >= MAX_WAITING and self._can_be_read_again(pending, chunk)
        left = None
        for record in self._records(pending.order, chunk):
            time = record[0]
            if time < pending.first and pending.first > chunk.first:
                continue  # was returned when it was read before
            if time == pending.first and is_full:
                yield record
            elif is_full and self._pending and time >= self._pending[0].first:
                left = time if left is None else min(left, time)
            else:
                self._count += 1
                heappush(self._waiting, (time, pending.order, self._count, record))
        if left is not None:
            heappush(self._pending, pending._replace(first=left))

    def _can_be_read_again(self, pending: _PendingChunk, chunk: Chunk) -> bool:
        # What may be in a journal too is left out once, and would come the second time.
        is_certain = (
            pending.order >= len(self._data_files) or self._data_files[pending.order].is_certain
        )
        return is_certain and chunk.can_be_read_again

    def _records(self, order: int, chunk: Chunk) -> Iterator[TimedRecord]:
        data_file = self._data_files[order] if order < len(self._data_files) else None
        chunked = self._opened.journal if data_file is None else self._opened.get(data_file)
        if chunked is None:
            return  # deleted since
        selection = self._wanted.selection
        for _, data in self._view.read(data_file, chunked, chunk, self._wanted):
            yield from select_with_times(selection, data)


class _OpenedFiles:
    """The data files that are open; of many, those that were used last. A context manager."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.journal = _JournalChunks(snapshot.in_journals)
        self._snapshot = snapshot
        self._open: OrderedDict[DataFile, tuple[ExitStack, ChunkedFile | None]] = OrderedDict()
        self._known: dict[DataFile, int] = {}

    def __enter__(self) -> _OpenedFiles:
        return self

    def __exit__(self, *error: object) -> None:
        while self._open:
            self._open.popitem()[1][0].close()

    def get(self, data_file: DataFile) -> ChunkedFile | None:
        """Return an open file; None if it was deleted, or cannot be read.

        Raises:
            StorageError: it cannot be read, or was replaced in a repair meanwhile.
        """
        if data_file not in self._open:
            self._close_one()
            stack = ExitStack()
            chunked = stack.enter_context(open_chunks(data_file, self._snapshot.open))
            self._open[data_file] = stack, chunked
            if chunked and self._known.setdefault(data_file, chunked.file_id) != chunked.file_id:
                raise StorageError(
                    f"cannot go on reading {data_file.path}: another file has taken its place; "
                    "begin again"
                )
        self._open.move_to_end(data_file)
        return self._open[data_file][1]

    def _close_one(self) -> None:
        # What is not sealed stays open: it may be cut otherwise when it is opened again.
        sealed = [c for c in self._open if c.name is not None and not c.name.is_waiting]
        if len(sealed) >= _MAX_OPEN:
            self._open.pop(sealed[0])[0].close()


class _JournalChunks:
    """The lines that are in the journals, each of them a chunk."""

    file_id = 0

    def __init__(self, lines: list[JournalLine]) -> None:
        self._lines = lines

    def chunks(self, filter: Filter) -> list[Chunk]:
        found = []
        for number, line in enumerate(self._lines):
            summary = summarize_line(line.text)
            if line.signal in filter.signals and summary.may_match(filter):
                found.append(Chunk(summary.first, summary.last, number, 0, len(line.text)))
        return found

    def lines(self, chunk: Chunk, filter: Filter, may_want: MayWant) -> Iterator[Line]:
        yield Line(chunk.key, 0, self._lines[chunk.key].text)


# --- The selected records, decoding little else.

_MIN_KEPT = 10_000


def retrieve_selected(view: RecordingView, selection: Selection) -> TelemetryData:
    """Return the selected records, oldest first.

    Raises:
        StorageError: a file cannot be read.
    """
    wanted = LineFilter(selection)
    if selection.limit is None:
        return _retrieve_all(view, wanted)
    # A time, the list that it belongs to, the record, and its line in the file.
    found: list[tuple[int, str, Any, int]] = []
    # What is certain not to be among the newest is dropped while reading.
    most = max(4 * selection.limit, _MIN_KEPT)
    for source in view.newest_first(wanted):
        older: list[tuple[int, str, Any, int]] = []
        for number, data in source:
            for record in select_with_times(selection, data):
                older.append((*record, number))
                wanted.add(record[0])
            if len(older) > most:
                older = _newest_in_file(older, selection)
        found[:] = keep_newest(selection, _newest_in_file(older, selection) + found)
    return without_times([record[:3] for record in found])


def _retrieve_all(view: RecordingView, wanted: LineFilter) -> TelemetryData:
    """Return all selected records, without a limit and so without any objects but the records.

    With many objects, the garbage collector takes as long as everything else.
    """
    selection = wanted.selection
    found: dict[str, list[list[Any]]] = {name: [] for name in TIMES}
    for source in view.newest_first(wanted):
        own: dict[str, list[Any]] = {name: [] for name in TIMES}
        for _, data in source:
            for name, records in own.items():
                records += select_list(selection, name, data)
        for name, records in own.items():
            found[name].append(records)
    lists = {name: list(chain.from_iterable(reversed(found[name]))) for name in TIMES}
    for name, time in TIMES.items():
        lists[name].sort(key=time)
    return TelemetryData(**lists)


def iter_retrieve_selected(
    view: RecordingView, selection: Selection, batch_size: int
) -> Iterator[TelemetryData]:
    """Iterate over the selected records, oldest first, in batches of ``batch_size``.

    Raises:
        StorageError: a file cannot be read.
    """
    records = iterate_ordered(view, LineFilter(selection))
    while batch := list(islice(records, batch_size)):
        yield without_times(batch)


def _newest_in_file(
    records: list[tuple[int, str, Any, int]], selection: Selection
) -> list[tuple[int, str, Any, int]]:
    """Return the newest of a file's records, read in any order; of one time, those of later lines."""
    records.sort(key=itemgetter(3))
    return keep_newest(selection, records)
