"""Forcing files to the device, and what is no error in doing so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["sync_directory", "sync_file"]

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
