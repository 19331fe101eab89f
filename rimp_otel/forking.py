"""What an object does in a forked child, where threads are gone and locks may be held."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable

__all__ = ["in_forked_child"]

_PRUNE_AFTER = 64

_renewals: list[weakref.WeakMethod[Callable[[], None]]] = []
_starts: list[weakref.WeakMethod[Callable[[], None]]] = []


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
