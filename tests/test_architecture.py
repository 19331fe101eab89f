"""The shape of the source tree stays as it is meant to be; docs/development.md says why."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import rimp_otel
from tests.architecture import MAX_SMALL_MODULE, measure, read_package
from tests.test_imports import LAYERS

# What is read is the source.
pytestmark = pytest.mark.one_python

PACKAGE = Path(rimp_otel.__file__).parent
MODULES = read_package("rimp_otel", PACKAGE)

SMALL_WITH_ONE_IMPORTER = {
    "cli.child_process": "signals and exit codes of a child: a concept of its own, tested by itself",
    "cli.run_findings": "start-up: looks at what is installed, which only the end of a run asks for",
    "cli.run_summary": "start-up: parsing `rimp run` does not load the SDK",
    "cli.screen": "a full-screen terminal, whoever draws on it",
    "viewer.api": "HTTP: the only place that knows the paths of the page's questions",
    "viewer.page_files": "files over HTTP, whatever is in them",
    "viewer.answers.exceptions": "one question of the page, as logs and metrics are others",
    "viewer.search.catalog": "what the choices of a query page are, whichever API asks",
    "cli.timespec": "how people type times",
    "convert.logs": "start-up: reading does not load the SDK's logs",
    "models.tree": "spans as a tree: a question of records, not of drawing",
    "otel.import_hooks": "code that runs when a module is imported, whatever it is for",
    "otel.program_ends": "where programs end in order: one place for each framework",
    "prometheus.endpoint": "an optional dependency: the only part that needs Starlette",
    "prometheus.collector": "an optional dependency: the only part that needs prometheus-client",
    "processing.probability": "a specification of OpenTelemetry, whoever samples by it",
    "sql.logs": "the columns of one signal, as spans and metrics have theirs",
    "storage.sqlite.expired": "a table of its own, for whoever deletes and whoever forwards",
    "transport.forwarding.database_source": "start-up: forwarding files loads no SQLite",
    "transport.receiving.compression": "bounded decompression: knows nothing of HTTP",
    "storage.files.stored": "what is in files for certain: reading, not sending",
    "storage.files.parquet_job": "the only place that starts a process",
}
"""Modules under 120 lines that one other imports, and why each stands by itself."""


def test_the_top_of_the_package_is_the_data_flow():
    """Few files, and the folders that a maintainer would look for."""
    tops = {module.top for module in MODULES.values()}
    folders = {m.top for m in MODULES.values() if "." in m.name or (m.is_folder and m.name)}
    assert folders == {
        *("analysis", "cli", "collector", "convert", "journal", "models", "otel", "otlp"),
        *(
            "processing",
            "prometheus",
            "render",
            "sql",
            "storage",
            "streaming",
            "transport",
            "viewer",
        ),
    }
    assert tops - folders == {
        *("__init__", "__main__", "batch", "config", "errors", "fsutil", "lazy_exports"),
        *("process", "trace"),
    }
    assert len(LAYERS) == 10


def test_a_name_means_one_thing():
    """No class stands twice, and hardly a function."""
    figures = measure(MODULES)
    assert figures["class names in two places"] == "0"
    names = Counter(name for module in MODULES.values() for name in module.functions)
    assert sum(count for count in names.values() if count > 1) <= 0.02 * names.total()


def test_small_modules_with_one_importer_have_a_reason():
    """An optional dependency, a start-up boundary, an entry point."""
    importers = Counter(target for module in MODULES.values() for target in module.imports)
    small = {
        module.name
        for module in MODULES.values()
        if not module.is_folder and module.lines < MAX_SMALL_MODULE and importers[module.name] == 1
    }
    assert small <= set(SMALL_WITH_ONE_IMPORTER) <= set(MODULES)


def test_nothing_below_the_command_line_names_it():
    """No path of ``cli/`` and no name of its modules, except where a process of it is started."""
    allowed = {"__main__.py"}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("cli/") or name in allowed:
            continue
        docstrings = set()
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                docstrings.add(ast.get_docstring(node, clean=False))
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if not isinstance(text, str) or text in docstrings:
                continue
            if "rimp_otel.cli" in text or text == "cli" or text.startswith("cli/"):
                found.append((name, text))
    assert found == []


def test_every_folder_says_what_lives_there():
    """What may come in, and what of it is public."""
    for folder in sorted(path.parent for path in PACKAGE.rglob("__init__.py")):
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert len(docstring) > 60, folder
