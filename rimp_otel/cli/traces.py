"""What spans make together: traces, as trees and as lines of ``rimp traces``."""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.choosing import add_choices, add_min_duration, chosen
from rimp_otel.cli.moments import Window
from rimp_otel.cli.options import (
    add_color,
    add_json,
    add_path,
    count,
    output_style,
    output_width,
    recording_path,
    window_of,
)
from rimp_otel.cli.recording import (
    batches,
    end_of,
    has_failed,
    of_signal,
    open_recording,
    parent_id_of,
    reader_of,
    report_damage,
    retrieve,
    service_of,
    start_of,
    trace_id_of,
)
from rimp_otel.cli.render import (
    Style,
    clip,
    format_time,
    format_utc,
    service_look,
    to_json,
)
from rimp_otel.cli.tables import Column, format_table
from rimp_otel.otlp.signals import Signal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.cli.chosen import Chosen
    from rimp_otel.cli.recording import Reader

__all__ = [
    "TraceSummary",
    "add_traces_parser",
    "format_traces",
    "summarize",
    "unique_digits",
]


def add_traces_parser(subparsers: Any) -> None:
    """``rimp traces``."""
    parser = subparsers.add_parser(
        "traces",
        help="list the newest traces",
        description="List the newest traces that meet all of the conditions.",
    )
    parser.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=count,
        default=20,
        help="how many traces, or all (default: 20)",
    )
    parser.add_argument(
        "--sort",
        choices=list(_ORDERS),
        default="time",
        help="by start, duration, failed spans or number of spans, the greatest first "
        "(default: time)",
    )
    add_min_duration(parser, "only traces")
    parser.add_argument("--errors", action="store_true", help="only traces with failed spans")
    add_choices(parser, "only traces with a span of this name")
    add_path(parser)
    add_json(parser, "each trace")
    add_color(parser)
    parser.set_defaults(command=_run_traces)


def _run_traces(args: argparse.Namespace) -> int:
    path, window, wanted = recording_path(args), window_of(args), chosen(args, "traces")
    reader = open_recording(path, is_wanted=of_signal(Signal.TRACES))
    # A trace begins in the window; the spans that belong to it may begin later.
    wide = window.widened(_LONG)

    def is_wanted(trace: TraceSummary) -> bool:
        return window.holds(trace.start) and _is_wanted(trace, args)

    summaries = None
    if args.sort == "time" and args.number < _MANY:
        summaries = _newest(reader, wide, wanted, is_wanted, args.number)
    if summaries is None:
        reader = reader_of(path, of_signal(Signal.TRACES))
        read = batches(reader, wide, (Signal.TRACES,))
        summaries = summarize((span for data in read for span in data.spans), wanted.matches)
    first = heapq.nlargest(args.number, filter(is_wanted, summaries), key=_ORDERS[args.sort])
    if args.json:
        lines = [to_json(trace.as_json()) for trace in first]
    else:
        digits = unique_digits(trace.trace_id for trace in summaries)
        lines = format_traces(first, output_width(), output_style(args), digits)
    for line in lines:
        print(line)
    report_damage(reader)
    return 0


def _newest(
    reader: Reader,
    window: Window,
    wanted: Chosen,
    is_wanted: Callable[[TraceSummary], bool],
    number: int,
) -> list[TraceSummary] | None:
    """Traces, with the newest ``number`` that are wanted among them, out of the newest spans; None if
    so few spans do not say which they are."""
    from rimp_otel.filters import Filter

    limit = max(_FEW, 100 * number)
    spans = retrieve(reader, window, Filter.of(signals=["traces"]), limit).spans
    summaries = summarize(spans, wanted.matches)
    if len(spans) < limit:
        return summaries
    oldest = start_of(spans[0])
    # Of one without its root, more may have begun before all that was read.
    whole = [one for one in summaries if one.has_root or one.start > oldest + _LONG]
    return whole if sum(map(is_wanted, whole)) >= number else None


def _is_wanted(trace: TraceSummary, args: argparse.Namespace) -> bool:
    if args.errors and not trace.errors:
        return False
    is_long = args.min_duration is None or trace.end - trace.start >= args.min_duration
    return trace.is_chosen and is_long


@dataclass
class TraceSummary:
    """What a line about a trace says. Times are in nanoseconds since the epoch."""

    trace_id: int
    start: int = 0
    end: int = 0
    name: str = ""
    service: str = ""
    spans: int = 0
    errors: int = 0
    #: Whether one of its spans was looked for.
    is_chosen: bool = False
    _root: tuple[bool, int] = (True, 0)

    @property
    def has_root(self) -> bool:
        """Whether the span that began the trace was among those counted."""
        return not self._root[0]

    def add(self, span: ReadableSpan) -> None:
        """Count one more span of the trace."""
        start = start_of(span)
        # The root is the earliest span without a parent; where none is recorded, the earliest.
        root = (bool(parent_id_of(span)), start)
        if not self.spans or root < self._root:
            self._root, self.name, self.service = root, span.name, service_of(span)
        self.start = min(self.start or start, start or self.start)
        self.end = max(self.end, end_of(span) or 0, start)
        self.spans += 1
        self.errors += has_failed(span)

    def as_json(self) -> dict[str, Any]:
        """The trace as ``rimp traces --json`` prints it."""
        return {
            "trace_id": f"{self.trace_id:032x}",
            "start": format_utc(self.start),
            "duration_ns": self.end - self.start,
            "name": self.name,
            "service": self.service,
            "spans": self.spans,
            "errors": self.errors,
        }


def summarize(
    spans: Iterable[ReadableSpan], choose: Callable[[ReadableSpan], bool] = lambda _: True
) -> list[TraceSummary]:
    """The traces that the spans make, in the order in which they were first met; a trace is chosen
    by one of its spans."""
    traces: dict[int, TraceSummary] = {}
    for span in spans:
        trace_id = trace_id_of(span)
        trace = traces.get(trace_id)
        if trace is None:
            trace = traces[trace_id] = TraceSummary(trace_id)
        trace.add(span)
        trace.is_chosen = trace.is_chosen or choose(span)
    return list(traces.values())


def unique_digits(trace_ids: Iterable[int]) -> int:
    """How many leading digits tell the ids apart; 8 at least."""
    pairs = pairwise(sorted(trace_ids))
    first_different = ((128 - (left ^ right).bit_length()) // 4 for left, right in pairs)
    return max(8, 1 + max(first_different, default=0))


_LONG = 600 * 10**9
_FEW = 30_000
_MANY = 10_000
_ORDERS: dict[str, Callable[[TraceSummary], Any]] = {
    "time": lambda trace: trace.start,
    "duration": lambda trace: trace.end - trace.start,
    "errors": lambda trace: (trace.errors, trace.start),
    "spans": lambda trace: (trace.spans, trace.start),
}

_COLUMNS = (
    Column("START"),
    Column("TRACE"),
    Column("DURATION", is_number=True),
    Column("SPANS", is_number=True),
    Column("ERRORS", is_number=True),
    Column("SERVICE"),
    Column("NAME"),
)


def format_traces(
    traces: Sequence[TraceSummary], width: int, style: Style, digits: int = 32
) -> list[str]:
    """The traces as a table; of each id, the first ``digits``."""
    if not traces:
        return ["no traces"]
    rows = [_cells(trace, style, digits) for trace in traces]
    return format_table(_COLUMNS, rows, width, style, [_looks(trace) for trace in traces])


def _cells(trace: TraceSummary, style: Style, digits: int) -> tuple[str, ...]:
    return (
        format_time(trace.start),
        f"{trace.trace_id:032x}"[:digits],
        style.duration(trace.end - trace.start),
        f"{trace.spans:,}",
        f"{trace.errors:,}" if trace.errors else "",
        clip(style.clean(trace.service), 24, style.glyphs.ellipsis),
        style.clean(trace.name),
    )


def _looks(trace: TraceSummary) -> tuple[str, ...]:
    bad = "red" if trace.errors else ""
    return ("dim", "", "", "", bad, service_look(trace.service), bad)
