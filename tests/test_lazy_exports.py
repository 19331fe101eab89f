"""Public names of a package that are loaded when they are first asked for."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from rimp_otel.lazy_exports import export_lazily


@pytest.fixture
def package(monkeypatch):
    """Return a package with one module that has two names, of which one is public."""
    package, module = ModuleType("parcel"), ModuleType("parcel.inside")
    package.__path__ = []
    module.a, module.b = 1, 2
    monkeypatch.setitem(sys.modules, "parcel", package)
    monkeypatch.setitem(sys.modules, "parcel.inside", module)
    export_lazily("parcel", {"a": "parcel.inside"})
    return package


def test_loaded_once(package):
    """The name is in the package's namespace from the first time on."""
    assert "a" not in vars(package)
    assert package.a == 1
    assert vars(package)["a"] == 1


def test_only_what_is_public(package):
    """A name that is not exported is not found."""
    with pytest.raises(AttributeError, match="module 'parcel' has no attribute 'b'"):
        _ = package.b


def test_all_are_listed(package):
    """dir() and ``__all__`` have names that were never asked for, too."""
    assert "a" in dir(package)
    assert "b" not in dir(package)
    assert package.__all__ == ["a"]
