"""The benchmark: ``python -m tests.benchmarks``.

Every case takes turns with its peer, round by round, in one process; the figures are medians over
the rounds, and a ratio is that of one round. It exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.benchmarks.cases import all_cases
from tests.benchmarks.measure import run_case
from tests.benchmarks.report import as_json, as_table, machine


def main() -> int:
    """Runs the cases and prints what came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that are counted (7)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of records (1.0)")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    arguments = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()), file=sys.stderr)
    cases = all_cases(arguments.scale)
    if len(cases) < 3:
        print(
            "the official JSON file exporter is not installed, so its case is left out: "
            "pip install --no-deps opentelemetry-exporter-otlp-json-file "
            "opentelemetry-exporter-otlp-json-common opentelemetry-proto-json",
            file=sys.stderr,
        )
    results = [run_case(case, arguments.rounds) for case in cases]
    print(as_table(results))
    if arguments.json:
        command = "python -m tests.benchmarks " + " ".join(sys.argv[1:])
        arguments.json.write_text(json.dumps(as_json(results, command, arguments.rounds), indent=2))
    return 0 if all(result.reached for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
