"""Keeps connections from being inherited by a forked child.

SQLite's locks are not inherited, but what its memory says of them is: a child in which a database
looks open would hold locks that it does not have, or wait for one that nobody releases. So whoever
forks waits a moment until no thread is using a connection, and those that there are get closed.
Where that takes too long, the child leaves the file alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any, Protocol
from weakref import WeakValueDictionary

from msgspec import Struct

__all__ = ["FORK_GATE", "ForkGate", "Inheritable", "keep_for_good"]

_MAX_FORK_WAIT = 2.0
_PAUSE = 0.0005

FileId = tuple[int, int]
"""A file's device and inode."""


class Inheritable(Protocol):
    """An open connection."""

    @property
    def file_id(self) -> FileId:
        """The identity of its database."""

    @property
    def is_busy(self) -> bool:
        """True while a thread uses it."""

    def close_before_fork(self) -> None:
        """Close it; it is opened again when it is needed."""

    def abandon(self) -> Any:
        """Return what it holds, unclosed, and forget it."""


class ForkGate:
    """Open for those who use a connection, except while a thread forks.

    Args:
        longest_wait: seconds that a fork waits at most.
    """

    def __init__(self, longest_wait: float = _MAX_FORK_WAIT) -> None:
        self._longest_wait = longest_wait
        #: Databases that this process must not open: a connection to them was inherited.
        self.inherited: set[FileId] = set()
        self._open: WeakValueDictionary[int, Inheritable] = WeakValueDictionary()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        # Reentrant, for a signal handler. Held for a moment by who enters, and all through a fork.
        self._entrance = RLock()
        # The threads inside. Single operations on a dictionary need no lock.
        self._inside: dict[object, int] = {}
        self._forking: set[int] = set()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Let the caller use a connection, from its opening or first statement to its last."""
        if self._pid != os.getpid():  # a fork from C runs no hooks
            self.after_in_child()
        token, me = object(), get_ident()
        if me in list(self._inside.values()):  # whoever forks waits for it to get out
            yield
            return
        with self._entrance:
            self._inside[token] = me
        try:
            yield
        finally:
            self._inside.pop(token, None)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Let a fork happen within ``use``."""
        mine = [token for token, thread in list(self._inside.items()) if thread == get_ident()]
        for token in mine:
            self._inside.pop(token, None)
        try:
            yield
        finally:
            with self._entrance:
                self._inside.update(dict.fromkeys(mine, get_ident()))

    def opened(self, connection: Inheritable) -> None:
        """Note that a connection is open from now on, until ``closed``."""
        self._open[id(connection)] = connection

    def closed(self, connection: Inheritable) -> None:
        """Note that a connection is closed."""
        self._open.pop(id(connection), None)

    def before_fork(self) -> None:
        """Let nobody in any more, wait until the others are out, and close what is open."""
        until = time.monotonic() + self._longest_wait
        if self._entrance.acquire(timeout=self._longest_wait):
            self._forking.add(get_ident())
        while self._others() and time.monotonic() < until:
            time.sleep(_PAUSE)
        for connection in list(self._open.values()):
            if not connection.is_busy:
                connection.close_before_fork()

    def _others(self) -> bool:
        return any(thread != get_ident() for thread in list(self._inside.values()))

    def after_in_parent(self) -> None:
        """Open the gate again."""
        if get_ident() in self._forking:
            self._forking.discard(get_ident())
            self._entrance.release()

    def after_in_child(self) -> None:
        """Open the gate again; the other threads, and what is open still, are the parent's."""
        for connection in list(self._open.values()):
            self.inherit(connection)
        self._open.clear()
        self._begin()

    def inherit(self, connection: Inheritable) -> None:
        """Leave a parent's connection alone, and its database."""
        self.inherited.add(connection.file_id)
        keep_for_good(connection.abandon())


class _Untracked(Struct, gc=False):
    held: Any = None


def keep_for_good(held: Any) -> None:
    """Keep something from being closed, even when the interpreter ends.

    Closing it could undo what the parent is just doing. A reference cycle through an object that
    the garbage collector does not track stays.
    """
    circle = _Untracked()
    circle.held = [circle, held]


FORK_GATE = ForkGate()
"""The gate of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=FORK_GATE.before_fork,
        after_in_parent=FORK_GATE.after_in_parent,
        after_in_child=FORK_GATE.after_in_child,
    )
