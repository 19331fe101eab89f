"""Appending whole lines to one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.storage.locking import locked

__all__ = ["Appender"]

_FLAGS = (
    os.O_RDWR  # reading, to look at the last byte
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Appender:
    """Holds one file open and appends to it. Not for several threads at once.

    Args:
        path: of the file.
        make_directory: called where the file's directory is missing.
    """

    def __init__(self, path: Path, make_directory: Callable[[], None]) -> None:
        self.path = path
        self._make_directory = make_directory
        # Where our last line ended: then no other process has written since.
        self._end = -1
        self._file = -1
        self._pid = 0
        self._status: os.stat_result | None = None

    @contextmanager
    def appending(self, lines: Sequence[bytes]) -> Iterator[None]:
        """Appends ``lines``; takes them back if the body of the ``with`` raises.

        Raises:
            StorageError: they could not be appended; the file is as it was (where its lock could
                be had: without, what was written stays, and may be there twice after a retry).
        """
        try:
            file = self._open()
            with locked(file) as alone:
                size = os.fstat(file).st_size
                try:
                    whole = size == self._end or _ends_with_newline(file, size)
                    self._end = size + _write(file, lines, newline_first=not whole)
                    yield
                except BaseException:
                    # Also what another file's failure throws in here: all of a batch, or none.
                    # Not what others have appended meanwhile, where they could.
                    self._end = -1
                    if alone:
                        os.ftruncate(file, size)
                    raise
        except OSError as error:
            self.close()
            raise StorageError(
                f"cannot append to {self.path}: {error.strerror or error}"
            ) from error

    def _open(self) -> int:
        if self._file < 0 or self._pid != os.getpid() or not self._is_current():
            self.close()
            self._file, self._end = self._make(), -1
            self._pid = os.getpid()
            self._status = os.fstat(self._file)
        return self._file

    def _make(self) -> int:
        try:
            return os.open(self.path, _FLAGS, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            self._make_directory()
            return os.open(self.path, _FLAGS, 0o600)

    def _is_current(self) -> bool:
        """Whether the name still leads to the open file, which logrotate may have moved."""
        try:
            return self._is_ours() and os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except OSError:
            return False

    def _is_ours(self) -> bool:
        """Whether the descriptor is still the file that was opened: a program that makes itself a
        daemon closes all descriptors, and opens others in their place."""
        try:
            return self._status is not None and os.path.samestat(self._status, os.fstat(self._file))
        except OSError:
            return False

    def close(self) -> None:
        """Closes the file."""
        ours = self._file >= 0 and self._is_ours()
        file, self._file = self._file, -1
        if ours:
            os.close(file)


def _ends_with_newline(file: int, size: int) -> bool:
    """Whether the last line is whole. Of a torn one, what follows must not become a part."""
    if not size:
        return True
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1) == b"\n"


def _write(file: int, lines: Sequence[bytes], newline_first: bool) -> int:
    """Writes the lines; returns how many bytes that were."""
    text = b"".join([b"\n" * newline_first, *(line + b"\n" for line in lines)])
    view = memoryview(text)
    while view:
        view = view[os.write(file, view) :]
    return len(text)
