"""Makes an environment, runs every project in it, and prints a table."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.strangers.projects import PROJECTS
from tests.strangers.running import Comparison, compare

_ROOT = Path(__file__).parent.parent.parent


def main() -> int:
    """Print a row for each project, and what differs; exit with 1 if anything does."""
    parser = argparse.ArgumentParser(prog="python -m tests.strangers", description=__doc__)
    parser.add_argument("project", nargs="*", help="only those whose name contains one of these")
    parser.add_argument("--environment", help="a virtual environment to use, instead of a new one")
    parser.add_argument("--short", action="store_true", help="one project of each kind")
    arguments = parser.parse_args()
    chosen = [
        project
        for project in PROJECTS
        if (project.is_short or not arguments.short)
        and (not arguments.project or any(name in project.name for name in arguments.project))
    ]
    with tempfile.TemporaryDirectory(prefix="rimp-strangers-") as name:
        directory = Path(arguments.environment or name).absolute()
        if not arguments.environment:
            _make_environment(directory)
        comparisons = []
        for project in chosen:
            comparison = compare(project, directory / "bin")
            comparisons.append(comparison)
            print(
                f"{project.name}: {'; '.join(comparison.differences) or 'the same'}",
                file=sys.stderr,
            )
    _print_table(comparisons)
    return 1 if any(comparison.differences for comparison in comparisons) else 0


def _make_environment(directory: Path) -> None:
    venv.create(directory, with_pip=True)
    requirements = Path(__file__).with_name("requirements.txt")
    subprocess.run(
        [directory / "bin" / "pip", "install", "--quiet", f"{_ROOT}[run]", "-r", requirements],
        check=True,
    )


def _print_table(comparisons: list[Comparison]) -> None:
    print("| project | answered | recorded | in the measurements | exit code | differs |")
    print("|---|---|---|---|---|---|")
    for one in comparisons:
        answered = len(one.recorded.responses)
        requests = (answered, one.server_spans, one.measured) if answered else ("", "", "")
        if one.project.tasks:
            requests = (one.project.tasks, "", one.measured)
        recorded = requests[1] if answered else _count(one.spans, "span", one.logs, "log record")
        differs = f"{len(one.differences)}: {one.differences[0]}" if one.differences else "nothing"
        row = (one.project.name, requests[0], recorded, requests[2], one.recorded.code, differs)
        print("|", " | ".join(map(str, row)), "|")


def _count(*counted: int | str) -> str:
    pairs = zip(counted[::2], counted[1::2], strict=True)
    return ", ".join(f"{number} {noun}" + "s" * (number != 1) for number, noun in pairs)


if __name__ == "__main__":
    sys.exit(main())
