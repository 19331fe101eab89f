"""Code that runs when a module has been imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rimp_otel.otel.import_hooks import call_when_imported, is_hookable


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make modules that can be imported, and forget them."""
    (tmp_path / "awaited.py").write_text("value = 1\n")
    (tmp_path / "failing.py").write_text("import gone_for_good\n")
    (tmp_path / "namespace").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    before, finders = set(sys.modules), list(sys.meta_path)
    yield
    sys.meta_path[:] = finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_after_the_import() -> None:
    """The function is called once, when the module is complete, and the module's loader is its own."""
    seen = []
    call_when_imported("awaited", lambda: seen.append(sys.modules["awaited"].value))
    assert seen == []
    module = importlib.import_module("awaited")
    assert seen == [1]
    assert "exec_module" not in vars(module.__spec__.loader)
    importlib.reload(module)
    assert seen == [1]


def test_what_is_imported_already() -> None:
    """The function is called at once."""
    seen: list[int] = []
    call_when_imported("sys", lambda: seen.append(1))
    assert seen == [1]


def test_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """What a function raises does not reach the import statement, nor the next function."""
    seen: list[int] = []
    call_when_imported("awaited", lambda: 1 / 0)
    call_when_imported("awaited", lambda: seen.append(1))
    importlib.import_module("awaited")
    assert seen == [1]
    assert "not all is instrumented: ZeroDivisionError" in capsys.readouterr().err


def test_a_module_that_fails() -> None:
    """An import that fails, fails as it would without a function."""
    seen: list[int] = []
    call_when_imported("failing", lambda: seen.append(1))
    with pytest.raises(ModuleNotFoundError, match="gone_for_good"):
        importlib.import_module("failing")
    assert seen == []


@pytest.mark.parametrize(
    ("name", "can"),
    [("awaited", True), ("os", True), ("namespace", False), ("gone", False), ("", False)],
)
def test_what_can_be_noticed(name: str, can: bool) -> None:
    """Namespace packages and modules that are not there cannot be."""
    assert is_hookable(name) == can
