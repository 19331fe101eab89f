"""The benchmark: ``python -m tests.benchmarks``.

In each case all contenders take turns, round by round, each in a process of its own; the figures
are medians over the rounds, with quartiles, and a ratio is that of one round. It exits with 1 if
a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.cases import ALL
from tests.benchmarks.child import FailedError
from tests.benchmarks.model import Case
from tests.benchmarks.report import as_json, as_table, machine
from tests.benchmarks.runner import Result, missing, run_case

INSTALL = "pip install -r tests/benchmarks/requirements.txt"


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    made.add_argument("case", nargs="*", type=int, help="numbers of cases (all)")
    made.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    made.add_argument("--scale", type=float, default=1.0, help="of the number of records (1.0)")
    made.add_argument("--smoke", action="store_true", help="few records: does it still run?")
    made.add_argument("--json", type=Path, help="also write everything measured to this file")
    made.add_argument("--cache", type=Path, help="where case 12 keeps its recording")
    made.add_argument("--list", action="store_true", help="say which cases there are")
    return made


def main() -> int:
    """Runs the cases and prints what came out."""
    arguments = parser().parse_args()
    cases = [case for case in ALL if not arguments.case or case.number in arguments.case]
    if arguments.list:
        for case in cases:
            print(f"{case.number:>2}  {case.title}")
        return 0
    command = "python -m tests.benchmarks " + " ".join(sys.argv[1:])
    print(f"{command}\n{_words(machine())}", file=sys.stderr)
    results = _run(cases, arguments)
    print(as_table(results))
    if arguments.json:
        found = as_json(results, command, arguments.rounds)
        arguments.json.write_text(json.dumps(found, indent=1))
    missed = [row for result in results for row in result.rows if row.reached is False]
    return 1 if missed and not arguments.smoke else 0


def _run(cases: list[Case], arguments: argparse.Namespace) -> list[Result]:
    absent = sorted({name for case in cases for name in missing(case)})
    if absent:
        print(f"left out, not installed: {', '.join(absent)}; {INSTALL}", file=sys.stderr)
    cache = arguments.cache or Path(tempfile.gettempdir()) / "rimp-benchmark-cache"
    results = []
    for case in cases:
        records = case.smoke_records if arguments.smoke else int(case.records * arguments.scale)
        try:
            results.append(run_case(case, max(records, 1), arguments.rounds, cache, _say))
        except FailedError as error:
            sys.exit(f"case {case.number} failed: {error}")
    return results


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _words(found: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items() if value is not None)


if __name__ == "__main__":
    sys.exit(main())
