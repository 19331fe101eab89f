"""Chunks of a file: which of its lines can hold what is asked for.

A file is divided into chunks, each of which is read at once: a block of a sealed file, or a line of
one that is not compressed. What is known of a chunk without decoding it, from the index or by a
quick look at the line, says whether it is read at all. With neither (a damaged file), all of it is
one chunk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple, Protocol

from rimp_otel.models.filters import Filter
from rimp_otel.otlp.scan import LATEST, summarize_line
from rimp_otel.storage.base import reading_errors
from rimp_otel.storage.files.blocks import Gap, decompress
from rimp_otel.storage.files.index import (
    DamagedIndexError,
    IndexRow,
    SealedFileIndex,
    build_index,
    open_index,
)
from rimp_otel.storage.files.layout import SealedName
from rimp_otel.storage.files.lines import DataFile, Line, OpenFile, read_lines

__all__ = ["Chunk", "ChunkedFile", "open_chunks"]

MayWant = Callable[[int, int], bool]
"""Returns True if a record of a time in the range can be wanted, both ends included."""


class Chunk(NamedTuple):
    """Some lines that are read at once, and the range of their records' times."""

    first: int
    last: int
    #: Its number, in the order of the file.
    key: int
    #: In the file, for a line.
    offset: int = 0
    #: In the file, in bytes; 0 for a whole file.
    size: int = 0

    @property
    def can_be_read_again(self) -> bool:
        """True if reading it a second time is cheap."""
        return self.size > 0


class ChunkedFile(Protocol):
    """A data file that is open, divided into chunks."""

    @property
    def file_id(self) -> int:
        """The inode, which tells the file from one that has taken its name."""

    def chunks(self, filter: Filter) -> list[Chunk]:
        """Return the chunks that can hold a matching record, in their order."""

    def lines(self, chunk: Chunk, filter: Filter, may_want: MayWant) -> Iterator[Line]:
        """Iterate over the lines of a chunk that can hold a wanted and matching record, and over
        damaged ones."""


@contextmanager
def open_chunks(
    data_file: DataFile, find: Callable[[DataFile], OpenFile | None], as_one: bool = False
) -> Iterator[ChunkedFile | None]:
    """Open a data file and divide it into chunks; yield None if it was deleted.

    Args:
        data_file: the file.
        find: opens it.
        as_one: True for a single chunk, since all of it will be read.

    Raises:
        StorageError: it cannot be read.
    """
    found = find(data_file)
    if found is None:
        yield None
        return
    with found.file:
        name = SealedName.parse(found.path.name) if found.is_sealed else None
        if name is None or name.is_waiting:
            limit = data_file.limit
            yield _UndividedFile(found, limit) if as_one else _PlainFile(found, limit)
        elif as_one or data_file.limit is not None:  # the latter was sealed since it was looked at
            yield _UndividedFile(found, data_file.limit)
        else:
            with open_index(found.path, name) as index:
                yield _by_index(found, index) or _UndividedFile(found, None)


def _by_index(found: OpenFile, index: SealedFileIndex | None) -> ChunkedFile | None:
    try:
        if index is not None and index.head.size == os.fstat(found.file.fileno()).st_size:
            try:
                index.blocks  # noqa: B018 - raises if they cannot be read
                return None if index.is_blank else _IndexedFile(found, index)
            except DamagedIndexError:
                pass
        made = SealedFileIndex.of_bytes(build_index(found.file, found.compression))
    except OSError:
        return None  # reading the file says why
    return None if made.is_blank else _IndexedFile(found, made)


class _OpenedFile:
    """A data file that is open."""

    def __init__(self, found: OpenFile) -> None:
        self._found = found

    @property
    def file_id(self) -> int:
        return os.fstat(self._found.file.fileno()).st_ino


class _IndexedFile(_OpenedFile):
    """A sealed file with an index."""

    def __init__(self, found: OpenFile, index: SealedFileIndex) -> None:
        super().__init__(found)
        self._index = index

    def chunks(self, filter: Filter) -> list[Chunk]:
        try:
            numbers = self._index.candidates(filter)
        except DamagedIndexError:
            numbers = list(range(self._index.head.blocks))
        blocks = self._index.blocks
        return [
            Chunk(blocks[i].first, blocks[i].last, i, blocks[i].offset, blocks[i].compressed)
            for i in numbers
        ]

    def lines(self, chunk: Chunk, filter: Filter, may_want: MayWant) -> Iterator[Line]:
        block = self._index.blocks[chunk.key]
        text = self._text(block.offset, block.compressed)
        if isinstance(text, Gap):
            yield Line(block.number, 0, None, text.reason)
            return
        rows = self._rows(chunk.key)
        if rows is None or sum(row.size for row in rows) != len(text):
            for number, line in enumerate(BytesIO(text), block.number):
                yield Line(number, 0, line)
            return
        end = 0
        for number, row in enumerate(rows, block.number):
            start, end = end, end + row.size
            if may_want(row.first, row.last) and _may_match(filter, text, start, end):
                yield Line(number, 0, text[start:end])

    def _text(self, offset: int, size: int) -> bytes | Gap:
        with reading_errors(self._found.path):
            compressed = os.pread(self._found.file.fileno(), size, offset)
        if self._found.compression == "none":
            return compressed
        pieces = list(decompress(compressed, self._found.compression))
        gap = next((piece for piece in pieces if isinstance(piece, Gap)), None)
        if gap is not None:
            return Gap(offset, 0, f"bytes {offset} to {offset + size} cannot be decompressed")
        return b"".join(piece for piece in pieces if isinstance(piece, bytes))

    def _rows(self, number: int) -> list[IndexRow] | None:
        try:
            return self._index.rows(number)
        except DamagedIndexError:
            return None


def _may_match(filter: Filter, text: bytes, start: int, end: int) -> bool:
    # All records of a file are of one signal, which has been looked at.
    return not filter.has_conditions or summarize_line(text[start:end]).may_match(filter)


class _PlainFile(_OpenedFile):
    """A file that is not compressed, and has no index."""

    def __init__(self, found: OpenFile, limit: int | None) -> None:
        super().__init__(found)
        self._limit = limit

    def chunks(self, filter: Filter) -> list[Chunk]:
        made = []
        with reading_errors(self._found.path):
            for line in read_lines(self._found, 0, 0, self._limit, torn=True):
                text = line.text or b""
                summary = summarize_line(text)
                if summary.may_match(filter):
                    start = line.end - len(text)
                    made.append(Chunk(summary.first, summary.last, line.number, start, len(text)))
        return made

    def lines(self, chunk: Chunk, filter: Filter, may_want: MayWant) -> Iterator[Line]:
        with reading_errors(self._found.path):
            text = os.pread(self._found.file.fileno(), chunk.size, chunk.offset)
        yield Line(chunk.key, chunk.offset + chunk.size, text)


class _UndividedFile(_OpenedFile):
    """A file of which nothing is known beforehand."""

    def __init__(self, found: OpenFile, limit: int | None) -> None:
        super().__init__(found)
        self._limit = limit

    def chunks(self, filter: Filter) -> list[Chunk]:
        return [Chunk(0, LATEST, 0)]

    def lines(self, chunk: Chunk, filter: Filter, may_want: MayWant) -> Iterator[Line]:
        with reading_errors(self._found.path):
            yield from read_lines(self._found, 0, 0, self._limit, torn=True)
