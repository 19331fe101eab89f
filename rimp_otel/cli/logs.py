"""``rimp logs``: log records by what they say, and those that follow."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rimp_otel.cli.choosing import (
    add_choices,
    add_severity,
    chosen,
    regular_expression,
    trace_prefix,
)
from rimp_otel.cli.feed import Feed, show
from rimp_otel.cli.options import (
    add_color,
    add_json,
    add_path,
    count,
    output_style,
    recording_path,
    window_of,
)
from rimp_otel.cli.recording import (
    record_json,
)
from rimp_otel.cli.render import Style, to_json
from rimp_otel.cli.tail import format_record
from rimp_otel.models import TelemetryEvent

__all__ = ["add_logs_parser", "format_log"]

_DEFAULT_LOG_COUNT = 20


def add_logs_parser(subparsers: Any) -> None:
    """``rimp logs``."""
    parser = subparsers.add_parser(
        "logs",
        help="show log records, by what they say",
        description="Show the newest log records that meet all of the conditions.",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is recorded from now on"
    )
    parser.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=count,
        help="how many of the newest, or all (default: 20; with --since, --until or --trace, all)",
    )
    add_severity(parser)
    parser.add_argument(
        "--grep",
        metavar="REGEX",
        type=regular_expression,
        help="only whose message, event name or exception holds this regular expression",
    )
    parser.add_argument(
        "--trace", metavar="ID", type=trace_prefix, help="only of the traces whose ids start so"
    )
    add_choices(parser)
    add_path(parser)
    add_json(parser, "each record")
    add_color(parser)
    parser.set_defaults(command=_run_logs)


def _run_logs(args: argparse.Namespace) -> int:
    style = output_style(args)
    feed = Feed(recording_path(args), window_of(args), chosen(args, "logs"), args.follow)

    def line(record: Any) -> str:
        return to_json(record_json(record)) if args.json else format_log(record, style)

    show(feed, _log_count(args), args.follow, line)
    return 0


def _log_count(args: argparse.Namespace) -> int:
    if args.number is not None:
        return int(args.number)
    is_narrow = args.since is not None or args.until is not None or args.trace
    return sys.maxsize if is_narrow else _DEFAULT_LOG_COUNT


def format_log(event: TelemetryEvent, style: Style) -> str:
    """The line of ``rimp tail``, and the span that the record belongs to."""
    line = format_record(event, style)
    if not event.span_id:
        return line
    return f"{line}  {style.paint(f'span={event.span_id:016x}', 'dim')}"
