"""``rimp sql``: query a recording with SQL, once or in a shell."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rimp_otel.cli.options import UsageError, add_output_options, parse_count, path_from_args
from rimp_otel.cli.output import Progress, open_recording_at
from rimp_otel.cli.sql_format import FORMATS, print_result

if TYPE_CHECKING:
    from rimp_otel.models.records import Signal

__all__ = ["add_sql_arguments"]

_DESCRIPTION = """\
Query a recording with SQL. Without SQL, read it from a pipe, or start a shell.

  rimp sql "SELECT SpanName, quantile_cont(Duration, 0.99) FROM otel_traces GROUP BY 1"

Views: otel_traces, otel_logs, otel_metrics_gauge, otel_metrics_sum, otel_metrics_histogram,
otel_metrics_exponential_histogram, otel_metrics_summary. 'DESCRIBE otel_logs' shows the columns of
one.
"""


def add_sql_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp sql``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "sql", metavar="SQL", nargs="?", help="statements to run, separated by semicolons"
    )
    parser.add_argument(
        "recording", metavar="PATH", nargs="?", help="path of the recording (same as --path)"
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        choices=FORMATS,
        help="print rows as table, json, csv or parquet (default: by --output, or table)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write rows to FILE instead of standard output"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_parse_seconds,
        help="stop statements that take longer than this",
    )
    parser.add_argument(
        "--max-rows",
        metavar="N",
        type=parse_count,
        default=sys.maxsize,
        help="print at most N rows (default: all)",
    )
    add_output_options(parser, "each row")
    parser.set_defaults(command=_run_sql)


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return seconds


def _run_sql(args: argparse.Namespace) -> int:
    args.path = args.recording or args.path
    path = path_from_args(args)
    args.format = _format_from_args(args)
    if args.output and not Path(args.output).absolute().parent.is_dir():
        raise UsageError(f"cannot write {args.output}: its directory does not exist")
    open_recording_at(path)  # raises if there is none
    # These need DuckDB and the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.cli.sql_shell import Shell
    from rimp_otel.sql import connect

    progress = Progress("decoding", unit="files")

    def show_progress(signal: Signal, done: int, total: int) -> None:
        label = f"decoding sealed {signal.value}, kept as Parquet for next time"
        progress.show(label, done, total)

    with connect(path, args.timeout, show_progress) as connection:
        if args.sql is None and sys.stdin.isatty():
            return Shell(connection, args, progress).run()
        sql = args.sql if args.sql is not None else sys.stdin.read()
        return print_result(connection, args, sql, progress)


def _format_from_args(args: argparse.Namespace) -> str:
    if args.json:
        return "json"
    suffix = Path(args.output or "").suffix.removeprefix(".")
    given = args.format or {"jsonl": "json", "": "table"}.get(suffix, suffix)
    if given not in FORMATS:
        raise UsageError(f"unknown format of --output {args.output}: choose one with --format")
    if given == "parquet" and not args.output and sys.stdout.isatty():
        raise UsageError("Parquet cannot be printed on a terminal: name a file with --output")
    return str(given)
