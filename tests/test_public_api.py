"""The public interface: names and signatures, what an editor offers, and what the docs import."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rimp_otel
from tests.public_api import LIST, PUBLIC, describe, public_names
from tests.test_docs import blocks

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def _extras():
    """The extra ``sql``: ``Connection`` is public."""
    pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")


def test_names_and_signatures_are_those_of_the_list():
    """A difference is a change of the public interface: if it is meant, rewrite the list by
    ``python -m tests.public_api --write``, and say so in docs/changelog.md."""
    assert describe() == LIST.read_text()


def public_callables() -> Iterator[tuple[str, Any]]:
    """Yield each public function, class (for its fields) and method with its name."""
    for package in PUBLIC:
        for name, value in public_names(package).items():
            if not inspect.isclass(value):
                if callable(value):
                    yield f"{package}.{name}", value
                continue
            if not value.__module__.startswith("rimp_otel"):
                continue
            yield f"{package}.{name}", value
            for member in sorted({"__init__", *dir(value)}):
                if member.startswith("_") and member != "__init__":
                    continue
                found = inspect.getattr_static(value, member)
                if isinstance(found, property):
                    found = found.fget
                elif isinstance(found, (classmethod, staticmethod)):
                    found = found.__func__
                if inspect.isfunction(found) and found.__module__.startswith("rimp_otel"):
                    yield f"{package}.{name}.{member}", found


def test_type_hints_of_every_public_callable():
    """``typing.get_type_hints`` works on them, for those who make forms, tools or docs of them."""
    failed = {}
    for name, function in public_callables():
        try:
            typing.get_type_hints(function)
        except NameError as error:
            failed[name] = str(error)
    assert failed == {}


def sources() -> list[tuple[str, str]]:
    """The documentation's code blocks and the examples, each with its name."""
    examples = [
        (path.relative_to(EXAMPLES).as_posix(), path.read_text())
        for path in sorted(EXAMPLES.rglob("*.py"))
    ]
    return [*((block.name, block.code) for block in blocks()), *examples]


@pytest.mark.parametrize(("name", "code"), [pytest.param(*each, id=each[0]) for each in sources()])
def test_docs_and_examples_import_what_is_public(name, code):
    """Nothing else: a user who copies them depends on what stays."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            inner = {alias.name for alias in node.names if alias.name.startswith("rimp_otel")}
            assert inner <= set(PUBLIC), name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rimp_otel"):
            assert node.module in PUBLIC, name
            assert {alias.name for alias in node.names} <= {*public_names(node.module)}, name


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("models", ["EventType", "TelemetryData", "TelemetryEvent", "TelemetryMetric"]),
        ("config", ["TelemetryConfig"]),
        ("collector", ["TelemetryCollector"]),
        ("storage", ["FileStorage", "MemoryStorage", "SQLiteStorage", "TelemetryStorage"]),
        ("streaming", ["TelemetryStream"]),
    ],
)
def test_five_modules(module, names):
    """The five modules have their classes, which are the same at the top; an editor lists them."""
    found = importlib.import_module(f"rimp_otel.{module}")
    for name in names:
        assert getattr(found, name) is getattr(rimp_otel, name)
    assert {*names} <= {*found.__all__} & {*dir(found)} & {*dir(rimp_otel)}


@pytest.mark.parametrize(
    "name",
    [
        "HistogramPoint",
        "MetricKind",
        "ResourceInfo",
        "ScopeInfo",
        "Signal",
        "StreamStats",
        "select",
    ],
)
def test_public_at_the_top(name):
    """What a storage or a consumer of one's own needs stands at the top."""
    assert name in rimp_otel.__all__
    assert getattr(rimp_otel, name).__name__ == name


def test_version():
    """The version is that of the distribution."""
    assert rimp_otel.__version__ == importlib.metadata.version("rimp-otel")
