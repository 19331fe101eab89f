"""One look at a recording in files, to answer one question."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappush, heapreplace
from operator import attrgetter

from rimp_otel.batch import TelemetryData
from rimp_otel.models.filters import Filter
from rimp_otel.storage.base import Selection, UnreadableError, takes_all
from rimp_otel.storage.files.chunks import Chunk, ChunkedFile, open_chunks
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import DataFile, Line
from rimp_otel.storage.files.snapshot import Snapshot
from rimp_otel.storage.reading import LineDecoder, SeenRecords

__all__ = ["LineFilter", "RecordingView"]

_NEVER = 2**64


class LineFilter:
    """Which lines can hold a selected record, by their times: with a limit, fewer and fewer.

    It knows how old the newest records are that were found so far.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        # Of the newest records, as many as the limit says; the oldest of them first.
        self._newest: list[int] = []

    @property
    def filter(self) -> Filter:
        """The conditions that the records must meet."""
        return self.selection.filter

    @property
    def is_limited(self) -> bool:
        """True if to begin with the newest saves work."""
        return self.selection.limit is not None

    @property
    def since(self) -> int:
        """The time, in nanoseconds since the epoch, before which no record is wanted any more."""
        limit = self.selection.limit
        if limit == 0:
            return _NEVER
        return self._newest[0] if limit is not None and len(self._newest) == limit else 0

    def may_want(self, first: int, last: int) -> bool:
        """Return True if a record of a time from ``first`` to ``last``, both included, can be
        wanted."""
        if not self.selection.window.overlaps(first, last):
            return False
        return last >= self.since and first <= last

    def may_want_from(self, data_file: DataFile) -> bool:
        """Return True if a record of a file can be wanted that is older than all that was read."""
        name = data_file.name
        if data_file.signal not in self.filter.signals:
            return False
        if name is None or name.first is None or name.last is None:
            return True
        # Of records of the same time, the newest are those that were found before.
        return self.may_want(name.first, name.last) and (name.last > self.since or not self.since)

    def add(self, time_unix_nano: int) -> None:
        """Note the time of a selected record that was found."""
        limit = self.selection.limit
        if limit is None:
            return
        if len(self._newest) < limit:
            heappush(self._newest, time_unix_nano)
        elif limit and time_unix_nano > self._newest[0]:
            heapreplace(self._newest, time_unix_nano)


class RecordingView:
    """One look at a recording in files. A context manager: it holds some of the files open.

    Args:
        layout: of the recording.
        decoder: makes batches of lines, and notes damaged ones.

    Raises:
        StorageError: something cannot be read.
    """

    def __init__(self, layout: Layout, decoder: LineDecoder) -> None:
        self._layout = layout
        self._decoder = decoder
        self._seen = SeenRecords()
        self.snapshot = Snapshot(layout, decoder)
        self._seen.begin(self.snapshot.in_journals)

    def __enter__(self) -> RecordingView:
        return self

    def __exit__(self, *error: object) -> None:
        self.snapshot.__exit__(*error)

    def newest_first(self, wanted: LineFilter) -> Iterator[Iterator[tuple[int, TelemetryData]]]:
        """Iterate over the files, each as an iterator over its lines that can hold a wanted record.

        The journals come first, then active files, then sealed ones from the newest on; last lines
        that do not end yet are included. Each line comes with its number; with a limit, the newest
        first within a file too. What ``wanted`` does not want any more by then is left out.

        Raises:
            StorageError: a file cannot be read.
        """
        yield enumerate(self._seen.fresh())
        for data_file in [*reversed(self.snapshot.active), *reversed(self.snapshot.sealed)]:
            if wanted.may_want_from(data_file):
                yield self._lines_in(data_file, wanted)

    def _lines_in(
        self, data_file: DataFile, wanted: LineFilter
    ) -> Iterator[tuple[int, TelemetryData]]:
        is_all = takes_all(wanted.selection)
        with open_chunks(data_file, self.snapshot.open, is_all) as chunked:
            chunks = self.chunks(chunked, wanted)
            if chunked is None or not chunks:
                return
            if wanted.is_limited:
                chunks.sort(key=attrgetter("last"), reverse=True)
            for chunk in chunks:
                if wanted.may_want(chunk.first, chunk.last):
                    yield from self.read(data_file, chunked, chunk, wanted)

    def chunks(self, chunked: ChunkedFile | None, wanted: LineFilter) -> list[Chunk]:
        """Return the chunks of a file that can hold a wanted record; none of one that cannot be read."""
        try:
            return chunked.chunks(wanted.filter) if chunked else []
        except UnreadableError as error:
            self._decoder.note_unreadable(error)
            return []

    def read(
        self, data_file: DataFile | None, chunked: ChunkedFile, chunk: Chunk, wanted: LineFilter
    ) -> Iterator[tuple[int, TelemetryData]]:
        """Iterate over the lines of a chunk that can hold a wanted record, with their numbers.

        Args:
            data_file: the file that it is a part of; None for the journals.
            chunked: that file, opened.
            chunk: one of its chunks.
            wanted: which lines.
        """
        path = self._layout.path if data_file is None else data_file.path
        for line in self._readable(chunked.lines(chunk, wanted.filter, wanted.may_want)):
            data = self._decoder.decode_line(path, line.number, line.text, line.reason)
            if data_file is not None and data:
                data = self._seen.without_seen(data, data_file.is_certain)
            if data:
                yield line.number, data

    def _readable(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Iterate over lines as far as they can be read."""
        try:
            yield from lines
        except UnreadableError as error:
            self._decoder.note_unreadable(error)
