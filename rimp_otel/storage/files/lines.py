"""The contents of a recording: what one file after another holds, wherever that lies by now.

A content is known by its signal and the fingerprint of its first line, which stay when its file is
rotated and when it is sealed. So a reader that has read a part of it goes on where it stopped.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rimp_otel.models.records import Signal
from rimp_otel.storage.base import reading_errors
from rimp_otel.storage.files.blocks import Gap, decompress
from rimp_otel.storage.files.layout import SealedName, fingerprint

__all__ = [
    "DataFile",
    "FileKey",
    "Line",
    "OpenFile",
    "find_last_line_end",
    "fingerprint_of",
    "list_data_files",
    "open_data_file",
    "open_regular_file",
    "read_lines",
    "rotated_lines_since",
]

FileKey = tuple[Signal, str]
"""What a content is known by: its signal, and its fingerprint."""

# A pipe of that name must not keep the reader waiting.
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_FLAGS |= getattr(os, "O_BINARY", 0)
_BLOCK = 64 * 1024
_ATTEMPTS = 10


class DataFile(NamedTuple):
    """What one file holds, or held when it was looked at."""

    signal: Signal
    #: The fingerprint of its first line.
    id: str
    #: Where it was.
    path: Path
    #: None of an active file.
    name: SealedName | None = None
    #: Bytes of its text that count; what follows is in the journal. None for all.
    limit: int | None = None
    #: Whether no record in it can also be among those of the journals that were read with it.
    is_certain: bool = True

    @property
    def key(self) -> FileKey:
        """What it is known by."""
        return self.signal, self.id


class OpenFile(NamedTuple):
    """Where a content is now."""

    path: Path
    file: BinaryIO
    #: How it is packed: "zstd", "gzip" or "none".
    compression: str
    is_sealed: bool


class Line(NamedTuple):
    """A line of a content."""

    #: Counted from 1.
    number: int
    #: Where it ends in the text, in bytes.
    end: int
    #: With its end, if it has one; None in the place of what cannot be read.
    text: bytes | None
    #: Why it cannot be read.
    reason: str = ""


def open_regular_file(path: Path) -> BinaryIO | None:
    """Opens a file; None where there is none.

    Raises:
        StorageError: it cannot be read, or is something else than a file.
    """
    with reading_errors(path):
        try:
            file = os.open(path, _FLAGS)
        except FileNotFoundError:
            return None
        mode = os.fstat(file).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(file, "rb", _BLOCK)
        os.close(file)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "Not a regular file")


def list_data_files(sealed: Path) -> list[DataFile]:
    """The contents in the directory of sealed files, those first whose records are the oldest;
    each once, also while it is being sealed. Those that wait to be sealed come last.

    Raises:
        StorageError: it is not possible to look.
    """
    with reading_errors(sealed):
        try:
            with os.scandir(sealed) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return []
    found: dict[FileKey, DataFile] = {}
    for _, content in sorted(filter(None, [_parse_sealed_name(sealed, name) for name in names])):
        found.setdefault(content.key, content)
    return list(found.values())


_Age = tuple[bool, int, int, str]


@lru_cache(maxsize=16_384)  # whoever follows a recording lists the same names all the time
def _parse_sealed_name(sealed: Path, name: str) -> tuple[_Age, DataFile] | None:
    parsed = SealedName.parse(name)
    if parsed is None:
        return None
    age = (parsed.is_waiting, parsed.last or 0, parsed.first or 0, name)
    return age, DataFile(parsed.signal, parsed.id, sealed / name, parsed)


def open_data_file(content: DataFile, sealed: Path) -> OpenFile | None:
    """Opens the file that a content lies in now; None if it was deleted.

    Raises:
        StorageError: it cannot be read.
    """
    for _ in range(_ATTEMPTS):
        file = open_regular_file(content.path)
        if file is not None:
            if _has_fingerprint(content, file):
                compression = content.name.compression if content.name else "none"
                return OpenFile(content.path, file, compression, content.name is not None)
            file.close()
        # It has been rotated, or sealed; or it was, and what it became was just being replaced.
        later = {found.key: found for found in list_data_files(sealed)}.get(content.key)
        if later is None or later.path == content.path:
            return None
        content = later
    return None


def _has_fingerprint(content: DataFile, file: BinaryIO) -> bool:
    with reading_errors(content.path):
        return content.name is not None or fingerprint_of(file) == content.id


def fingerprint_of(file: BinaryIO) -> str | None:
    """Of an active file, also before its first line has ended; None of an empty one."""
    file.seek(0)
    line = file.readline()
    return fingerprint(line) if line else None


def find_last_line_end(file: BinaryIO, size: int) -> int:
    """Where the last whole line ends that lies within the first ``size`` bytes."""
    while size > 0:
        start = max(size - _BLOCK, 0)
        at = os.pread(file.fileno(), size - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        size = start
    return 0


def read_lines(
    found: OpenFile, offset: int, number: int, limit: int | None, torn: bool
) -> Iterator[Line]:
    """The lines from a place on.

    Args:
        found: where they lie. What is appended from now on is not read.
        offset: where the first of them begins in the text.
        number: of the line before it.
        limit: where the last of them ends in the text, at the latest; None for no limit.
        torn: whether to give a last line without an end.
    """
    if found.compression == "none":
        lines = _plain_lines(found.file, offset, number)
    else:
        lines = _compressed_lines(found, offset)
    for line in lines:
        if limit is not None and line.end > limit:
            return
        if line.text is not None and not line.text.endswith(b"\n") and not torn:
            return
        yield line


def _plain_lines(file: BinaryIO, offset: int, number: int) -> Iterator[Line]:
    size = os.fstat(file.fileno()).st_size
    # Cut off, since a torn line at its end has been repaired.
    offset = min(offset, size)
    file.seek(offset)
    while offset < size:
        text = file.readline()
        if not text:
            return
        offset, number = offset + len(text), number + 1
        yield Line(number, offset, text)


def _compressed_lines(found: OpenFile, since: int) -> Iterator[Line]:
    found.file.seek(0)
    packed = found.file.read()
    for line in _lines_in(decompress(packed, found.compression)):
        if line.end > since or (line.text is None and line.end == since):
            yield line


def _lines_in(pieces: Iterable[bytes | Gap]) -> Iterator[Line]:
    """Lines of unpacked blocks: usually they end with the blocks, but need not."""
    rest, offset, number = b"", 0, 0
    for piece in pieces:
        if isinstance(piece, Gap):
            number, offset = number + 1, offset + len(rest) + piece.size
            yield Line(number, offset, None, piece.reason)
            rest = b""
            continue
        *whole, rest = (rest + piece).split(b"\n")
        for text in whole:
            number, offset = number + 1, offset + len(text) + 1
            yield Line(number, offset, text + b"\n")
    if rest:
        yield Line(number + 1, offset + len(rest), rest)


def rotated_lines_since(sealed: Path, signal: Signal, time_unix_nano: int) -> Iterator[bytes]:
    """Iterate over the lines of all rotated files that can hold a record of that time or later.

    Asked for after a power failure: a journal may still have such records.

    Args:
        sealed: the directory of the rotated files.
        signal: whose files.
        time_unix_nano: as ``retrieve`` understands it, in nanoseconds since the epoch.

    Raises:
        StorageError: a file cannot be read.
    """
    for content in list_data_files(sealed):
        name = content.name
        if content.signal is not signal:
            continue
        if name is not None and name.last is not None and name.last < time_unix_nano:
            continue
        found = open_data_file(content, sealed)
        if found is None:
            continue  # retention took it
        with found.file:
            for line in read_lines(found, 0, 0, None, torn=False):
                if line.text is not None:
                    yield line.text
