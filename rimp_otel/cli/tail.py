"""``rimp tail``: the newest records, one line each, and those that follow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.feed import Feed, show
from rimp_otel.cli.options import (
    add_color,
    add_json,
    add_path,
    add_since,
    count,
    output_style,
    recording_path,
    window_of,
)
from rimp_otel.cli.recording import (
    Record,
    duration_of,
    has_failed,
    is_interrupted,
    record_json,
    service_of,
    time_of,
    trace_id_of,
)
from rimp_otel.cli.render import Style, columns, format_number, format_time, service_look, to_json
from rimp_otel.cli.waterfall import EVENT_MARKS
from rimp_otel.models import SummaryPoint, TelemetryEvent, TelemetryMetric
from rimp_otel.otlp.signals import Signal
from rimp_otel.records import brief_attributes, exception_text

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


__all__ = ["add_tail_parser", "format_record"]

_DEFAULT_NUMBER = 10
_ORIGIN_WIDTH = 16


def add_tail_parser(subparsers: Any) -> None:
    """``rimp tail``."""
    parser = subparsers.add_parser(
        "tail",
        help="show the newest records, and follow",
        description="Show the newest spans, log records and metrics, one line each.",
    )
    _add_choices(parser)
    add_path(parser)
    add_json(parser, "each record")
    add_color(parser)
    parser.set_defaults(command=_run_tail)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what is recorded from now on"
    )
    parser.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=count,
        help="how many of the newest, or all (default: 10; with --since, all)",
    )
    add_since(parser)
    parser.add_argument(
        "--signal",
        nargs="+",
        action="extend",
        choices=[signal.value for signal in Signal],
        metavar="SIGNAL",
        help="only these: traces, logs, metrics",
    )


def _run_tail(args: argparse.Namespace) -> int:
    from rimp_otel.filters import Filter

    style, wanted = output_style(args), Filter.of(signals=args.signal)
    feed = Feed(recording_path(args), window_of(args), wanted, args.follow)

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
    gap = " " * (_ORIGIN_WIDTH - columns(service + source))
    return style.paint(service, service_look(service)) + style.paint(source, "dim") + gap


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
