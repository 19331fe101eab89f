"""Modules that are imported when they are first used.

What only reading, sealing or another storage needs does not hold up a program that starts to
record. For the type checker it is an import like any other::

    if TYPE_CHECKING:
        from rimp_otel.otlp import decode
    else:
        decode = lazy("rimp_otel.otlp.decode")

Nothing that runs within the application's calls may be the first to use such a module, nor what
runs when the process ends: that is imported as usual, or loaded beforehand.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module
from typing import Any

__all__ = ["lazy", "load", "load_soon"]

_LONGEST_WAIT = 1.0

_importing = threading.RLock()
_is_held = False
_soon: list[Any] = []


class _LazyModule:
    """Has the attributes of the module of that name."""

    __slots__ = ("__module", "__name")

    def __init__(self, name: str) -> None:
        self.__name = name
        self.__module: Any = None

    def __getattr__(self, attribute: str) -> Any:
        if self.__module is None:
            with _importing:
                self.__module = import_module(self.__name)
        return getattr(self.__module, attribute)


def lazy(name: str, *, soon: bool = False) -> Any:
    """What stands for the module ``name`` until an attribute of it is asked for, and after.

    An attribute is looked up anew each time, so that it is the module's own.

    Args:
        name: of the module.
        soon: whether ``load_soon`` imports it.
    """
    module = _LazyModule(name)
    if soon:
        _soon.append(module)
    return module


def load(*modules: Any) -> None:
    """Imports what ``lazy`` gave, where that has not been done."""
    for module in modules:
        _ = module.__name__


def load_soon() -> None:
    """Imports what draining will use, for the stream's thread to do when it starts."""
    load(*_soon)
    _soon.clear()


def _hold() -> None:
    global _is_held
    _is_held = _importing.acquire(timeout=_LONGEST_WAIT)


def _let_go() -> None:
    if _is_held:
        _importing.release()


def _let_go_in_child() -> None:
    global _importing
    if _is_held:
        _importing.release()
    else:
        _importing = threading.RLock()


if hasattr(os, "register_at_fork"):
    # A child that is forked while a thread imports would wait for ever for that thread, which it
    # does not have, to finish the module. So the fork waits, but not for ever: the thread may
    # wait for a module that is being imported by whoever forks.
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_let_go_in_child)
