"""Advisory locks on files, where the system has them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]

_PATIENCE = 1.0
_PAUSE = 0.002


@contextmanager
def locked(file: int) -> Iterator[bool]:
    """Holds the exclusive lock of an open file, if it can be had within a second; says whether.

    Without it an append is still whole, for a file opened with O_APPEND on a local file system;
    but a failed one cannot be taken back safely. Better that than to wait for a stopped process.
    """
    held = _acquire(file)
    try:
        yield held
    finally:
        if held:
            # Explicitly: a forked child may hold the description open, and so the lock.
            fcntl.flock(file, fcntl.LOCK_UN)


def _acquire(file: int) -> bool:
    if fcntl is None:  # pragma: no cover - Windows
        return False
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
        except OSError:  # a file system without locks, such as some network ones
            return False
