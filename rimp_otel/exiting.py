"""What an object does when its process ends in order."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable

__all__ = ["AtExit"]

_AFTER_ALL_OTHERS = -100


class AtExit:
    """Calls the bound method ``finish`` when the interpreter exits, and when a child process of
    multiprocessing ends, which calls no atexit functions but finalizers of its own.

    Keeps the method's object alive until ``let_go``: what it still has to do is not forgotten
    with the last reference to it. After that, ``finish`` is called if the object still lives.
    """

    def __init__(self, finish: Callable[[], None]) -> None:
        self._kept: Callable[[], None] | None = finish
        self._finish = weakref.WeakMethod(finish)
        atexit.register(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._meet_multiprocessing)
        self._meet_multiprocessing()

    def let_go(self) -> None:
        """Keeps the object alive no longer."""
        self._kept = None

    def __call__(self) -> None:
        """Calls it now."""
        if finish := self._finish():
            finish()

    def _meet_multiprocessing(self) -> None:
        util = sys.modules.get("multiprocessing.util")
        if util is not None and self._finish():
            # After a fork multiprocessing forgets all finalizers, and then calls this.
            util.register_after_fork(self, AtExit._finalize)
            self._finalize()

    def _finalize(self) -> None:
        process, util = sys.modules["multiprocessing.process"], sys.modules["multiprocessing.util"]
        if process.parent_process() is not None:
            util.Finalize(None, self, exitpriority=_AFTER_ALL_OTHERS)
