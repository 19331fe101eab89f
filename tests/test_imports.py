"""The package's imports: they go one way, stand at the top, and load nothing optional."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

import rimp_otel
from tests.processes import run

PACKAGE = Path(rimp_otel.__file__).parent

LAYERS = [
    ("errors", "fsutil", "lazy_exports", "process"),
    ("config", "models"),
    ("otlp", "render"),
    ("analysis", "convert", "trace"),
    ("batch", "processing"),
    ("journal",),
    ("storage",),
    ("collector", "streaming", "sql"),
    ("otel", "transport", "prometheus"),
    ("cli", "viewer", "testing", "__init__", "__main__"),
]
"""What stands at the top of the package, from the bottom up. Each imports from layers before its own
and within its folder, but no peers in its layer. ``processing``, ``prometheus``,
``viewer`` and ``testing`` have their place and are not built."""

PEERS = {("streaming", "collector"), ("__main__", "cli"), ("cli", "viewer")}
"""The only pairs in one layer of which the first imports the second."""

FUNCTION_LEVEL = {
    # Extras, and what only the command `rimp run` or an installed instrumentation needs.
    ("models/times.py", "dateutil"),
    ("batch.py", "pydantic_core"),
    ("otel/autorecord.py", "importlib.metadata"),
    ("otel/autorecord.py", "opentelemetry.util._importlib_metadata"),
    ("otel/autorecord.py", "rimp_otel.otel.instrumentation"),
    ("otel/autorecord.py", "rimp_otel.otel.logging_capture"),
    ("otel/autorecord.py", "rimp_otel.otel.run_report"),
    ("otel/instrumentation.py", "opentelemetry.instrumentation.bootstrap_gen"),
    ("otel/instrumentation.py", "packaging.requirements"),
    ("otel/autorecord_site/sitecustomize.py", "rimp_otel.otel.autorecord"),
    ("sql/__init__.py", "rimp_otel.sql.connection"),
    ("__init__.py", "importlib.metadata"),
    # Reading a recording, which a program that records does not do.
    ("batch.py", "rimp_otel.models.accessors"),
    ("batch.py", "rimp_otel.convert.logs"),
    ("batch.py", "rimp_otel.convert.metrics"),
    ("batch.py", "rimp_otel.otlp.decode"),
    ("batch.py", "rimp_otel.otlp.scan"),
    ("collector/buffer.py", "rimp_otel.otlp.decode"),
    # Where nobody has named the service.
    ("collector/collector.py", "rimp_otel.collector.service_name"),
    ("journal/format.py", "rimp_otel.otlp.decode"),
    ("journal/format.py", "rimp_otel.otlp.scan"),
    ("storage/files/appender.py", "rimp_otel.otlp.scan"),
    ("storage/files/journal_target.py", "rimp_otel.storage.files.lines"),
    ("storage/files/storage.py", "rimp_otel.storage.files.recording"),
    # Either files or SQLite, to read or to write.
    ("storage/recording.py", "rimp_otel.storage.files.layout"),
    ("storage/recording.py", "rimp_otel.storage.files.recording"),
    ("storage/recording.py", "rimp_otel.storage.files.storage"),
    ("storage/recording.py", "rimp_otel.storage.sqlite.recording"),
    ("storage/recording.py", "rimp_otel.storage.sqlite.schema"),
    ("storage/recording.py", "rimp_otel.storage.sqlite.storage"),
    ("transport/forwarding/forwarder.py", "rimp_otel.transport.forwarding.database_source"),
    ("transport/forwarding/forward_status.py", "rimp_otel.storage.sqlite.stored"),
    # Making sealed files, once the first file was rotated.
    ("storage/files/layout.py", "hashlib"),
    ("storage/files/sealer.py", "rimp_otel.storage.files.index"),
    ("storage/files/sealer.py", "rimp_otel.storage.files.parquet_job"),
    ("storage/files/sealer.py", "rimp_otel.storage.files.retention"),
    ("storage/files/sealer.py", "rimp_otel.storage.files.sealed_file"),
    ("storage/files/sealer.py", "rimp_otel.storage.forwarding"),
    ("streaming/stream.py", "hashlib"),
    # Recovering what a process that died left.
    ("journal/recovery.py", "rimp_otel.journal.orphans"),
    # The extra ``server``.
    ("transport/receiving/server.py", "rimp_otel.transport.receiving.http_answers"),
    ("transport/receiving/server.py", "rimp_otel.transport.receiving.http_guard"),
    ("transport/receiving/server.py", "rimp_otel.transport.receiving.http_receiver"),
    ("transport/receiving/server.py", "rimp_otel.transport.receiving.http_server"),
    ("transport/receiving/server.py", "starlette.routing"),
    ("viewer/tempo/traceql.py", "lark"),
    # Pictures, in notebooks.
    ("batch.py", "rimp_otel.render.html"),
    ("batch.py", "rimp_otel.trace"),
    ("trace.py", "rimp_otel.render.trace_svg"),
}
"""Extras and start-up boundaries, the only things that are imported within a function (outside of
the command line). Measured: deferred, the four boundaries save a quarter of a recorder's start."""

CEILINGS = {
    "import rimp_otel": (1, set()),
    "a recorder": (62, {"msgspec", "opentelemetry", "typing_extensions"}),
    "rimp --help": (12, set()),
    "rimp traces": (67, {"msgspec", "opentelemetry", "typing_extensions"}),
}
"""For each way to start: the most modules of this package that are loaded, and the packages of others
that may be."""

EXTRAS = {"dateutil", "importlib.metadata", "rimp_otel.sql.connection"}
"""What no recorder imports, of ``FUNCTION_LEVEL``, outside of the command line and ``otel``."""

LAZY_PACKAGES = [
    "collector",
    "convert",
    "models",
    "otlp",
    "prometheus",
    "sql",
    "storage",
    "streaming",
]
"""Those that give their names by ``lazy_exports``."""

UPWARD = {("models/__init__.py", "rimp_otel.batch"), ("models/__init__.py", "rimp_otel.trace")}
"""Imports for the type checker alone: the batch and the trace are models to a user."""

SLOW = {
    "argparse",
    "asyncio",
    "duckdb",
    "gzip",
    "multiprocessing",
    "pyarrow",
    "sqlite3",
    "unicodedata",
}
"""What no recorder loads, of the standard library or not."""


def modules():
    """Yield each module's path and syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def imported(tree):
    """Yield the name of each module that a tree imports, with the statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & NAMES
            for name in inner or {node.module or ""}:
                yield name, node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node


def name_of(path):
    """Return the name of the module at a path of the package."""
    name = path.removesuffix(".py").removesuffix("__init__").replace("/", ".")
    return f"rimp_otel.{name}".rstrip(".")


NAMES = {name_of(path) for path, _ in modules()}


def part_of(name):
    """Return the layer's entry that a module belongs to."""
    first, _, rest = name.partition(".")
    assert first == "rimp_otel"
    return rest.partition(".")[0] or "__init__"


def layer_of(part):
    """Return the number of an entry's layer."""
    (number,) = [i for i, layer in enumerate(LAYERS) if part in layer]
    return number


def test_imports_go_one_way():
    """Modules import from lower layers, so that there is no cycle."""
    wrong = []
    for path, tree in modules():
        name = path.removesuffix(".py").removesuffix("/__init__")
        part = name.partition("/")[0]
        for target, _ in imported(tree):
            if target.split(".")[0] != "rimp_otel":
                continue
            other = part_of(target)
            if other == part or (part, other) in PEERS:
                continue
            if layer_of(other) >= layer_of(part) and (path, target) not in UPWARD:
                wrong.append((path, target))
    assert wrong == []


def test_no_cycle_within_a_folder():
    """Each module of a folder can be imported first."""
    graph = {}
    for path, tree in modules():
        name = name_of(path)
        targets = {t for t, _ in imported(tree) if (path, t) not in UPWARD}
        graph[name] = {t for t in targets if t.startswith("rimp_otel") and t != name}
    done: set[str] = set()

    def visit(name, inside):
        assert name not in inside, [*inside, name]
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, [*inside, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_imports_stand_at_the_top():
    """The imports within functions are those that are listed, and no others."""
    found = set()
    for path, tree in modules():
        if path.startswith("cli/"):
            continue
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found |= {(path, target) for target, _ in imported(function)}
    assert found == FUNCTION_LEVEL


def test_imports_within_functions_hold_off_forks():
    """They stand in a ``with importing():`` block, in all code that a recorder runs."""
    unguarded = []
    for path, tree in modules():
        if path.startswith(("cli/", "otel/")):
            continue
        guarded = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.With)
            and ast.unparse(block.items[0].context_expr) == "importing()"
            for node in ast.walk(block)
        }
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for target, node in imported(function):
                    if target not in EXTRAS and id(node) not in guarded:
                        unguarded.append((path, target))
    assert unguarded == []


STARTS = {
    "import rimp_otel": "import rimp_otel",
    "a recorder": """
from opentelemetry import trace
from rimp_otel import TelemetryConfig, install
telemetry = install(TelemetryConfig(storage_backend="file", storage_path=sys.argv[1]))
with trace.get_tracer("test").start_as_current_span("span"):
    pass
telemetry.stream.flush()
""",
    "rimp --help": """
from rimp_otel.cli.main import main
main(["--help"])
""",
    "rimp traces": """
from rimp_otel.cli.main import main
main(["traces", "--path", sys.argv[1]])
""",
}


@pytest.mark.parametrize("start", STARTS)
def test_no_more_modules_are_loaded_at_the_start(start, tmp_path):
    """Each module costs every start half a millisecond or more."""
    path = tmp_path / "recording"
    if start == "rimp traces":
        load(STARTS["a recorder"], path)
    loaded = load(STARTS[start], path)
    own = {name for name in loaded if name.partition(".")[0] == "rimp_otel"}
    others = {name.partition(".")[0] for name in loaded - own} - sys.stdlib_module_names
    most, allowed = CEILINGS[start]
    assert len(own) <= most, sorted(own)
    assert others <= allowed
    if start in ("import rimp_otel", "a recorder"):
        assert not loaded & SLOW


def load(start, path):
    """Run a script, and return the modules that it has loaded when it ends."""
    script = f"""import sys
before = set(sys.modules)
try:
    {start.strip().replace(chr(10), chr(10) + "    ")}
except SystemExit:
    pass
print("loaded", *(set(sys.modules) - before))
"""
    return set(run(script, path).splitlines()[-1].split()[1:])


def test_every_module_has_a_docstring_and_sorted_names():
    """``__all__`` has CONSTANTS first, then Classes, then functions."""
    for path, tree in modules():
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names = ast.literal_eval(node.value)
                assert names == sorted(set(names), key=kind_and_name), path


def kind_and_name(name):
    """Return the key by which ruff sorts ``__all__``."""
    return (not name.isupper(), not name[0].isupper(), name)


def test_import_loads_no_extra():
    """Not even ``import *`` loads an optional or slow dependency."""
    script = """
    import sys
    from rimp_otel import *
    extras = ("pydantic", "dateutil", "google.protobuf", "opentelemetry.proto", "flask", "requests", "grpc",
              "opentelemetry.instrumentation", "zstandard", "duckdb", "pyarrow", "yaml", "multiprocessing",
              "rimp_otel.cli")
    print([name for name in extras if name in sys.modules])
    """
    assert run(script) == "[]\n"


def test_the_package_gives_its_names_when_they_are_asked_for():
    """Importing it loads no module; each name of ``__all__`` is loaded on demand."""
    script = """
    import sys
    import rimp_otel
    before = [name for name in sys.modules if name.startswith(("rimp_otel.", "opentelemetry"))]
    print(before, all(getattr(rimp_otel, name).__name__ == name for name in rimp_otel.__all__))
    print(rimp_otel.storage.FileStorage is rimp_otel.FileStorage, "install" in dir(rimp_otel))
    """
    assert run(script) == "[] True\nTrue True\n"
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        rimp_otel.nonsense  # noqa: B018


@pytest.mark.parametrize("package", ["", *LAZY_PACKAGES])
def test_the_type_checker_finds_names_where_they_are_loaded_from(package):
    """Each name is imported as itself, which exports it, from the module in the mapping."""
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text())
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }
    (mapping,) = [
        ast.literal_eval(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict) and node.keys
    ]
    assert typed == mapping
    assert set(mapping) <= set(importlib.import_module(f"rimp_otel.{package}".rstrip(".")).__all__)


def test_reading_loads_neither_logs_nor_metrics_of_the_sdk():
    """They take a third of the time until `rimp tail` shows something."""
    script = """
    import sys
    from rimp_otel.storage.files.recording import FileRecording
    print([name for name in ("opentelemetry.sdk.metrics", "opentelemetry.sdk._logs") if name in sys.modules])
    from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
    data = TelemetryData([TelemetryEvent("a", "m")], [TelemetryMetric("m", 1)])
    print(len(data.log_records), len(data.metrics_data.resource_metrics))
    print(len(TelemetryData.from_metrics_data(data.metrics_data).metrics))
    """
    assert run(script) == "[]\n1 1\n1\n"
    for package in ("convert", "otlp"):
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            getattr(importlib.import_module(f"rimp_otel.{package}"), "nonsense")  # noqa: B009


def test_works_without_extras():
    """A recorder runs if none of them can be imported."""
    script = """
    import sys
    for name in ("pydantic", "dateutil", "google", "grpc", "opentelemetry.proto", "flask",
                 "requests", "opentelemetry.instrumentation", "zstandard", "duckdb", "pyarrow"):
        sys.modules[name] = None
    import rimp_otel
    with rimp_otel.install(storage=rimp_otel.MemoryStorage(), quiet=True) as telemetry:
        telemetry.collector.collect_event("a", "b")
    print(len(telemetry.storage.retrieve().events))
    """
    assert run(script) == "1\n"
