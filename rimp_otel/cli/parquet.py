"""``rimp parquet``: converts sealed files to Parquet."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.options import UsageError, add_json_option, add_path_option, path_from_args
from rimp_otel.cli.output import Progress, open_recording_at, warn
from rimp_otel.render.format import format_bytes, format_count
from rimp_otel.render.terminal import to_json

if TYPE_CHECKING:
    from rimp_otel.sql.parquet import ParquetResult

__all__ = ["add_parquet_arguments"]

_DESCRIPTION = """\
Convert every sealed file that has no Parquet copy yet, so that SQL queries start at once.

Parquet copies are derived: they can be deleted at any time, and are deleted with their sealed
files. The command runs at low priority, and can be interrupted and run again at any time.
'rimp seal' is an older name of it.
"""


def add_parquet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp parquet``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "recording", metavar="PATH", nargs="?", help="path of the recording (same as --path)"
    )
    parser.add_argument("--rebuild", action="store_true", help="convert all sealed files again")
    parser.add_argument(
        "--check",
        action="store_true",
        help="check existing copies and replace damaged ones",
    )
    add_path_option(parser)
    add_json_option(parser, "what was done")
    parser.set_defaults(command=_run_parquet)


def _run_parquet(args: argparse.Namespace) -> int:
    args.path = args.recording or args.path
    path = path_from_args(args)
    open_recording_at(path)  # raises if there is none
    if path.is_file():
        raise UsageError(
            f"{path} is a database, which has no sealed files to convert: 'rimp sql' reads it as it"
            " is, and 'rimp sql --output FILE.parquet' writes Parquet"
        )
    # These need PyArrow, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.sql.parquet import make_parquet_files

    _lower_priority()
    with Progress("making Parquet files", unit="files") as progress:
        done = make_parquet_files(
            path,
            lambda file, number, total: progress.show(file.name, number, total),
            args.rebuild,
            args.check,
        )
    for error in done.errors:
        warn(error)
    print(to_json(_parquet_json(done)) if args.json else _format_result(done))
    return 1 if done.errors else 0


def _lower_priority() -> None:
    # Recording is more urgent than this.
    try:
        os.nice(10)
    except OSError:
        pass


def _parquet_json(done: ParquetResult) -> dict[str, Any]:
    return {**done._asdict(), "errors": list(done.errors)}


def _format_result(done: ParquetResult) -> str:
    if done.is_busy:
        return "another process is already converting this recording"
    parts = [f"converted {format_count(done.made, 'file')}"]
    if done.made:
        sizes = f"{format_bytes(done.sealed_bytes)} to {format_bytes(done.bytes)}"
        parts[0] += f" ({format_count(done.records, 'record')}, {sizes})"
    parts.append(f"{done.kept:,} already converted")
    if done.removed:
        parts.append(f"removed {format_count(done.removed, 'stale file')}")
    if done.damaged:
        parts.append(f"skipped {format_count(done.damaged, 'damaged line')} (see 'rimp verify')")
    return ", ".join(parts)
