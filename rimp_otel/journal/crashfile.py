"""The file that a crash of the process is written into."""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path

__all__ = ["CrashFile", "crash_name"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def crash_name(number: int) -> str:
    """The name of a crash's file."""
    return f"{number:06d}.crash"


class CrashFile:
    """Where faulthandler writes the stacks of all threads, if the process dies of a fatal signal.

    That installs signal handlers (of SIGSEGV, SIGFPE, SIGABRT, SIGBUS and SIGILL), so it is only
    done where it is asked for. It is one for a process: faulthandler writes to one file.

    Args:
        path: of the file.
        file: its descriptor, for writing. It must stay open, or a crash is written into whatever
            gets its number.
    """

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self._opened = os.fstat(file)
        self._was_enabled = faulthandler.is_enabled()
        faulthandler.enable(file=file, all_threads=True)

    @classmethod
    def create(cls, directory: Path, number: int) -> CrashFile:
        """Makes an empty file, and enables faulthandler with it.

        Raises:
            OSError: it could not be made.
        """
        path = directory / crash_name(number)
        file = os.open(path, _FLAGS, 0o600)
        try:
            return cls(path, file)
        except BaseException:
            os.close(file)
            path.unlink()
            raise

    def close(self) -> None:
        """Puts faulthandler back: off, or writing to standard error if it was on before. Deletes
        the file if it is empty."""
        if self._file < 0:
            return
        self.abandon()
        try:
            if not self.path.stat().st_size:
                self.path.unlink()
        except FileNotFoundError:  # somebody removed it
            pass

    def abandon(self) -> None:
        """The same in a forked child, whose parent goes on with the file."""
        file, self._file = self._file, -1
        if file < 0:
            return
        _restore(self._was_enabled)
        try:
            # A program that makes itself a daemon closes all descriptors, and opens others.
            if os.path.samestat(os.fstat(file), self._opened):
                os.close(file)
        except OSError:
            pass


def _restore(was_enabled: bool) -> None:
    faulthandler.disable()
    if was_enabled:
        try:
            faulthandler.enable(sys.__stderr__ or 2)
        except (RuntimeError, OSError, ValueError):  # a standard error that is no file, or closed
            pass
