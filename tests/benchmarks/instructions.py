"""Instructions of the hot paths: ``python -m tests.benchmarks.instructions``.

Counted by ``valgrind --tool=callgrind``, less those of an empty run, per record; so that a change of
a few per cent shows on a machine on which times do not. Beside each the ratio to the baseline that
is kept in ``instructions.json`` for this version of Python; ``--store`` makes a new one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.hot import COMPARED, PATHS

BASELINE = Path(__file__).with_name("instructions.json")
_ROOT = Path(__file__).parent.parent.parent
_CONTROL = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""
_NAME = re.compile(r"^desc: Trigger: Client Request: (.*)$", re.MULTILINE)
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def main() -> int:
    """Count, and print a line for each path."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.instructions")
    parser.add_argument("path", nargs="*", help=f"which: {', '.join(PATHS)} (all)")
    parser.add_argument("--records", type=int, default=1_000, help="of each path (1,000)")
    parser.add_argument("--store", action="store_true", help="keep the result as the baseline")
    parser.add_argument(
        "--peer",
        action="store_true",
        help="compare a span's whole way to disk with the official JSON file exporter's instead",
    )
    parser.add_argument("--most", type=float, help="exit with 1 if a ratio is above this")
    arguments = parser.parse_args()
    unknown = set(arguments.path) - set(PATHS)
    if unknown:
        parser.error(f"there is no path {', '.join(sorted(unknown))}")
    for tool, package in (("valgrind", "valgrind"), ("cc", "gcc")):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is not installed: apt-get install {package}")
    if arguments.peer:
        _show_compared(count(list(COMPARED), arguments.records))
        return 0
    found = count(arguments.path or list(PATHS), arguments.records)
    ratios = _show(found)
    if arguments.store:
        _store(found)
    return 1 if arguments.most and max(ratios, default=0.0) > arguments.most else 0


def count(paths: list[str], records: int) -> dict[str, float]:
    """Return the instructions a record, by path."""
    with tempfile.TemporaryDirectory(prefix="rimp-instructions-") as name:
        directory = Path(name)
        _run(directory, paths, records)
        totals = dict(map(_total, directory.glob("callgrind.out.*.*")))
    return {path: (totals[f"{path}/all"] - totals[f"{path}/empty"]) / records for path in paths}


def _run(directory: Path, paths: list[str], records: int) -> None:
    source, library = directory / "control.c", directory / "control.so"
    source.write_text(_CONTROL)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet"]
    command += [f"--callgrind-out-file={directory}/callgrind.out.%p"]
    command += [sys.executable, "-m", "tests.benchmarks.hot", str(library), str(records), *paths]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    subprocess.run(command, cwd=_ROOT, env=environment, check=True)


def _total(file: Path) -> tuple[str, int]:
    text = file.read_text()
    name, total = _NAME.search(text), _TOTAL.search(text)
    return (name[1] if name else "", int(total[1]) if total else 0)


def _baselines() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(BASELINE.read_text())
    return found


def _version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _show(found: dict[str, float]) -> list[float]:
    baseline = _baselines().get(_version(), {})
    ratios = []
    print(f"{'instructions a record':30} {'now':>9} {'baseline':>9} {'ratio':>7}")
    for path, now in found.items():
        before = baseline.get(path)
        ratio = now / before if before else None
        ratios += [ratio] if ratio else []
        of = f"{before:9,.0f} {ratio:7.3f}" if before and ratio else f"{'none':>9}"
        print(f"{path:30} {now:9,.0f} {of}")
    return ratios


def _show_compared(found: dict[str, float]) -> None:
    peer = next(iter(found.values()))
    print(f"{'instructions a span, whole way':30} {'':>9} {'ratio':>7}")
    for path, now in found.items():
        print(f"{path:30} {now:9,.0f} {now / peer:7.3f}")


def _store(found: dict[str, float]) -> None:
    baselines = _baselines()
    kept = {**baselines.get(_version(), {}), **{path: round(now) for path, now in found.items()}}
    baselines[_version()] = kept
    BASELINE.write_text(json.dumps(baselines, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
