"""Durable, private files: how they are opened, synced to the device, locked and preallocated."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = [
    "CREATE_FLAGS",
    "CREATE_NEW_FLAGS",
    "FOLLOWING_FLAGS",
    "READ_FLAGS",
    "READ_WRITE_FLAGS",
    "describe_obstacle",
    "find_directory_obstacle",
    "find_obstacle",
    "list_directory",
    "lock_file",
    "open_regular",
    "preallocate",
    "sync_directory",
    "sync_file",
    "unlock_file",
]

# Never through a symbolic link that somebody put there, nor into a child that is executed.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFELY
"""Flags to open a file for reading; a pipe of its name keeps nobody waiting."""

FOLLOWING_FLAGS = READ_FLAGS & ~getattr(os, "O_NOFOLLOW", 0)
"""As READ_FLAGS, but links are followed."""

READ_WRITE_FLAGS = os.O_RDWR | _SAFELY
"""Flags to open an existing file for reading and writing."""

CREATE_FLAGS = READ_WRITE_FLAGS | os.O_CREAT
"""Flags to open a file for reading and writing, made if it does not exist."""

CREATE_NEW_FLAGS = CREATE_FLAGS | os.O_EXCL
"""Flags to make a file that must not exist."""


# Of the process, and of no path.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def open_regular(path: Path, flags: int = READ_FLAGS) -> int:
    """Open a regular file; return its descriptor.

    Raises:
        FileNotFoundError: nothing is there, not even a link.
        OSError: it is something else, such as a directory, a pipe or a link that leads nowhere; or it
            cannot be opened.
    """
    try:
        file = os.open(path, flags)
    except FileNotFoundError:
        if not os.path.islink(path):
            raise
        raise OSError(errno.ELOOP, "Dangling symbolic link", str(path)) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.ENXIO, "Not a regular file", str(path)) from None
        if error.errno != errno.ELOOP or not flags & getattr(os, "O_NOFOLLOW", 0):
            raise
        raise OSError(errno.ELOOP, "Symbolic link, which is not followed", str(path)) from None
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    raise OSError(errno.ENOTSUP, "Not a regular file", str(path))


def list_directory(path: Path) -> list[str]:
    """Return the names in a directory.

    Raises:
        FileNotFoundError: nothing is there, not even a link.
        OSError: it is something else, or cannot be read.
    """
    try:
        return os.listdir(path)
    except FileNotFoundError:
        if not os.path.islink(path):
            raise
        raise OSError(errno.ELOOP, "Dangling symbolic link", str(path)) from None


def describe_obstacle(error: OSError) -> str | None:
    """Return why something cannot be read, by the error of opening it; None if it is not there.

    Raises:
        OSError: the error itself, if the process is at its limits: it says nothing of the file.
    """
    if error.errno in _EXHAUSTED:
        raise error
    return None if isinstance(error, FileNotFoundError) else error.strerror or str(error)


def find_obstacle(path: Path, flags: int = READ_FLAGS) -> str | None:
    """Return why a file cannot be read; None if it can, or is not there.

    Raises:
        OSError: the process has no descriptors or memory left.
    """
    try:
        os.close(open_regular(path, flags))
    except OSError as error:
        return describe_obstacle(error)
    return None


def find_directory_obstacle(path: Path) -> str | None:
    """Return why a directory cannot be listed; None if it can, or is not there.

    Raises:
        OSError: the process has no descriptors or memory left.
    """
    try:
        list_directory(path)
    except OSError as error:
        return describe_obstacle(error)
    return None


# Errors of file systems that have nothing to force.
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP}
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has none


def sync_file(file: int) -> None:
    """Force an open file's content to the device.

    Raises:
        OSError: the device refused; the kernel may not try again by itself.
    """
    try:
        _sync(file)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def sync_directory(path: Path) -> None:
    """Force the names in a directory to the device.

    Raises:
        OSError: the device refused.
    """
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows
        return
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(directory)
    finally:
        os.close(directory)


try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]


def lock_file(file: int, without_locks: bool = True) -> bool:
    """Lock an open file for this process; return False if another one holds the lock.

    Args:
        file: its descriptor.
        without_locks: what to return if the file system has no locks. True suits what is right
            without the lock, and then done twice.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return without_locks
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without_locks
    return True


def unlock_file(file: int) -> None:
    """Unlock a file. Closing it is not enough: a forked child may hold it open as well."""
    if fcntl is None:  # pragma: no cover - Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError:
        pass


# In one call, since each gives up the interpreter. It takes no memory: its pages are never written.
_ZEROS = bytes(4 * 1024 * 1024)


def preallocate(file: int, size: int) -> None:
    """Make every page of a new file exist, on the device and in memory.

    A write through a mapping into a hole would be a SIGBUS on a full disk, and the first touch of a
    page costs 3 µs.

    Raises:
        OSError: the device has no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    offset = 0
    while offset < size:
        offset += os.pwrite(file, memoryview(_ZEROS)[: size - offset], offset)
