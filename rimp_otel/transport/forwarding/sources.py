"""Sources: the records that are to be forwarded, in portions, each with the position after it.

A portion's position goes into the cursor once the whole portion has been dealt with. So what a death
costs is that the records of one portion are sent again.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import count_records
from rimp_otel.storage.base import reading_errors
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import (
    DataFile,
    Line,
    OpenFile,
    open_data_file,
    read_lines,
)
from rimp_otel.storage.files.stored import list_stored
from rimp_otel.storage.forwarding import FilePosition, list_notes
from rimp_otel.transport.forwarding.cursor import Cursor

__all__ = [
    "FileSource",
    "Portion",
    "PortionLimits",
    "Source",
    "count_line_records",
    "intended_limits",
    "tail_of",
]

_TAIL = 64


class PortionLimits(NamedTuple):
    """How large a portion may become: the line that passes a limit begins the next portion."""

    #: Bytes of lines.
    size: int = 1024 * 1024
    records: int = 8_192


class Portion(NamedTuple):
    """Some of the records, in the order in which they lie there."""

    #: OTLP JSON without line ends; none where only the position moves on.
    lines: list[bytes]
    #: In all lines.
    records: int
    #: Where they lie: the same for the same portion, and for no other one.
    name: str = ""


class Source(Protocol):
    """Where the records of one signal come from. For one thread at a time."""

    @property
    def failure(self) -> str:
        """Why something was passed over that is there; empty if nothing was. It is tried again."""

    def next(self) -> Portion | None:
        """Return the next portion; None if there is nothing more now.

        Raises:
            StorageError: something cannot be read.
        """

    def take_damaged(self) -> int:
        """Return how many lines could not be read since the last call: nobody knows how many records
        were in them."""

    def commit(self) -> None:
        """Move the cursor behind the portion that was returned last. The caller saves the cursor."""

    def close(self) -> None:
        """Close what is open; the next portion continues behind the last one that was committed."""


class FileSource:
    """Reads the files of a recording, those with the oldest records first.

    Args:
        layout: of the recording.
        signal: whose records.
        cursor: where it stands; moved by ``commit``.
        limits: of a portion.
        once: True to read what is there at the first call, and nothing that comes later.
    """

    def __init__(
        self,
        layout: Layout,
        signal: Signal,
        cursor: Cursor,
        limits: PortionLimits = PortionLimits(),  # noqa: B008
        once: bool = False,
    ) -> None:
        self._layout = layout
        self._signal = signal
        self._cursor = cursor
        self._limits = limits
        self._left: list[DataFile] | None = None
        self._once = once
        self._reader: _FileReader | None = None
        self._next: tuple[str, FilePosition] | None = None
        self._damaged = 0
        #: Why a file was passed over; it is tried again with the next look at what there is.
        self.failure = ""

    def next(self) -> Portion | None:
        """Return the next portion; None if there is nothing more now.

        Raises:
            StorageError: a file cannot be read.
        """
        while True:
            reader = self._reader or self._open_next()
            if reader is None:
                return None
            try:
                portion = reader.read(intended_limits(self._cursor, self._limits))
            except BaseException:
                self._close_reader()  # it begins again where the cursor is
                raise
            self._damaged += reader.take_damaged()
            if portion is not None:
                self._next = reader.id, reader.position
                return portion
            self._close_reader()

    def take_damaged(self) -> int:
        """Return how many lines could not be read since the last call."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    def commit(self) -> None:
        """Move the cursor behind the last portion."""
        if self._next is not None:
            id, position = self._next
            self._cursor.files[id] = position
            self._next = None

    def close(self) -> None:
        """Close the file that is open."""
        self._close_reader()
        self._next = None

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _open_next(self) -> _FileReader | None:
        if self._left is None or not self._once:
            self.failure = ""
            self._left = self._list()
        while self._left:
            data_file = self._left.pop(0)
            position = self._cursor.files.get(data_file.id, FilePosition())
            if position.is_complete or data_file.limit == position.offset:
                continue
            try:
                found = open_data_file(data_file, self._layout.sealed)
            except StorageError as error:
                self.failure = str(error)
                continue
            if found is None:
                continue  # deleted; whoever did that has noted it
            self._reader = _FileReader(data_file, found, position, self._repeat)
            return self._reader
        return None

    def _repeat(self, position: FilePosition) -> None:
        self._cursor.repeated += position.records

    def _list(self) -> list[DataFile]:
        """Return what there is now; forget what is gone, and count what is gone too early."""
        found = list_stored(self._layout, self._signal)
        self.settle(found)
        return found

    def settle(self, found: Iterable[DataFile]) -> None:
        """Count the records of files that were deleted before all of them were forwarded.

        Not while such a file is being read: what is open is read to its end.

        Args:
            found: the files that are there.
        """
        there = {data_file.id for data_file in found}
        directory = self._cursor.path.parent
        with reading_errors(directory):
            notes = list(list_notes(directory, self._signal))
        gone = {*self._cursor.files, *(note.id for note in notes)} - there
        if gone:
            # A listing can miss a file that is renamed meanwhile; two in a row do not.
            gone -= {data_file.id for data_file in list_stored(self._layout, self._signal)}
        for note in notes:
            if note.id in gone and str(note) not in self._cursor.notes:
                before = self._cursor.files.get(note.id, FilePosition()).records
                ledger = self._cursor.ledger
                expired = ledger.expired + max(note.records - before, 0)
                self._cursor.ledger = ledger._replace(expired=expired)
                self._cursor.notes.append(str(note))
        for id in gone:
            self._cursor.files.pop(id, None)


class _FileReader:
    """Reads one file from a position on.

    Args:
        data_file: which.
        found: the file, open; closed by ``close``.
        position: where to begin. If the file is not what it was then, it is read from its start.
        repeat: called with the position in that case.
    """

    def __init__(
        self,
        data_file: DataFile,
        found: OpenFile,
        position: FilePosition,
        repeat: Callable[[FilePosition], None],
    ) -> None:
        self.id = data_file.id
        self._found = found
        self._is_whole = data_file.name is not None
        self._limit = data_file.limit
        self._damaged = 0
        self._line: Line | None = None
        self._is_done = False
        self.position = position
        if position.offset and not self._is_same(position):
            repeat(position)
            self.position = FilePosition()
        self._lines = self._read_from(self.position.offset)

    def close(self) -> None:
        """Close the file."""
        self._found.file.close()

    def take_damaged(self) -> int:
        """Return how many damaged lines there were since the last call."""
        damaged, self._damaged = self._damaged, 0
        return damaged

    def _is_same(self, position: FilePosition) -> bool:
        if not position.tail:  # behind what could not be read
            return True
        if self._found.compression == "none":
            size = int(position.tail.partition("-")[0] or 0)
            start = position.offset - size
            with reading_errors(self._found.path):
                text = os.pread(self._found.file.fileno(), size, start) if start >= 0 else b""
            return tail_of(text) == position.tail
        with reading_errors(self._found.path):
            for line in self._read_from(0):
                if line.end >= position.offset:
                    is_end = line.end == position.offset
                    return is_end and (line.text is None or tail_of(line.text) == position.tail)
        return False

    def _read_from(self, offset: int) -> Iterator[Line]:
        return read_lines(self._found, offset, 0, self._limit, self._found.is_sealed)

    def _peek(self) -> Line | None:
        if self._line is None:
            with reading_errors(self._found.path):
                self._line = next(self._lines, None)
        return self._line

    def read(self, limits: PortionLimits) -> Portion | None:
        """Return the next portion, and move behind it; None at the end."""
        if self._is_done:
            return None
        lines: list[bytes] = []
        size = records = 0
        position = self.position
        while (line := self._peek()) is not None:
            text = b"" if line.text is None else line.text.strip()
            count = count_line_records(text)
            if lines and (size + len(text) > limits.size or records + count > limits.records):
                break
            self._line = None
            if line.text is None or (text and not count):
                self._damaged += text != b"" or line.text is None
            if count:
                lines.append(text)
                size, records = size + len(text), records + count
            tail = tail_of(line.text) if line.text is not None else ""
            position = FilePosition(line.end, self.position.records + records, tail)
        self._is_done = line is None
        if self._is_done and self._is_whole:
            position = position._replace(is_complete=True)
        if position == self.position:
            return None
        start, self.position = self.position.offset, position
        return Portion(lines, records, f"{self.id}:{start}")


def intended_limits(cursor: Cursor, limits: PortionLimits) -> PortionLimits:
    """Return the limits of the next portion: of the one that a dead process was sending, if it noted that."""
    return PortionLimits(sys.maxsize, cursor.intended) if cursor.intended else limits


def tail_of(text: bytes) -> str:
    """Return the length and the checksum of the end of a text, to find out whether it is the same."""
    end = text[-_TAIL:]
    return f"{len(end)}-{zlib.crc32(end):08x}"


def count_line_records(text: bytes) -> int:
    """Return how many records a line has; 0 for one that cannot be read."""
    if not text:
        return 0
    try:
        return count_records(text)
    except DecodeError:
        return 0
