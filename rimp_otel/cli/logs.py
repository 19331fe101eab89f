"""``rimp logs``: log records by what they say, and those that follow."""

from __future__ import annotations

import argparse
import heapq
import sys
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.choosing import (
    add_choices,
    add_severity,
    chosen,
    regular_expression,
    trace_prefix,
)
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
    open_recording,
    record_json,
    report_damage,
    retrieve,
    time_of,
)
from rimp_otel.cli.render import Style, to_json
from rimp_otel.cli.tail import follow, format_record
from rimp_otel.models import TelemetryEvent

if TYPE_CHECKING:
    from rimp_otel.cli.chosen import Chosen
    from rimp_otel.cli.recording import Reader

__all__ = ["add_parser", "format_log"]

_DEFAULT_NUMBER = 20


def add_parser(subparsers: Any) -> None:
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
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    # Whoever follows may be there before the recording is.
    reader = open_recording(recording_path(args), wait=args.follow)
    printer = _Printer(reader, chosen(args, "logs"), args)
    if args.follow:
        printer.show_new(_number(args))
        follow(printer.show_new)
    printer.show_all(_number(args))
    return 0


def _number(args: argparse.Namespace) -> int:
    if args.number is not None:
        return int(args.number)
    is_narrow = args.since is not None or args.until is not None or args.trace
    return sys.maxsize if is_narrow else _DEFAULT_NUMBER


class _Printer:
    def __init__(self, reader: Reader, chosen: Chosen, args: argparse.Namespace) -> None:
        self.reader, self.chosen, self.args = reader, chosen, args
        self.style, self.window = output_style(args), window_of(args)
        self.reported = 0

    def show_all(self, number: int) -> None:
        """Print the newest ``number`` that are there."""
        self._print(retrieve(self.reader, self.window, self.chosen, number).events)

    def show_new(self, number: int = sys.maxsize) -> None:
        """Print the newest ``number`` of what has been recorded since the last call."""
        new = (
            event
            for data in self.reader.poll()
            for event in data.events
            if self.window.holds(time_of(event)) and self.chosen.matches(event)
        )
        self._print(sorted(heapq.nlargest(number, new, key=time_of), key=time_of))

    def _print(self, events: list[TelemetryEvent]) -> None:
        for event in events:
            if self.args.json:
                print(to_json(record_json(event)))
            else:
                print(format_log(event, self.style))
        sys.stdout.flush()
        self.reported = report_damage(self.reader, self.reported)


def format_log(event: TelemetryEvent, style: Style) -> str:
    """The line of ``rimp tail``, and the span that the record belongs to."""
    line = format_record(event, style)
    if not event.span_id:
        return line
    return f"{line}  {style.paint(f'span={event.span_id:016x}', 'dim')}"
