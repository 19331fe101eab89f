"""One active file: append complete lines to it, as its only writer.

What others do to it is noticed with the next append: a file that was renamed, deleted or replaced
is created again; a truncated file is continued at its new end. A last line without an end, of a
writer that was killed, is ended: if nothing else is missing, it is a line; otherwise readers skip
and report it, and the next line is not spoilt by it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rimp_otel.fsutil import READ_WRITE_FLAGS, sync_directory, sync_file
from rimp_otel.journal.target import End
from rimp_otel.process import importing

__all__ = ["Appender"]

_OPEN_FLAGS = READ_WRITE_FLAGS | os.O_APPEND  # reading, to look at the last byte
_BLOCK = 64 * 1024
# Two parts each; a call takes 1,024.
_MAX_LINES = 512
_user = getattr(os, "geteuid", lambda: 0)  # Windows has none, and reports 0 for every file


class Appender:
    """Holds one file open and appends to it.

    Not for several threads at once. Every method may raise OSError.

    Args:
        path: of the file; its directory must be there.
        syncs: False if ``sync`` does nothing.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self, path: Path, syncs: bool = True, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        #: Torn lines that were ended.
        self.repaired = 0
        #: True if something was appended since the last sync.
        self.is_dirty = False
        self._syncs = syncs
        self._clock = clock
        self._file = -1
        self._opened: os.stat_result | None = None
        self._is_new = False
        # Where our last line ended: if the file still ends there, its tail is whole.
        self._end = -1
        self._born: float | None = None
        # Where the file is to be cut off, because that failed after a write that failed.
        self._cut: End | None = None

    def end(self, create: bool = True) -> End:
        """Return where the file ends, once its tail is repaired; (0, 0) if there is none.

        Args:
            create: create the file if there is none.
        """
        status = self._current(create)
        if status is None:
            return End(0, 0)
        size = self._cut_off(status)
        if size < self._end:
            self._born = None  # truncated by somebody else: it begins again
        if size != self._end and size and os.pread(self._file, 1, size - 1) != b"\n":
            size += _write_all(self._file, b"\n")
            self.is_dirty = True
            self.repaired += 1
        self._end = size
        return End(status.st_ino, size)

    def append(self, lines: Sequence[bytes], before: Callable[[End, int], None]) -> End:
        """Append all lines, or none of them. Calls ``before`` with where and how much."""
        start = self.end()
        size = sum(map(len, lines)) + len(lines)
        try:
            before(start, size)
            _write_lines(self._file, lines)
        except BaseException:
            self.take_back(start)
            raise
        self.is_dirty = True
        self._end = start.offset + size
        return End(start.file_id, self._end)

    def take_back(self, start: End) -> None:
        """Cut off what was appended since the file ended there; never raises.

        If that fails, it is done before anything else is appended.
        """
        self._cut, self._end = start, -1
        try:
            status = os.fstat(self._file)
            if status.st_ino == start.file_id and self._is_same(status):
                self._cut_off(status)
        except OSError:
            pass

    def _cut_off(self, status: os.stat_result) -> int:
        """Do what ``take_back`` could not; return the file's size."""
        cut, size = self._cut, status.st_size
        if cut is not None and cut.file_id == status.st_ino and cut.offset < size:
            os.ftruncate(self._file, cut.offset)
            size = cut.offset
        self._cut = None
        return size

    def resolve_append(self, start: End, length: int) -> bool:
        """Return True if the line that was about to be written there is complete; else cut off its
        part."""
        status = self._current(create=False)
        if status is None or status.st_ino != start.file_id:
            return False
        end = start.offset + length
        if status.st_size >= end and os.pread(self._file, 1, end - 1) == b"\n":
            return True
        if status.st_size > start.offset:
            os.ftruncate(self._file, start.offset)
            self.is_dirty = True
            self.repaired += 1
        return False

    def lines_after(self, start: End) -> list[bytes]:
        """Return the complete lines from there on, without their ends; none of another file."""
        status = self._current(create=False)
        if status is None or status.st_ino != start.file_id:
            return []
        text, offset = bytearray(), start.offset
        while block := os.pread(self._file, 1024 * 1024, offset):
            text += block
            offset += len(block)
        return bytes(text).split(b"\n")[:-1]

    def first_line(self) -> bytes:
        """Return the first line of the open file, without its end."""
        text = bytearray()
        while block := os.pread(self._file, _BLOCK, len(text)):
            text += block
            if (at := block.find(b"\n")) >= 0:
                return bytes(text[: len(text) - len(block) + at])
        return bytes(text)

    @property
    def born(self) -> float:
        """When the open file began, in seconds since the epoch.

        Not all file systems remember it. For a file that was there before, it is the newest time in
        its first line, but not after its last change; without a time, its last change.
        """
        if self._born is None:
            with importing():
                from rimp_otel.otlp.scan import times_of_line
            changed = os.fstat(self._file).st_mtime
            times = times_of_line(self.first_line())
            self._born = min(changed, times[1] / 1e9) if times and times[1] else changed
        return self._born

    def sync(self) -> None:
        """Force to the device what was appended, and the file's name if it is new."""
        if self._syncs and self.is_dirty and self._file >= 0 and self._is_ours():
            sync_file(self._file)
            if self._is_new:
                sync_directory(self.path.parent)
        self.is_dirty = self._is_new = False

    def close(self) -> None:
        """Close the file, if the descriptor is still that file."""
        ours = self._file >= 0 and self._is_ours()
        file, self._file = self._file, -1
        self._end, self._born = -1, None
        if ours:
            os.close(file)

    def _current(self, create: bool) -> os.stat_result | None:
        """Return the open file's status; open or create it if the name leads elsewhere now."""
        if self._file >= 0:
            try:
                named, opened = os.stat(self.path), os.fstat(self._file)
                if os.path.samestat(named, opened) and self._is_same(opened):
                    return opened
            except OSError:
                pass
            self._leave()
        return self._open(create)

    def _leave(self) -> None:
        """Leave a file that was moved away; what it holds is worth a last sync."""
        try:
            self.sync()
        except OSError:
            pass
        self.close()

    def _open(self, create: bool) -> os.stat_result | None:
        try:
            self._file = os.open(self.path, _OPEN_FLAGS)
        except FileNotFoundError:
            if not create:
                return None
            self._file = os.open(self.path, _OPEN_FLAGS | os.O_CREAT, 0o600)
            self._is_new = True
            self._born = self._clock()
        self._opened = os.fstat(self._file)
        if not stat.S_ISREG(self._opened.st_mode):
            self.close()
            raise OSError(errno.EINVAL, "Not a regular file")
        if self._opened.st_uid != _user():
            self.close()
            raise OSError(errno.EPERM, "It belongs to another user")
        return self._opened

    def _is_ours(self) -> bool:
        """Return True if the descriptor is still the file that was opened.

        A program that makes itself a daemon closes all descriptors, and opens others in their
        place.
        """
        try:
            return self._is_same(os.fstat(self._file))
        except OSError:
            return False

    def _is_same(self, status: os.stat_result) -> bool:
        return self._opened is not None and os.path.samestat(self._opened, status)


def _write_lines(file: int, lines: Sequence[bytes]) -> None:
    """Write the lines, each with its end, in as few calls as possible.

    Each call gives up the interpreter, and gets it back late if other threads want it.
    """
    if not hasattr(os, "writev"):  # pragma: no cover - Windows
        _write_all(file, b"\n".join((*lines, b"")))
        return
    for first in range(0, len(lines), _MAX_LINES):
        parts = [part for line in lines[first : first + _MAX_LINES] for part in (line, b"\n")]
        written = os.writev(file, parts)
        if written < sum(map(len, parts)):  # most likely the disk is full, which the rest will tell
            _write_all(file, b"".join(parts)[written:])


def _write_all(file: int, text: bytes) -> int:
    view = memoryview(text)
    while view:
        view = view[os.write(file, view) :]
    return len(text)
