"""Names that are loaded when they are first asked for."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from rimp_otel.lazy_exports import export_lazily


@pytest.fixture
def package(monkeypatch):
    """A package with one module, that has two names."""
    package, module = ModuleType("parcel"), ModuleType("parcel.inside")
    package.__path__ = []
    module.a, module.b = 1, 2
    monkeypatch.setitem(sys.modules, "parcel", package)
    monkeypatch.setitem(sys.modules, "parcel.inside", module)
    export_lazily("parcel", {"a": "parcel.inside"})
    return package


def test_loaded_once(package):
    """The second time it is the package's own."""
    assert "a" not in vars(package)
    assert package.a == 1
    assert vars(package)["a"] == 1


def test_only_what_is_public(package):
    """What a module has besides is not the package's."""
    with pytest.raises(AttributeError, match="module 'parcel' has no attribute 'b'"):
        _ = package.b


def test_all_are_listed(package):
    """Also those that were not asked for yet."""
    assert "a" in dir(package)
    assert "b" not in dir(package)
    assert package.__all__ == ["a"]
