"""All records of a selection in the order of their times, in a memory that does not grow.

Files are not ordered by time, and overlap. Each stretch of a file has a range of times, though, so
that they can be read in the order in which those ranges begin: a record is given as soon as no
stretch that was not read can hold an earlier one. Until then it waits. Where too many wait (a few
spans that took hours make many ranges overlap), those of the stretch just read are forgotten, and
it is read again when their time has come.
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


# --- All records of a selection in the order of their times, in a memory that does not grow.

MAX_WAITING = 20_000
_MAX_OPEN = 16


def iterate_ordered(view: RecordingView, wanted: LineFilter) -> Iterator[TimedRecord]:
    """The records that are looked for, oldest first; of one time, in any order.

    Raises:
        StorageError: a file cannot be read.
    """
    with _OpenedFiles(view.snapshot) as opened:
        yield from _OrderedIteration(view, wanted, opened).run()


class _PendingChunk(NamedTuple):
    """Something to be read; no record of it that was not given yet is earlier than ``first``."""

    first: int
    #: Of its content, among all of the recording.
    order: int
    key: int
    #: None for a content that was not looked at yet.
    stretch: Chunk | None


class _OrderedIteration:
    def __init__(self, view: RecordingView, wanted: LineFilter, opened: _OpenedFiles) -> None:
        self._view = view
        self._wanted = wanted
        self._opened = opened
        self._contents = [*view.snapshot.sealed, *view.snapshot.active]
        self._parts: list[_PendingChunk] = []
        # Told apart by two numbers: records cannot be compared.
        self._waiting: list[tuple[int, int, int, TimedRecord]] = []
        self._count = 0
        for order, content in enumerate(self._contents):
            if wanted.may_want_from(content):
                first = content.name.first if content.name is not None else 0
                heappush(self._parts, _PendingChunk(first or 0, order, -1, None))
        for stretch in opened.journal.stretches(wanted.filter):
            self._add(len(self._contents), stretch)

    def run(self) -> Iterator[TimedRecord]:
        while self._parts:
            part = heappop(self._parts)
            if part.stretch is None:
                self._look_at(part.order)
            else:
                yield from self._read(part, part.stretch)
            yield from self._due()
        yield from self._due()

    def _due(self) -> Iterator[TimedRecord]:
        """What nothing earlier can follow."""
        until = self._parts[0].first if self._parts else None
        while self._waiting and (until is None or self._waiting[0][0] < until):
            yield heappop(self._waiting)[3]

    def _look_at(self, order: int) -> None:
        parts = self._opened.get(self._contents[order])
        for stretch in parts.stretches(self._wanted.filter) if parts else ():
            self._add(order, stretch)

    def _add(self, order: int, stretch: Chunk) -> None:
        if self._wanted.may_want(stretch.first, stretch.last):
            heappush(self._parts, _PendingChunk(stretch.first, order, stretch.key, stretch))

    def _read(self, part: _PendingChunk, stretch: Chunk) -> Iterator[TimedRecord]:
        is_full = len(self._waiting) >= MAX_WAITING and self._can_be_read_again(part, stretch)
        left = None
        for record in self._records(part.order, stretch):
            time = record[0]
            if time < part.first and part.first > stretch.first:
                continue  # was given when it was read before
            if time == part.first and is_full:
                yield record
            elif is_full and self._parts and time >= self._parts[0].first:
                left = time if left is None else min(left, time)
            else:
                self._count += 1
                heappush(self._waiting, (time, part.order, self._count, record))
        if left is not None:
            heappush(self._parts, part._replace(first=left))

    def _can_be_read_again(self, part: _PendingChunk, stretch: Chunk) -> bool:
        # What may be in a journal too is left out once, and would come the second time.
        is_certain = part.order >= len(self._contents) or self._contents[part.order].is_certain
        return is_certain and stretch.can_be_read_again

    def _records(self, order: int, stretch: Chunk) -> Iterator[TimedRecord]:
        content = self._contents[order] if order < len(self._contents) else None
        parts = self._opened.journal if content is None else self._opened.get(content)
        if parts is None:
            return  # deleted since
        selection = self._wanted.selection
        for _, data in self._view.read(content, parts, stretch, self._wanted):
            yield from select_with_times(selection, data)


class _OpenedFiles:
    """The contents that are open; of many, those that were used last. A context manager."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.journal = _JournalChunks(snapshot.journal)
        self._snapshot = snapshot
        self._open: OrderedDict[DataFile, tuple[ExitStack, ChunkedFile | None]] = OrderedDict()
        self._known: dict[DataFile, int] = {}

    def __enter__(self) -> _OpenedFiles:
        return self

    def __exit__(self, *error: object) -> None:
        while self._open:
            self._open.popitem()[1][0].close()

    def get(self, content: DataFile) -> ChunkedFile | None:
        """A content; None if it was deleted.

        Raises:
            StorageError: it cannot be read; or not be gone on with, since it was repaired meanwhile.
        """
        if content not in self._open:
            self._close_one()
            stack = ExitStack()
            parts = stack.enter_context(open_chunks(content, self._snapshot.open))
            self._open[content] = stack, parts
            if parts and self._known.setdefault(content, parts.file_id) != parts.file_id:
                raise StorageError(
                    f"cannot go on reading {content.path}: another file has taken its place; "
                    "begin again"
                )
        self._open.move_to_end(content)
        return self._open[content][1]

    def _close_one(self) -> None:
        # What is not sealed stays open: it may be cut otherwise when it is opened again.
        sealed = [c for c in self._open if c.name is not None and not c.name.is_waiting]
        if len(sealed) >= _MAX_OPEN:
            self._open.pop(sealed[0])[0].close()


class _JournalChunks:
    """What is in the journals."""

    file_id = 0

    def __init__(self, lines: list[JournalLine]) -> None:
        self._lines = lines

    def stretches(self, filter: Filter) -> list[Chunk]:
        found = []
        for number, line in enumerate(self._lines):
            facts = summarize_line(line.text)
            if line.signal in filter.signals and facts.may_match(filter):
                found.append(Chunk(facts.first, facts.last, number, 0, len(line.text)))
        return found

    def lines(self, stretch: Chunk, filter: Filter, may_want: MayWant) -> Iterator[Line]:
        yield Line(stretch.key, 0, self._lines[stretch.key].text)


# --- What ``FileStorage.retrieve`` does: the records that are selected, and little else is decoded.

_MIN_KEPT = 10_000


def retrieve_selected(view: RecordingView, selection: Selection) -> TelemetryData:
    """The records that are selected, oldest first.

    Raises:
        StorageError: a file cannot be read.
    """
    wanted = LineFilter(selection)
    if selection.limit is None:
        return _retrieve_all(view, wanted)
    # A time, the list that it belongs to, the record, and its line in the file.
    found: list[tuple[int, str, Any, int]] = []
    # What is certain not to be among the newest is let go of while reading.
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
    """The same without a limit, and so without more objects than the records themselves: with many
    of them, the garbage collector takes as long as all the rest."""
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
    """The same without a limit, in batches of so many, in a memory that does not grow.

    Raises:
        StorageError: a file cannot be read.
    """
    records = iterate_ordered(view, LineFilter(selection))
    while batch := list(islice(records, batch_size)):
        yield without_times(batch)


def _newest_in_file(
    records: list[tuple[int, str, Any, int]], selection: Selection
) -> list[tuple[int, str, Any, int]]:
    """Of a file's records, read in any order of lines; of one time, those of later lines."""
    records.sort(key=itemgetter(3))
    return keep_newest(selection, records)
