"""Code that runs when a module has been imported, without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from rimp_otel.process import Reporter

__all__ = ["call_when_imported", "is_hookable"]


class _Finder:
    """Finds nothing itself: where a module that is waited for is found, it has the module's loader tell.

    The loader stays the one that the others have found, since programs look at it. Thread-safe: the
    interpreter imports a module once, and each step here is one operation of a dict.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, list[Callable[[], object]]] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.waiting:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                self._hook(spec)
                return spec
        return None

    def _hook(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        exec_module = loader.exec_module

        def exec_and_call(module: ModuleType) -> None:
            del loader.exec_module
            exec_module(module)
            _call_all(self.waiting.pop(spec.name, []))

        try:
            loader.exec_module = exec_and_call
        except AttributeError:
            pass  # a loader of somebody's that takes no attribute: its module is not noticed


def _call_all(functions: list[Callable[[], object]]) -> None:
    for function in functions:
        try:
            function()
        except Exception as error:
            # Not into the program's import statement.
            Reporter().warn("import", f"not all is instrumented: {error!r}")


_finder = _Finder()


def call_when_imported(name: str, function: Callable[[], object]) -> None:
    """Call a function as soon as a module has been imported, before its importer goes on.

    Now, if it is already imported. What the function raises is reported on standard error. Should be called
    before the program starts threads.
    """
    if name in sys.modules:
        _call_all([function])
        return
    _finder.waiting.setdefault(name, []).append(function)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def is_hookable(name: str) -> bool:
    """Return True if a module at the top of its package is there, and its import can be noticed.

    A namespace package has no code whose end could be noticed.
    """
    if name in sys.modules:
        return True
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    # Loaders of built-in and frozen modules are classes: what is set there holds for all modules.
    return (
        spec is not None
        and hasattr(spec.loader, "exec_module")
        and hasattr(spec.loader, "__dict__")
        and not isinstance(spec.loader, type)
        and spec.origin is not None
    )
