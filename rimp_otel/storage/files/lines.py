"""The lines of a recording's files, wherever a file lies by now.

A data file is known by its signal and the fingerprint of its first line, which stay when it is
rotated and when it is sealed. So a reader that has read a part of it continues where it stopped.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rimp_otel.fsutil import FOLLOWING_FLAGS, open_regular
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
"""A signal and the fingerprint of a file's first line: what a data file is known by."""

_BLOCK = 64 * 1024
_ATTEMPTS = 10


class DataFile(NamedTuple):
    """A file of lines, as it was when it was looked at."""

    signal: Signal
    #: The fingerprint of its first line.
    id: str
    #: Where it was.
    path: Path
    #: None for an active file.
    name: SealedName | None = None
    #: Bytes of its text that count; what follows is in the journal. None for all.
    limit: int | None = None
    #: True if no record in it can also be among those of the journals that were read with it.
    is_certain: bool = True

    @property
    def key(self) -> FileKey:
        """Its signal and its fingerprint."""
        return self.signal, self.id


class OpenFile(NamedTuple):
    """A data file that is open, where it lies now."""

    path: Path
    file: BinaryIO
    #: "zstd", "gzip" or "none".
    compression: str
    is_sealed: bool


class Line(NamedTuple):
    """A line of a data file."""

    #: Counted from 1.
    number: int
    #: Where it ends in the text, in bytes.
    end: int
    #: With its end, if it has one; None for what cannot be read.
    text: bytes | None
    #: Why it cannot be read.
    reason: str = ""


def open_regular_file(path: Path) -> BinaryIO | None:
    """Open a file for reading; return None if there is none.

    Raises:
        UnreadableError: it cannot be read, or is not a regular file.
        StorageError: the process has no descriptors left.
    """
    with reading_errors(path):
        try:
            file = open_regular(path, FOLLOWING_FLAGS)  # reading changes nothing
        except FileNotFoundError:
            return None
    return os.fdopen(file, "rb", _BLOCK)


def list_data_files(sealed: Path) -> list[DataFile]:
    """Return the files in the directory of sealed files, those with the oldest records first.

    Each comes once, also while it is being sealed; those that wait to be sealed come last; and after
    them what has the name of one, and is no file.

    Raises:
        UnreadableError: the directory cannot be read.
    """
    with reading_errors(sealed):
        try:
            with os.scandir(sealed) as entries:
                names = [(not _is_file(entry), entry.name) for entry in entries]
        except FileNotFoundError:
            if not os.path.islink(sealed):
                return []
            raise OSError(errno.ELOOP, "Dangling symbolic link") from None
    found: dict[FileKey, DataFile] = {}
    parsed = [(is_odd, _parse_sealed_name(sealed, name)) for is_odd, name in names]
    for _, (_, data_file) in sorted((is_odd, named) for is_odd, named in parsed if named):
        found.setdefault(data_file.key, data_file)
    return list(found.values())


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # links in a circle
        return False


_Age = tuple[bool, int, int, str]


@lru_cache(maxsize=16_384)  # whoever follows a recording lists the same names all the time
def _parse_sealed_name(sealed: Path, name: str) -> tuple[_Age, DataFile] | None:
    parsed = SealedName.parse(name)
    if parsed is None:
        return None
    age = (parsed.is_waiting, parsed.last or 0, parsed.first or 0, name)
    return age, DataFile(parsed.signal, parsed.id, sealed / name, parsed)


def open_data_file(data_file: DataFile, sealed: Path) -> OpenFile | None:
    """Open a data file where it lies now; return None if it was deleted.

    Raises:
        StorageError: it cannot be read.
    """
    for _ in range(_ATTEMPTS):
        file = open_regular_file(data_file.path)
        if file is not None:
            if _has_fingerprint(data_file, file):
                compression = data_file.name.compression if data_file.name else "none"
                return OpenFile(data_file.path, file, compression, data_file.name is not None)
            file.close()
        # It has been rotated, or sealed; or it was, and what it became was just being replaced.
        later = {found.key: found for found in list_data_files(sealed)}.get(data_file.key)
        if later is None or later.path == data_file.path:
            return None
        data_file = later
    return None


def _has_fingerprint(data_file: DataFile, file: BinaryIO) -> bool:
    with reading_errors(data_file.path):
        return data_file.name is not None or fingerprint_of(file) == data_file.id


def fingerprint_of(file: BinaryIO) -> str | None:
    """Return the fingerprint of an active file, even if its first line has no end; None if empty."""
    file.seek(0)
    line = file.readline()
    return fingerprint(line) if line else None


def find_last_line_end(file: BinaryIO, size: int) -> int:
    """Return where the last complete line within the first ``size`` bytes ends."""
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
    """Iterate over the lines of an open file.

    Args:
        found: the file. What is appended from now on is not read.
        offset: where the first line begins in the text, in bytes.
        number: of the line before it.
        limit: where the last line ends in the text, at the latest; None for no limit.
        torn: True to include a last line without an end.
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
    compressed = found.file.read()
    for line in _lines_in(decompress(compressed, found.compression)):
        if line.end > since or (line.text is None and line.end == since):
            yield line


def _lines_in(pieces: Iterable[bytes | Gap]) -> Iterator[Line]:
    """Iterate over the lines of decompressed blocks, which need not end where blocks do."""
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
    for data_file in list_data_files(sealed):
        name = data_file.name
        if data_file.signal is not signal:
            continue
        if name is not None and name.last is not None and name.last < time_unix_nano:
            continue
        if not data_file.path.is_file():
            continue  # retention took it; or it never was a file
        found = open_data_file(data_file, sealed)
        if found is None:
            continue
        with found.file:
            for line in read_lines(found, 0, 0, None, torn=False):
                if line.text is not None:
                    yield line.text
