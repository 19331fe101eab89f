"""Reading a recording, also one that is being written.

A reader sees what is in active files, in sealed ones, and in the journals of living and of dead
processes, each record once, and changes nothing. ``snapshot`` says why that is so within one poll,
``content`` and ``shown`` why it is from one poll to the next.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from heapq import heappush, heapreplace
from operator import attrgetter
from pathlib import Path
from typing import Literal, NamedTuple

from rimp_otel.batch import TelemetryData, batch_of_lines, decode_batch
from rimp_otel.errors import DecodeError
from rimp_otel.journal.reader import Damage
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import count_records, signal_of_line
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files.chunks import Stretch, Stretches, opened_stretches
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import (
    Content,
    ContentId,
    Found,
    Line,
    last_line_end,
    lines_of,
    list_contents,
    reading,
)
from rimp_otel.storage.files.snapshot import Shown, Snapshot

__all__ = ["DamagedLine", "RecordingFile", "RecordingReader", "Search", "counted"]


# --- What is still looked for while a recording is read: less and less, where there is a limit.

_NEVER = 2**64


class Search:
    """A selection, and how old the newest records are that were found so far."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        # Of the newest records, as many as the limit says; the oldest of them first.
        self._newest: list[int] = []

    @property
    def filter(self) -> Filter:
        """What the records must meet."""
        return self.selection.filter

    @property
    def is_limited(self) -> bool:
        """Whether to begin with the newest saves work."""
        return self.selection.limit is not None

    @property
    def takes_all(self) -> bool:
        """Whether there is nothing that could be left out."""
        selection = self.selection
        return not selection.filter and selection[:3] == (None, None, None)

    @property
    def since(self) -> int:
        """No record that is older than this is wanted any more: nanoseconds since the epoch."""
        limit = self.selection.limit
        if limit == 0:
            return _NEVER
        return self._newest[0] if limit is not None and len(self._newest) == limit else 0

    def may_want(self, first: int, last: int) -> bool:
        """Whether a record may be wanted whose time is in a range, both ends included."""
        start, end, _, _ = self.selection
        if (start is not None and last < start) or (end is not None and first >= end):
            return False
        return last >= self.since and first <= last

    def may_want_from(self, content: Content) -> bool:
        """Whether one may be wanted out of a content that is older than all that was read."""
        name = content.name
        if content.signal not in self.filter.signals:
            return False
        if name is None or name.first is None or name.last is None:
            return True
        # Of records of the same time, the newest are those that were found before.
        return self.may_want(name.first, name.last) and (name.last > self.since or not self.since)

    def found(self, time_unix_nano: int) -> None:
        """A record that is selected."""
        limit = self.selection.limit
        if limit is None:
            return
        if len(self._newest) < limit:
            heappush(self._newest, time_unix_nano)
        elif limit and time_unix_nano > self._newest[0]:
            heapreplace(self._newest, time_unix_nano)


# --- Reading a recording, also one that is being written.

_IN_JOURNAL = re.compile(r"[0-9]{6,}\.(?:seg|open|crash)(?:\.damaged)?", re.ASCII)

_REMEMBERED = 100

Kind = Literal["active", "sealed", "journal"]
"""What a file of a recording is."""


class RecordingFile(NamedTuple):
    """One file of a recording."""

    #: None of a journal's, which hold all of them.
    signal: Signal | None
    path: Path
    #: In bytes, when it was looked at.
    size: int
    kind: Kind = "active"


class DamagedLine(NamedTuple):
    """A line that was skipped."""

    path: Path
    #: Counted from 1, in the unpacked text; 0 in a journal, where ``reason`` has the place. A
    #: block of a sealed file that cannot be unpacked counts as one line.
    line: int
    reason: str


class _Place(NamedTuple):
    """How far a content has been read."""

    offset: int = 0
    lines: int = 0
    #: Whether there is nothing more to come.
    is_complete: bool = False


def counted(line: bytes) -> TelemetryData:
    """A batch of one OTLP JSON line that is only counted now, and decoded when asked for.

    Raises:
        DecodeError: it is not of OTLP JSON's shape.
    """
    return batch_of_lines(signal_of_line(line), [line], count_records(line))


class RecordingReader:
    """Reads a recording line by line, from where it stopped the last time. Changes nothing.

    Args:
        path: as given to FileStorage. There need be nothing yet.
        decode: makes a batch of a line; ``counted`` is ten times as fast as the usual one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        decode: Callable[[bytes], TelemetryData] = decode_batch,
    ) -> None:
        self.layout = Layout(path)
        #: Lines that were skipped so far, in the order in which they were met.
        self.damaged: list[DamagedLine] = []
        self._decode = decode
        self._places: dict[ContentId, _Place] = {}
        self._shown = Shown()
        self._in_journals: set[Damage] = set()

    def files(self) -> list[RecordingFile]:
        """The files that there are: of each signal those first that are the oldest, then the
        active ones by their slots; journals last.

        Raises:
            StorageError: it is not possible to look.
        """
        slots = self.layout.slots()
        found: list[RecordingFile] = []
        sealed = list_contents(self.layout.sealed)
        for signal in Signal:
            for content in sealed:
                if content.signal is signal:
                    found += _file(signal, content.path, "sealed")
            for slot in slots:
                found += _file(signal, self.layout.file(signal, slot), "active")
        for slot in slots:
            for path in _journal_files(self.layout.journal(slot)):
                found += _file(None, path, "journal")
        return found

    def poll(
        self, final: bool = False, wanted: Callable[[Content], bool] | None = None
    ) -> Iterator[TelemetryData]:
        """What has been recorded since the last poll, a batch for each line; everything at first.

        Wherever a record lies and moves to, it is given once. A poll that is broken off is gone
        on with by the next one. A file that was replaced or truncated is read from its start.

        Args:
            final: also read a last line that does not end yet; one that cannot be read is damaged.
            wanted: asked for each file, whether to read it; what the journals hold is given all
                the same.

        Raises:
            StorageError: a file cannot be read.
        """
        with Snapshot(self.layout) as snapshot:
            self._begin(snapshot)
            for content in [*snapshot.sealed, *snapshot.active]:
                if wanted is None or wanted(content):
                    yield from self._read(snapshot, content, final)
            yield from self._shown.fresh()
            self._end(snapshot)

    def newest_first(self, search: Search) -> Iterator[Iterator[tuple[int, TelemetryData]]]:
        """The lines that may hold what is looked for, a file at a time: journals, active files, and
        the sealed ones from the newest on; last lines that do not end yet included. Each with its
        number; with a limit, the newest first within a file too.

        It leaves out what is not looked for any more by the time that it gets there, and knows
        nothing of polls.

        Raises:
            StorageError: a file cannot be read.
        """
        with self.look() as snapshot:
            yield enumerate(self._shown.fresh())
            for content in [*reversed(snapshot.active), *reversed(snapshot.sealed)]:
                if search.may_want_from(content):
                    yield self._sought(snapshot, content, search)

    @contextmanager
    def look(self) -> Iterator[Snapshot]:
        """What there is now, for ``read``.

        Raises:
            StorageError: it is not possible to look.
        """
        with Snapshot(self.layout) as snapshot:
            self._begin(snapshot)
            yield snapshot

    def read(
        self, content: Content | None, parts: Stretches, stretch: Stretch, search: Search
    ) -> Iterator[tuple[int, TelemetryData]]:
        """The lines of a stretch that may hold what is looked for, with their numbers.

        Args:
            content: what it is a part of; None for the journals.
            parts: that, opened.
            stretch: one of its.
            search: what is looked for.

        Raises:
            StorageError: it cannot be read.
        """
        for line in parts.lines(stretch, search.filter, search.may_want):
            data = self._data_of(self.layout.path if content is None else content.path, line)
            if content is not None and data:
                data = self._shown.without(data, content.is_certain)
            if data:
                yield line.number, data

    def skip(self) -> None:
        """Leaves out what there is now, without reading it: polls give what comes after.

        Raises:
            StorageError: something cannot be read.
        """
        with Snapshot(self.layout) as snapshot:
            self._begin(snapshot)
            for content in [*snapshot.sealed, *snapshot.active]:
                found = snapshot.find(content)
                if found is not None:
                    with found.file, reading(found.path):
                        self._places[content.key] = _after(content, found)
            self._shown.skip()

    def _begin(self, snapshot: Snapshot) -> None:
        self._shown.begin(snapshot.journal)
        new = [damage for damage in snapshot.damaged if damage not in self._in_journals]
        self._in_journals = set(snapshot.damaged)
        self.damaged += [
            DamagedLine(damage.path, 0, f"at byte {damage.offset}: {damage.reason}")
            for damage in new
        ]

    def _end(self, snapshot: Snapshot) -> None:
        self._shown.end()
        there = {content.key for content in [*snapshot.sealed, *snapshot.active]}
        self._places = {key: place for key, place in self._places.items() if key in there}

    def _read(
        self, snapshot: Snapshot, content: Content, final: bool = False
    ) -> Iterator[TelemetryData]:
        place = self._places.get(content.key, _Place())
        found = None if place.is_complete else snapshot.find(content)
        if found is None:
            return
        with found.file:
            for line in self._lines(content, found, place, final or found.is_sealed):
                data = self._data_of(found.path, line)
                data = data and self._shown.without(data, content.is_certain)
                if data:
                    yield data
        if content.name is not None:
            place = self._places.get(content.key, place)
            self._places[content.key] = place._replace(is_complete=True)

    def _sought(
        self, snapshot: Snapshot, content: Content, search: Search
    ) -> Iterator[tuple[int, TelemetryData]]:
        with opened_stretches(content, snapshot.find, search.takes_all) as parts:
            if parts is None:
                return
            stretches = parts.stretches(search.filter)
            if search.is_limited:
                stretches.sort(key=attrgetter("last"), reverse=True)
            for stretch in stretches:
                if search.may_want(stretch.first, stretch.last):
                    yield from self.read(content, parts, stretch, search)

    def _lines(self, content: Content, found: Found, place: _Place, torn: bool) -> Iterator[Line]:
        lines = lines_of(found, place.offset, place.lines, content.limit, torn)
        while True:
            with reading(found.path):
                line = next(lines, None)
            if line is None:
                return
            self._places[content.key] = _Place(line.end, line.number)
            yield line

    def _data_of(self, path: Path, line: Line) -> TelemetryData | None:
        reason = line.reason
        if line.text is not None:
            text = line.text.strip()
            if not text:
                return None
            try:
                return self._decode(text)
            except DecodeError as error:
                reason = error.reason
        damaged = DamagedLine(path, line.number, reason)
        if damaged not in self.damaged[-_REMEMBERED:]:  # a stretch may be read twice
            self.damaged.append(damaged)
        return None


def _after(content: Content, found: Found) -> _Place:
    """The place after all that a content has now."""
    if content.name is not None or found.is_sealed:
        return _Place(is_complete=content.limit is None, offset=content.limit or 0)
    limit = content.limit
    if limit is None:
        limit = last_line_end(found.file, os.fstat(found.file.fileno()).st_size)
    return _Place(limit)


def _file(signal: Signal | None, path: Path, kind: Kind) -> Iterable[RecordingFile]:
    with reading(path):
        try:
            return [RecordingFile(signal, path, path.stat().st_size, kind)]
        except FileNotFoundError:
            return []  # rotated, sealed or deleted since


def _journal_files(journal: Path) -> list[Path]:
    with reading(journal):
        try:
            names = os.listdir(journal)
        except FileNotFoundError:
            return []
    return [journal / name for name in sorted(names) if _IN_JOURNAL.fullmatch(name)]
