"""What an object does in a forked child, where threads are gone and locks may be held."""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["Mark", "in_forked_child", "process_mark"]

_PRUNE_AFTER = 64
# Of Linux; the module mmap does not have it.
_MADV_WIPEONFORK = 18

_renewals: list[weakref.WeakMethod[Callable[[], None]]] = []
_starts: list[weakref.WeakMethod[Callable[[], None]]] = []


class Mark(Protocol):
    """Its first item is true in the process that made it, and in no child of that."""

    def __getitem__(self, index: int, /) -> int: ...


def process_mark() -> Mark:
    """Tells whether this process is another one than the one that called this.

    Hooks are not enough: a fork from C runs none. And ``os.getpid`` is a system call, a tenth of what
    recording an event costs; so it is a page of memory that the kernel empties in children.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):  # no Linux, or one before 4.14
        return _PidMark()
    page[0] = 1
    return page


class _PidMark:
    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return os.getpid() == self._pid


def in_forked_child(renew: Callable[[], None], last: bool = False) -> None:
    """Calls the bound method ``renew`` in every forked child, as long as its object lives.

    Args:
        renew: forgets what was the parent's. It must not start a thread: that thread would meet
            what has not been renewed yet.
        last: call it once everything has been renewed; then it may.
    """
    methods = _starts if last else _renewals
    if len(methods) % _PRUNE_AFTER == 0:
        methods[:] = [method for method in methods if method() is not None]
    methods.append(weakref.WeakMethod(renew))


def _renew_all() -> None:
    for method in [*_renewals, *_starts]:
        renew = method()
        try:
            if renew is not None:
                renew()
        except Exception:  # one that fails keeps no other from being renewed
            sys.excepthook(*sys.exc_info())


if hasattr(os, "register_at_fork"):
    # One for all, since what is registered is never let go of.
    os.register_at_fork(after_in_child=_renew_all)
