"""``rimp tail``: the newest records, one line each, and those that follow."""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rimp_otel.cli.options import (
    add_color_option,
    add_filter_options,
    add_follow_option,
    add_json_option,
    add_number_option,
    add_path_option,
    add_severity_option,
    add_window_options,
    filter_from_args,
    parse_regex,
    parse_trace_prefix,
    path_from_args,
    style_from_args,
    window_from_args,
)
from rimp_otel.cli.output import (
    open_recording,
    reader_of,
    record_json,
    records_of,
    report_damage,
    retrieve,
)
from rimp_otel.cli.timespec import Window
from rimp_otel.models.accessors import (
    Record,
    brief_attributes,
    duration_of,
    exception_text,
    has_failed,
    is_interrupted,
    service_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import Signal, SummaryPoint, TelemetryEvent, TelemetryMetric
from rimp_otel.render.format import format_number, format_time
from rimp_otel.render.terminal import Style, display_width, look_of_service, to_json
from rimp_otel.render.trace_text import EVENT_MARKS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.batch import TelemetryData
    from rimp_otel.models.filters import Filter

__all__ = [
    "Feed",
    "add_logs_parser",
    "add_tail_parser",
    "follow",
    "format_log",
    "format_record",
    "show",
]


# --- The newest records of a recording, and those that follow: what ``rimp tail`` and ``rimp logs`` show.

_POLL_SECONDS = 0.2
_LONG = 3_600 * 10**9


class Feed:
    """Records in the order of time, a span at its end.

    Args:
        path: of the recording.
        window: what is not in it is left out.
        wanted: what the records must meet.
        follows: whether more will be asked for; there need be nothing yet then.
    """

    def __init__(self, path: Path, window: Window, wanted: Filter, follows: bool) -> None:
        self._path, self._window, self._wanted = path, window, wanted
        self._follows = follows
        self._reader = open_recording(path, wait=follows)
        # What came between the two looks at the recording, and is given by the second one too.
        self._given: Counter[str] = Counter()
        self._reported = 0

    def newest(self, number: int) -> list[Record]:
        """The newest ``number`` of what there is now.

        Of spans, those are looked through that started last: one that ended just now, but started
        before thousands of others, can be missed.
        """
        if self._follows and number == sys.maxsize:
            return self.new()
        if self._follows:
            self._reader.skip()
        # Spans are found by their start.
        window = Window(self._window.start and self._window.start - _LONG, self._window.end)
        reader = reader_of(self._path)
        limit = None if number == sys.maxsize else 20 * number + 2_000
        found = self._chosen([retrieve(reader, window, self._wanted, limit if number else 0)])
        if self._follows:
            self._given = Counter(map(_text, found))
        report_damage(reader)
        return _newest(found, number)

    def new(self) -> list[Record]:
        """What has been recorded since the last call."""
        found = self._chosen(self._reader.poll())
        self._reported = report_damage(self._reader, self._reported)
        if self._given:
            found = [record for record in found if not self._is_given(record)]
            self._given.clear()
        return _newest(found, sys.maxsize)

    def _chosen(self, batches: Iterable[TelemetryData]) -> list[Record]:
        return [
            record
            for data in batches
            for record in records_of(data, self._wanted.signals)
            if self._window.contains(time_of(record)) and self._wanted.matches(record)
        ]

    def _is_given(self, record: Record) -> bool:
        text = _text(record)
        self._given[text] -= 1
        return self._given[text] >= 0


def _newest(records: list[Record], number: int) -> list[Record]:
    return sorted(heapq.nlargest(number, records, key=time_of), key=time_of)


def _text(record: Record) -> str:
    return to_json(record_json(record))


def show(feed: Feed, number: int, follows: bool, line: Callable[[Record], str]) -> None:
    """Prints the newest ``number``, one line each, and then perhaps those that follow."""

    def print_all(records: list[Record]) -> None:
        for record in records:
            print(line(record))
        sys.stdout.flush()

    print_all(feed.newest(number))
    if follows:
        follow(lambda: print_all(feed.new()))


def follow(show_new: Callable[[], None], sleep: Callable[[float], None] = time.sleep) -> NoReturn:
    """Show what is new, again and again, until something raises: an interrupt, a closed pipe."""
    while True:
        sleep(_POLL_SECONDS)
        show_new()


# --- ``rimp tail``: the newest records, one line each, and those that follow.

_DEFAULT_NUMBER = 10
_ORIGIN_WIDTH = 16


def add_tail_parser(subparsers: Any) -> None:
    """Add ``rimp tail`` to the commands."""
    parser = subparsers.add_parser(
        "tail",
        help="print the newest records and follow new ones",
        description="Print the newest spans, log records and metrics, one line each.",
    )
    _add_choices(parser)
    add_path_option(parser)
    add_json_option(parser, "each record")
    add_color_option(parser)
    parser.set_defaults(command=_run_tail)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    add_follow_option(parser)
    add_number_option(parser, "newest records to print, or all (default: 10; all with --since)")
    add_window_options(parser)
    parser.add_argument(
        "--signal",
        nargs="+",
        action="extend",
        choices=[signal.value for signal in Signal],
        metavar="SIGNAL",
        help="print only these signals: traces, logs, metrics",
    )


def _run_tail(args: argparse.Namespace) -> int:
    from rimp_otel.models.filters import Filter

    style, wanted = style_from_args(args), Filter.of(signals=args.signal)
    feed = Feed(path_from_args(args), window_from_args(args), wanted, args.follow)

    def line(record: Record) -> str:
        return to_json(record_json(record)) if args.json else format_record(record, style)

    show(feed, _number(args), args.follow, line)
    return 0


def _number(args: argparse.Namespace) -> int:
    if args.number is not None:
        return int(args.number)
    return _DEFAULT_NUMBER if args.since is None else sys.maxsize


def format_record(record: Record, style: Style) -> str:
    """One line about a record: local time, mark, where it comes from, and what it says."""
    mark, looks, parts = _told(record, style)
    time = style.paint(format_time(time_of(record), "%m-%d %H:%M:%S"), "dim")
    return "  ".join([time, style.paint(f"{mark:<7}", *looks) + _origin(record, style), *parts])


def _origin(record: Record, style: Style) -> str:
    service = style.clean(service_of(record))
    source = style.clean(record.source) if isinstance(record, TelemetryEvent) else ""
    if service and source:
        source = f"/{source}"
    gap = " " * (_ORIGIN_WIDTH - display_width(service + source))
    return style.paint(service, look_of_service(service)) + style.paint(source, "dim") + gap


_Told = tuple[str, tuple[str, ...], list[str]]


def _told(record: Record, style: Style) -> _Told:
    """The record's mark with its looks, and what it says."""
    if isinstance(record, TelemetryEvent):
        return _told_by_event(record, style)
    if isinstance(record, TelemetryMetric):
        return _told_by_metric(record, style)
    return _told_by_span(record, style)


def _told_by_event(event: TelemetryEvent, style: Style) -> _Told:
    mark, looks = EVENT_MARKS[event.event_type]
    text = style.clean(event.message or event.event_name)
    parts = [style.paint(text, "red") if looks == ("red",) else text]
    if raised := exception_text(event.metadata):
        parts.append(style.paint(style.clean(raised), "red"))
    return mark, looks, parts + _dim(brief_attributes(event.metadata), event.trace_id, style)


def _told_by_span(span: ReadableSpan, style: Style) -> _Told:
    nanos = duration_of(span)
    duration = "open" if nanos is None else style.duration(nanos)
    parts = [style.clean(span.name) or "(no name)", style.paint(duration, "bold")]
    if has_failed(span):
        raised = [exception_text(event.attributes or {}) for event in span.events]
        why = next(filter(None, raised), span.status.description or "error")
        mark = style.glyphs.cut if is_interrupted(span) else style.glyphs.failed
        parts.append(style.paint(f"{mark} {style.clean(why)}", "red"))
    return "SPAN", ("cyan",), parts + _dim({}, trace_id_of(span), style)


def _told_by_metric(metric: TelemetryMetric, style: Style) -> _Told:
    parts = [style.clean(metric.name), style.paint(_measured(metric, style), "bold")]
    return "METRIC", ("magenta",), parts + _dim(metric.tags, 0, style)


def _measured(metric: TelemetryMetric, style: Style) -> str:
    # UCUM's 1 stands for no unit; after a number it would read as another one.
    unit = f" {style.clean(metric.unit)}" if metric.unit not in ("", "1") else ""
    point = metric.point
    if point is None:
        return (format_number(metric.value) if metric.has_value else "no value") + unit
    if not point.count or not metric.has_value:
        return f"n={point.count}"
    text = f"n={point.count} mean={format_number(metric.value / point.count)}{unit}"
    most = None if isinstance(point, SummaryPoint) else point.max
    return text if most is None else f"{text} max={format_number(most)}{unit}"


def _dim(attributes: Mapping[str, Any], trace_id: int, style: Style) -> list[str]:
    parts = style.pairs(attributes)
    if trace_id:
        parts.append(f"trace={trace_id:032x}"[:14])
    return [style.paint("  ".join(parts), "dim")] if parts else []


# --- ``rimp logs``: log records by what they say, and those that follow.

_DEFAULT_LOG_COUNT = 20


def add_logs_parser(subparsers: Any) -> None:
    """Add ``rimp logs`` to the commands."""
    parser = subparsers.add_parser(
        "logs",
        help="search log records",
        description="Print the newest log records that meet all conditions.",
    )
    add_follow_option(parser)
    add_number_option(
        parser, "newest records to print, or all (default: 20; all with a time or --trace)"
    )
    add_severity_option(parser)
    parser.add_argument(
        "--grep",
        metavar="REGEX",
        type=parse_regex,
        help="search message, event name and exception for a regular expression",
    )
    parser.add_argument(
        "--trace",
        metavar="ID",
        type=parse_trace_prefix,
        help="select records of traces whose id starts with ID",
    )
    add_filter_options(parser)
    add_path_option(parser)
    add_json_option(parser, "each record")
    add_color_option(parser)
    parser.set_defaults(command=_run_logs)


def _run_logs(args: argparse.Namespace) -> int:
    style = style_from_args(args)
    feed = Feed(
        path_from_args(args), window_from_args(args), filter_from_args(args, "logs"), args.follow
    )

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
