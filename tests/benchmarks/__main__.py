"""The benchmark: ``python -m tests.benchmarks``.

In each case all contenders take turns, round by round, each in a process of its own; the figures
are medians over the rounds, with quartiles, and a ratio is that of one round. It exits with 1 if
a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import ALL
from tests.benchmarks.child import FailedError
from tests.benchmarks.docs import regenerate
from tests.benchmarks.model import Case
from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.report import as_json, as_table, describe_machine
from tests.benchmarks.runner import Result, missing_packages, run_case

INSTALL = "pip install -r tests/benchmarks/requirements.txt"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    made.add_argument("case", nargs="*", type=int, help="numbers of cases (all)")
    made.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    made.add_argument("--scale", type=float, default=1.0, help="of the number of records (1.0)")
    made.add_argument("--full", action="store_true", help="ten million records in cases 8 and 12")
    made.add_argument("--smoke", action="store_true", help="few records: does it still run?")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write all that was measured")
    made.add_argument("--svg", type=Path, metavar="DIR", help="also write pictures")
    made.add_argument("--docs", action="store_true", help="also renew docs/performance.md")
    made.add_argument(
        "--from",
        type=Path,
        nargs="+",
        metavar="FILE",
        dest="given",
        help="measure nothing: show what --json wrote, of several runs together",
    )
    made.add_argument("--cache", type=Path, metavar="DIR", help="where case 12 keeps its recording")
    made.add_argument("--list", action="store_true", help="say which cases there are")
    return made


def main() -> int:
    """Run the cases, and print the results."""
    arguments = build_parser().parse_args()
    cases = [case for case in ALL if not arguments.case or case.number in arguments.case]
    if arguments.list:
        for case in cases:
            print(f"{case.number:>2}  {case.title}")
        return 0
    found = merge_results(arguments.given) if arguments.given else _measured(cases, arguments)
    print(as_table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    if arguments.svg:
        write_pictures(found, arguments.svg)
    if arguments.docs:
        regenerate(found)
    missed = [row for case in found["cases"] for row in case["rows"] if row["reached"] is False]
    return 1 if missed and not arguments.smoke else 0


def merge_results(files: list[Path]) -> dict[str, Any]:
    """Return the results of several runs; of a case that more than one has, the last one's."""
    runs = [json.loads(file.read_text()) for file in files]
    cases = {(case["number"], case["title"]): case for run in runs for case in run["cases"]}
    found = {**runs[0], "cases": [cases[key] for key in sorted(cases)]}
    found["command"] = "; ".join(dict.fromkeys(run["command"].strip() for run in runs))
    return found


def _measured(cases: list[Case], arguments: argparse.Namespace) -> dict[str, Any]:
    command = _command(arguments)
    before = describe_machine()
    print(f"{command}\n{_words(before)}", file=sys.stderr)
    return as_json(_run(cases, arguments), command, arguments.rounds, before)


def _command(arguments: argparse.Namespace) -> str:
    """Return the arguments without those that say where to write."""
    words = ["python -m tests.benchmarks", *map(str, arguments.case)]
    words += [f"--rounds {arguments.rounds}"]
    words += [f"--scale {arguments.scale}"] if arguments.scale != 1 else []
    words += [f"--{flag}" for flag in ("full", "smoke") if getattr(arguments, flag)]
    return " ".join(words)


def _run(cases: list[Case], arguments: argparse.Namespace) -> list[Result]:
    absent = sorted({name for case in cases for name in missing_packages(case)})
    if absent:
        print(f"left out, not installed: {', '.join(absent)}; {INSTALL}", file=sys.stderr)
    cache = arguments.cache or Path(tempfile.gettempdir()) / f"rimp-benchmark-{os.getuid()}"
    results = []
    for case in cases:
        try:
            records = _records(case, arguments)
            results.append(run_case(case, records, arguments.rounds, cache, _say))
        except FailedError as error:
            sys.exit(f"case {case.number} failed: {error}")
    return results


def _records(case: Case, arguments: argparse.Namespace) -> int:
    if arguments.smoke:
        return case.smoke_records
    records = case.full_records if arguments.full and case.full_records else case.records
    return max(1, int(records * arguments.scale))


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _words(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items() if value is not None)


if __name__ == "__main__":
    sys.exit(main())
