"""``rimp seal``: makes Parquet twins of sealed files."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.options import add_json, add_path, recording_path
from rimp_otel.cli.output import open_recording, say
from rimp_otel.render.format import format_bytes, plural
from rimp_otel.render.terminal import to_json

if TYPE_CHECKING:
    from rimp_otel.sql.parquet import Sealed

__all__ = ["add_seal_parser"]

_DESCRIPTION = """\
Make a Parquet twin of every sealed file that has none, so that SQL answers at once.

Twins are derived: they can be deleted at any time, and go with their sealed files. It runs with
low priority, and may be interrupted, and run again, at any time.
"""


def add_seal_parser(subparsers: Any) -> None:
    """``rimp seal``."""
    parser = subparsers.add_parser(
        "seal",
        help="make Parquet files of what is sealed",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recording", metavar="PATH", nargs="?", help="the recording, as --path")
    parser.add_argument(
        "--rebuild", action="store_true", help="make the twins anew that there are, too"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="read the twins that there are, and make those anew that are damaged",
    )
    add_path(parser)
    add_json(parser, "what was done")
    parser.set_defaults(command=_run_seal)


def _run_seal(args: argparse.Namespace) -> int:
    args.path = args.recording or args.path
    path = recording_path(args)
    open_recording(path)  # or say that there is none
    # These need PyArrow, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.sql.parquet import seal

    _give_way()
    done = seal(path, _tell if sys.stderr.isatty() else None, args.rebuild, args.check)
    for error in done.errors:
        say(error)
    print(to_json(_json(done)) if args.json else _text(done))
    return 1 if done.errors else 0


def _give_way() -> None:
    """What is recorded is more urgent than this."""
    try:
        os.nice(10)
    except OSError:
        pass


def _tell(path: Path, done: int, total: int) -> None:
    say(f"{path.name}, {done + 1} of {total}")


def _json(done: Sealed) -> dict[str, Any]:
    return {**done._asdict(), "errors": list(done.errors)}


def _text(done: Sealed) -> str:
    if done.is_busy:
        return "another process is making them"
    parts = [f"made {plural(done.made, 'twin')}"]
    if done.made:
        sizes = f"{format_bytes(done.bytes)} from {format_bytes(done.sealed_bytes)}"
        parts.append(f"{plural(done.records, 'record')} in {sizes} of sealed files")
    parts.append(f"{done.kept:,} were there")
    if done.removed:
        parts.append(f"removed {done.removed:,} without a sealed file")
    if done.damaged:
        parts.append(f"left out {plural(done.damaged, 'damaged line')}; 'rimp verify' lists them")
    return "; ".join(parts)
