"""``rimp tail`` and ``rimp logs``: print the newest records, and follow a recording."""

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
    add_exclusion_options,
    add_filter_options,
    add_follow_option,
    add_number_option,
    add_output_options,
    add_severity_option,
    add_stack_option,
    add_window_options,
    filter_from_args,
    line_test_of,
    parse_regex,
    parse_trace_prefix,
    path_from_args,
    style_from_args,
    window_from_args,
)
from rimp_otel.cli.output import (
    open_recording_at,
    raise_if_unread,
    record_json,
    records_of,
    report_damage,
    retrieve_records,
)
from rimp_otel.models.accessors import (
    Record,
    brief_attributes,
    duration_of,
    exception_text,
    has_failed,
    is_interrupted,
    service_of,
    stack_lines,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import Signal, SummaryPoint, TelemetryEvent, TelemetryMetric
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_number, format_time
from rimp_otel.render.terminal import Style, display_width, look_of_service, to_json
from rimp_otel.render.trace_text import EVENT_MARKS

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.batch import TelemetryData
    from rimp_otel.models.filters import Filter

__all__ = [
    "Feed",
    "add_logs_arguments",
    "add_tail_arguments",
    "follow_recording",
    "format_log",
    "format_log_with_stack",
    "format_record",
    "format_stack",
    "print_batch",
]

_POLL_SECONDS = 0.2
_HOUR = 3_600 * 10**9
_SOURCE_WIDTH = 16


def add_tail_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp tail``."""
    parser.description = "Print the newest spans, log records and metrics, one line each."
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
    add_exclusion_options(parser)
    add_output_options(parser, "each record")
    parser.set_defaults(command=_run_tail)


def add_logs_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp logs``."""
    parser.description = "Print the newest log records that meet all conditions."
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
    add_stack_option(parser)
    add_output_options(parser, "each record")
    parser.set_defaults(command=_run_logs)


def _run_tail(args: argparse.Namespace) -> int:
    from rimp_otel.cli.record_filter import RecordFilter

    default = 10 if args.since is None else sys.maxsize
    signals = [signal.value for signal in Signal] if args.signal is None else args.signal
    wanted = RecordFilter.from_options(signals, not_names=args.not_name, not_scopes=args.not_scope)
    return _print_feed(args, wanted, default, format_record)


def _run_logs(args: argparse.Namespace) -> int:
    is_narrow = args.since is not None or args.until is not None or args.trace
    default = sys.maxsize if is_narrow else 20
    return _print_feed(
        args,
        filter_from_args(args, "logs"),
        default,
        format_log_with_stack if args.stack else format_log,
    )


def _print_feed(
    args: argparse.Namespace,
    wanted: Filter,
    default_number: int,
    format_line: Callable[[Any, Style], str],
) -> int:
    style = style_from_args(args)
    path, window = path_from_args(args), window_from_args(args)
    feed = Feed(path, window, wanted, args.follow, line_test_of(wanted))

    def to_line(record: Record) -> str:
        return to_json(record_json(record)) if args.json else format_line(record, style)

    newest = feed.newest(default_number if args.number is None else args.number)
    print_batch(newest, to_line)
    if not newest and not args.follow and args.number != 0:
        from rimp_otel.cli.suggestions import warn_of_unknown_names

        warn_of_unknown_names(args, path, wanted.signals)
    if args.follow:
        follow_recording(feed, to_line)
    return 0


def print_batch(records: Iterable[Record], to_line: Callable[[Record], str]) -> None:
    """Print the records, one line each, and flush standard output."""
    for record in records:
        print(to_line(record))
    sys.stdout.flush()


def follow_recording(feed: Feed, to_line: Callable[[Record], str]) -> NoReturn:
    """Print new records until something raises, such as an interrupt or a closed pipe."""
    while True:
        time.sleep(_POLL_SECONDS)
        raise_if_unread(sys.stdout)
        print_batch(feed.new(), to_line)


class Feed:
    """The records of a recording in the order of time, a span at its end: first the newest, then new ones.

    Args:
        path: path of the recording.
        window: the time range of the records.
        wanted: the filter that the records must meet.
        follows: True if `new` will be called; then the recording need not exist yet.
        is_wanted: returns False for lines without a wanted record.
    """

    def __init__(
        self,
        path: Path,
        window: Window,
        wanted: Filter,
        follows: bool,
        is_wanted: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._window, self._wanted = window, wanted
        self._follows = follows
        self._recording = open_recording_at(path, wait=follows, is_wanted=is_wanted)
        # Records that `newest` returned; `new` finds those again that came while it read.
        self._returned: Counter[str] = Counter()
        self._reported = 0

    def newest(self, number: int) -> list[Record]:
        """Return the newest ``number`` records.

        Spans are searched from the last start backwards: one that ended just now, but started
        before thousands of others, can be missed.
        """
        if self._follows and number == sys.maxsize:
            return self.new()
        if self._follows:
            self._recording.skip()
        # A recording is searched by the start of spans, and this window is about their end.
        window = Window(self._window.start and self._window.start - _HOUR, self._window.end)
        limit = None if number == sys.maxsize else 20 * number + 2_000
        found = self._select(
            [retrieve_records(self._recording, window, self._wanted, limit if number else 0)]
        )
        if self._follows:
            self._returned = Counter(map(_line_key, found))
        self._reported = report_damage(self._recording, self._reported)
        return _newest_in_order(found, number)

    def new(self) -> list[Record]:
        """Return the records that were added since the last call."""
        found = self._select(self._recording.poll())
        self._reported = report_damage(self._recording, self._reported)
        if self._returned:
            found = [record for record in found if not self._is_returned(record)]
            self._returned.clear()
        return _newest_in_order(found, sys.maxsize)

    def _select(self, batches: Iterable[TelemetryData]) -> list[Record]:
        return [
            record
            for data in batches
            for record in records_of(data, self._wanted.signals)
            if self._window.contains(time_of(record)) and self._wanted.matches(record)
        ]

    def _is_returned(self, record: Record) -> bool:
        key = _line_key(record)
        self._returned[key] -= 1
        return self._returned[key] >= 0


def _newest_in_order(records: list[Record], number: int) -> list[Record]:
    return sorted(heapq.nlargest(number, records, key=time_of), key=time_of)


def _line_key(record: Record) -> str:
    return to_json(record_json(record))


def format_record(record: Record, style: Style) -> str:
    """Return a line: local time, mark, service and source, and the record's summary."""
    mark, looks, parts = _summarize_record(record, style)
    time = style.paint(format_time(time_of(record), "%m-%d %H:%M:%S"), "dim")
    return "  ".join(
        [time, style.paint(f"{mark:<7}", *looks) + _service_and_source(record, style), *parts]
    )


def format_log(event: TelemetryEvent, style: Style) -> str:
    """Return the line of `format_record`, with the id of the record's span."""
    line = format_record(event, style)
    if not event.span_id:
        return line
    return f"{line}  {style.paint(f'span={event.span_id:016x}', 'dim')}"


def format_log_with_stack(event: TelemetryEvent, style: Style) -> str:
    """Return the line of `format_log`, and below it the stack of the record's exception."""
    return "\n".join([format_log(event, style), *format_stack(event.metadata, style)])


def format_stack(attributes: Mapping[str, Any], style: Style) -> list[str]:
    """Return the lines of the stack that the attributes hold, indented."""
    return [style.paint(f"    {style.clean(line)}", "dim") for line in stack_lines(attributes)]


def _service_and_source(record: Record, style: Style) -> str:
    service = style.clean(service_of(record))
    source = style.clean(record.source) if isinstance(record, TelemetryEvent) else ""
    if service and source:
        source = f"/{source}"
    gap = " " * (_SOURCE_WIDTH - display_width(service + source))
    return style.paint(service, look_of_service(service)) + style.paint(source, "dim") + gap


_Summary = tuple[str, tuple[str, ...], list[str]]


def _summarize_record(record: Record, style: Style) -> _Summary:
    """Return the mark of a record, the looks of the mark, and the parts of its summary."""
    if isinstance(record, TelemetryEvent):
        return _event_summary(record, style)
    if isinstance(record, TelemetryMetric):
        return _metric_summary(record, style)
    return _span_summary(record, style)


def _event_summary(event: TelemetryEvent, style: Style) -> _Summary:
    mark, looks = EVENT_MARKS[event.event_type]
    text = style.clean(event.message or event.event_name)
    parts = [style.paint(text, "red") if looks == ("red",) else text]
    if raised := exception_text(event.metadata):
        parts.append(style.paint(style.clean(raised), "red"))
    return (
        mark,
        looks,
        parts + _format_context(brief_attributes(event.metadata), event.trace_id, style),
    )


def _span_summary(span: ReadableSpan, style: Style) -> _Summary:
    nanos = duration_of(span)
    duration = "open" if nanos is None else style.duration(nanos)
    parts = [style.clean(span.name) or "(no name)", style.paint(duration, "bold")]
    if has_failed(span):
        raised = [exception_text(event.attributes or {}) for event in span.events]
        why = next(filter(None, raised), span.status.description or "error")
        mark = style.glyphs.cut if is_interrupted(span) else style.glyphs.failed
        parts.append(style.paint(f"{mark} {style.clean(why)}", "red"))
    return "SPAN", ("cyan",), parts + _format_context({}, trace_id_of(span), style)


def _metric_summary(metric: TelemetryMetric, style: Style) -> _Summary:
    parts = [style.clean(metric.name), style.paint(_format_measurement(metric, style), "bold")]
    return "METRIC", ("magenta",), parts + _format_context(metric.tags, 0, style)


def _format_measurement(metric: TelemetryMetric, style: Style) -> str:
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


def _format_context(attributes: Mapping[str, Any], trace_id: int, style: Style) -> list[str]:
    parts = style.pairs(attributes)
    if trace_id:
        parts.append(f"trace={trace_id:032x}"[:14])
    return [style.paint("  ".join(parts), "dim")] if parts else []
