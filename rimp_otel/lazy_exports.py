"""Public names of a package, each loaded when it is first asked for (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

__all__ = ["export_lazily"]


def export_lazily(package: str, modules: Mapping[str, str]) -> None:
    """Give a package its ``__all__``, and the ``__getattr__`` and ``__dir__`` that load it.

    For the type checker, the package imports each name under ``TYPE_CHECKING`` as itself
    (``from m import A as A``), which exports it.

    Args:
        package: its ``__name__``; it is being imported.
        modules: the full name of the module that defines it, for each public name.
    """
    namespace = vars(sys.modules[package])

    def load_name(name: str) -> Any:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(module), name)  # found at once from now on
        return value

    namespace["__all__"] = sorted(modules)
    namespace["__getattr__"] = load_name
    namespace["__dir__"] = lambda: sorted({*namespace, *modules})
