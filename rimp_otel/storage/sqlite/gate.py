"""Keeps a fork from happening while another thread is inside SQLite.

SQLite has locks of its own, which a child would inherit held and wait for in vain. So whoever forks
waits a moment, until all threads are between two calls, and they wait for the fork.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident

__all__ = ["GATE", "Gate"]

_LONGEST_WAIT = 0.5
_PAUSE = 0.0005


class Gate:
    """Open for those who use SQLite, but while somebody forks.

    Args:
        longest_wait: seconds that a fork is kept back at most.
    """

    def __init__(self, longest_wait: float = _LONGEST_WAIT) -> None:
        self._longest_wait = longest_wait
        self._begin()

    def _begin(self) -> None:
        # Reentrant, for a signal handler. Held for a moment by who enters, and all through a fork.
        self._entrance = RLock()
        # The threads inside. Single operations on a dictionary need no lock.
        self._inside: dict[object, int] = {}
        self._forking: set[int] = set()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Surrounds a call into SQLite, which should not take long."""
        token = object()
        with self._entrance:
            self._inside[token] = get_ident()
        try:
            yield
        finally:
            self._inside.pop(token, None)

    def before_fork(self) -> None:
        """Lets nobody in any more, and waits until the others are out."""
        until = time.monotonic() + self._longest_wait
        if self._entrance.acquire(timeout=self._longest_wait):
            self._forking.add(get_ident())
        while self._others() and time.monotonic() < until:
            time.sleep(_PAUSE)

    def _others(self) -> bool:
        return any(thread != get_ident() for thread in list(self._inside.values()))

    def after_in_parent(self) -> None:
        """Opens again."""
        if get_ident() in self._forking:
            self._forking.discard(get_ident())
            self._entrance.release()

    def after_in_child(self) -> None:
        """Opens again; the other threads are the parent's."""
        self._begin()


GATE = Gate()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before_fork,
        after_in_parent=GATE.after_in_parent,
        after_in_child=GATE.after_in_child,
    )
