"""Forcing files to the device, and what is no error in doing so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["acquire", "release", "sync_directory", "sync_file"]


# --- Forcing files to the device, and what is no error in doing so.

# Of file systems that have nothing to force.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP}
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has none


def sync_file(file: int) -> None:
    """Returns once an open file's content is on the device.

    Raises:
        OSError: it is not, and the kernel may not try again by itself.
    """
    try:
        _sync(file)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def sync_directory(path: Path) -> None:
    """Returns once the names in a directory are on the device.

    Raises:
        OSError: they are not.
    """
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows
        return
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(directory)
    finally:
        os.close(directory)


# --- Locks: among the threads of one process, and among the processes that meet at one file.

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]


def acquire(file: int) -> bool:
    """Locks an open file; False where somebody else holds it.

    True also where the file system has no locks: what is done under this lock is right without
    it, and done twice.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def release(file: int) -> None:
    """Unlocks it. Explicitly, before it is closed: a forked child may hold it open as well."""
    if fcntl is None:  # pragma: no cover - Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError:
        pass
