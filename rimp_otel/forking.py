"""What an object does in a forked child, where threads are gone and locks may be held."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

__all__ = ["in_forked_child"]


def in_forked_child(renew: Callable[[], None]) -> None:
    """Calls the bound method ``renew`` in every forked child, as long as its object lives."""
    method = weakref.WeakMethod(renew)

    def call() -> None:
        if alive := method():
            alive()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
