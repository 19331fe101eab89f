"""The file of a database: what it must be, and how it is made."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.storage.locking import acquire, release

__all__ = ["SUFFIXES", "check_file", "make_file"]

SUFFIXES = ("-wal", "-shm")
"""What SQLite keeps beside a database that is open, and nobody else may touch."""

# Seconds. Making a file takes a millisecond.
_LONGEST_WAIT, _PAUSE = 1.0, 0.001


def make_file(path: Path) -> None:
    """Makes an empty file, readable by its owner alone, where there is none.

    Raises:
        StorageError: it cannot be made, or is something else than a file.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            _make_alone(path)
    except OSError as error:
        raise StorageError(
            f"cannot record into {path}: {error.strerror or error}; "
            "give a path to a file that can be written"
        ) from error
    check_file(path)


def _make_alone(path: Path) -> None:
    """While nobody else does. What a removed database left beside it would spoil the new one."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        until = time.monotonic() + _LONGEST_WAIT
        while not acquire(directory):
            if time.monotonic() >= until:
                raise StorageError(f"cannot record into {path}: another process is just making it")
            time.sleep(_PAUSE)
        if not os.path.lexists(path):
            for suffix in SUFFIXES:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            _make(path)
    finally:
        release(directory)
        os.close(directory)


def _make(path: Path) -> None:
    # Not opened, if possible: to close any descriptor of the file would release the locks that
    # SQLite holds on it in this process.
    try:
        os.mknod(path, 0o600 | stat.S_IFREG)
    except (AttributeError, PermissionError):  # pragma: no cover - other systems than Linux
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def check_file(path: Path) -> os.stat_result:
    """Makes sure that it is a file, and no link to one.

    Raises:
        StorageError: it is something else, or is not there.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror or error}") from error
    if stat.S_ISLNK(status.st_mode):
        raise StorageError(f"cannot open {path}: it is a symbolic link; give the path of the file")
    if stat.S_ISDIR(status.st_mode):
        raise StorageError(
            f"cannot open {path}: it is a directory; give the path of a file, such as"
            f" {path / 'telemetry.db'}"
        )
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"cannot open {path}: it is no regular file")
    return status
