"""Locks: among the threads of one process, and among the processes that meet at one file."""

from __future__ import annotations

import os
from threading import RLock
from typing import Any

from rimp_otel.forking import in_forked_child

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["ProcessLock", "acquire", "release"]


class ProcessLock:
    """A reentrant lock that a forked child has anew: there, nobody is left who would release it.

    By the hook, which also covers a child that has its ancestor's pid; and by the pid, since a
    fork by a C library runs no hooks.
    """

    def __init__(self) -> None:
        self._renew()
        in_forked_child(self._renew)

    def _renew(self) -> None:
        self._locks: dict[int, Any] = {}

    def __call__(self) -> Any:
        """The lock of this process, to be used in a ``with`` statement."""
        pid = os.getpid()
        lock = self._locks.get(pid)
        return lock if lock is not None else self._locks.setdefault(pid, RLock())


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
