"""The shape of the source tree in figures: ``python -m tests.architecture``.

A column for this package as it is, one for each ``--revision``, and one for each installed package
that is named (structlog, httpx and the OpenTelemetry SDK by default; what is not installed is left
out). All columns are counted by the same code, from the source text alone.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.test_imports import LAYERS

_ROOT = Path(__file__).parent.parent
_PEERS = ("structlog", "httpx", "opentelemetry.sdk")
MAX_SMALL_MODULE = 120


@dataclass
class Module:
    """One source file of a package."""

    #: Dotted, relative to the package; of an ``__init__`` the folder's name, empty for the package.
    name: str
    is_folder: bool
    lines: int
    #: Names of the package's modules that it imports, wherever in the file.
    imports: frozenset[str]
    functions: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def top(self) -> str:
        """The file or folder at the top of the package that it belongs to."""
        return self.name.partition(".")[0] or "__init__"


def read_package(package: str, folder: Path) -> dict[str, Module]:
    """Read every source file of ``package`` below ``folder``, by the module's name."""
    trees = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        is_folder = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_folder else parts)
        text = path.read_text()
        trees[name] = (is_folder, text.count("\n"), ast.parse(text))
    modules = {}
    for name, (is_folder, lines, tree) in trees.items():
        imports = frozenset(_imported(tree, package, name, is_folder, trees) - {name})
        modules[name] = Module(
            name,
            is_folder,
            lines,
            imports,
            tuple(
                n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
            ),
            tuple(n.name for n in tree.body if isinstance(n, ast.ClassDef)),
        )
    return modules


def _imported(
    tree: ast.Module, package: str, name: str, is_folder: bool, known: Mapping[str, object]
) -> set[str]:
    found = set()
    for candidates in _targets(tree, f"{package}.{name}".rstrip("."), is_folder):
        inner = (_within(target, package) for target in candidates)
        found |= set(next(([i] for i in inner if i is not None and i in known), []))
    return found


def _targets(tree: ast.Module, module: str, is_folder: bool) -> Iterator[tuple[str, ...]]:
    """Yield for each imported name the modules that it may mean, the likeliest first.

    What a folder's ``__init__`` names for the type checker alone is left out: it is loaded when
    somebody asks for it.
    """
    for node in _nodes(tree, skip_type_checking=is_folder):
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") + [""] * is_folder
            base = ".".join(parts[: -node.level]) if node.level else ""
            base = ".".join(filter(None, (base, node.module)))
            yield from ((f"{base}.{alias.name}", base) for alias in node.names)


def _nodes(tree: ast.AST, skip_type_checking: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if (
            skip_type_checking
            and isinstance(node, ast.If)
            and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            continue
        yield node
        yield from _nodes(node, skip_type_checking)


def _within(target: str, package: str) -> str | None:
    if target == package:
        return ""
    return target.removeprefix(f"{package}.") if target.startswith(f"{package}.") else None


def _longest_chain(graph: Mapping[str, set[str]]) -> int:
    """Return the number of nodes on the longest chain of imports; a cycle counts as one node."""
    component = _components(graph)
    edges: dict[int, set[int]] = defaultdict(set)
    for node, targets in graph.items():
        edges[component[node]] |= {component[t] for t in targets} - {component[node]}
    depth: dict[int, int] = {}

    def measure(node: int) -> int:
        if node not in depth:
            depth[node] = 1 + max((measure(t) for t in edges[node]), default=0)
        return depth[node]

    return max(measure(number) for number in set(component.values()))


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found, waiting = set(), [start]
    while waiting:
        for target in graph.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def _components(graph: Mapping[str, set[str]]) -> dict[str, int]:
    reachable = {node: _reachable(graph, node) for node in graph}
    numbers: dict[str, int] = {}
    for node in graph:
        mutual = {n for n in reachable[node] if node in reachable[n]}
        numbers[node] = min((numbers[n] for n in mutual if n in numbers), default=len(numbers))
    return numbers


def measure(modules: Mapping[str, Module], layers: int | None = None) -> dict[str, str]:
    """Return the figures of a package, by what they are figures of."""
    files = [module for module in modules.values() if not module.is_folder]
    tops = {module.top for module in modules.values()}
    folders = {module.top for module in modules.values() if "." in module.name or module.is_folder}
    graph: dict[str, set[str]] = {top: set() for top in tops}
    importers: Counter[str] = Counter()
    for module in modules.values():
        graph[module.top] |= {modules[t].top for t in module.imports} - {module.top}
        importers.update(module.imports)
    functions = [(name, module.name) for module in modules.values() for name in module.functions]
    names = Counter(name for name, _ in functions)
    shared = sum(count for count in names.values() if count > 1)
    classes = Counter(name for module in modules.values() for name in module.classes)
    components = Counter(_components(graph).values())
    lone = [m for m in files if importers[m.name] == 1]
    return {
        "modules": str(len(files)),
        "lines": str(sum(module.lines for module in modules.values())),
        "files at the top": str(len(tops - folders)),
        "folders at the top": str(len(folders - {"__init__"})),
        "layers in the import test": str(layers or "-"),
        "longest chain at the top": str(_longest_chain(graph)),
        "top-level things in cycles": str(sum(c for c in components.values() if c > 1)),
        "arrows between top-level things": str(sum(map(len, graph.values()))),
        "median module, lines": f"{median(module.lines for module in files):.0f}",
        "largest module, lines": str(max(module.lines for module in files)),
        "module-level functions": str(len(functions)),
        "share of them whose name is another module's too": f"{shared / max(len(functions), 1):.0%}",
        "class names in two places": str(sum(count > 1 for count in classes.values())),
        "modules with one importer": str(len(lone)),
        f"of these, under {MAX_SMALL_MODULE} lines": str(
            sum(m.lines < MAX_SMALL_MODULE for m in lone)
        ),
    }


def read_revision(revision: str) -> dict[str, Module]:
    """Read this package as it was at a revision of the repository."""
    archive = subprocess.run(
        ["git", "archive", revision, "rimp_otel"], cwd=_ROOT, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar.getmembers():
                if member.isfile() and member.name.endswith(".py"):
                    target = Path(name, member.name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    source = tar.extractfile(member)
                    assert source is not None
                    target.write_bytes(source.read())
        return read_package("rimp_otel", Path(name, "rimp_otel"))


def main() -> int:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.architecture", description=__doc__)
    parser.add_argument("package", nargs="*", default=_PEERS, help="installed packages")
    parser.add_argument("--revision", action="append", default=[], help="this package at a commit")
    arguments = parser.parse_args()
    columns = {r: measure(read_revision(r)) for r in arguments.revision}
    columns["rimp_otel"] = measure(read_package("rimp_otel", _ROOT / "rimp_otel"), len(LAYERS))
    for package in arguments.package:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            print(f"{package} is not installed, and left out", file=sys.stderr)
            continue
        folder = Path(next(iter(spec.submodule_search_locations)))
        columns[package] = measure(read_package(package, folder))
    print("| |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for figure in columns["rimp_otel"]:
        print(f"| {figure} |", " | ".join(column[figure] for column in columns.values()), "|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
