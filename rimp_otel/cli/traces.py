"""What spans make together: traces, as trees and as lines of ``rimp traces``."""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Union

from rimp_otel.cli.options import (
    add_color,
    add_json,
    add_path,
    count,
    output_style,
    output_width,
    recording_path,
)
from rimp_otel.cli.recording import (
    end_of,
    has_failed,
    open_recording,
    parent_id_of,
    report_damage,
    service_of,
    span_id_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.cli.render import (
    Style,
    clip,
    columns,
    format_time,
    format_utc,
    service_look,
    to_json,
)
from rimp_otel.models import TelemetryEvent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan

__all__ = [
    "Entry",
    "Node",
    "TraceSummary",
    "add_parser",
    "build_tree",
    "entry_time",
    "format_traces",
    "in_order",
    "summarize",
    "unique_digits",
]


def add_parser(subparsers: Any) -> None:
    """``rimp traces``."""
    parser = subparsers.add_parser(
        "traces",
        help="list the newest traces",
        description="List the newest traces, the newest first.",
    )
    parser.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=count,
        default=20,
        help="how many traces, or all (default: 20)",
    )
    add_path(parser)
    add_json(parser, "each trace")
    add_color(parser)
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    reader = open_recording(recording_path(args))
    summaries = summarize(span for data in reader.poll(final=True) for span in data.spans)
    newest = heapq.nlargest(args.number, summaries, key=lambda trace: trace.start)
    if args.json:
        lines = [to_json(trace.as_json()) for trace in newest]
    else:
        digits = unique_digits(trace.trace_id for trace in summaries)
        lines = format_traces(newest, output_width(), output_style(args), digits)
    for line in lines:
        print(line)
    report_damage(reader)
    return 0


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
    _root: tuple[bool, int] = (True, 0)

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


def summarize(spans: Iterable[ReadableSpan]) -> list[TraceSummary]:
    """The traces that the spans make, in the order in which they were first met."""
    traces: dict[int, TraceSummary] = {}
    for span in spans:
        trace_id = trace_id_of(span)
        trace = traces.get(trace_id)
        if trace is None:
            trace = traces[trace_id] = TraceSummary(trace_id)
        trace.add(span)
    return list(traces.values())


def unique_digits(trace_ids: Iterable[int]) -> int:
    """How many leading digits tell the ids apart; 8 at least."""
    pairs = pairwise(sorted(trace_ids))
    first_different = ((128 - (left ^ right).bit_length()) // 4 for left, right in pairs)
    return max(8, 1 + max(first_different, default=0))


_HEADINGS = ("START", "TRACE", "DURATION", "SPANS", "ERRORS", "SERVICE", "NAME")
_HEADING_LOOKS = ("dim",) * len(_HEADINGS)
_NUMBERS = {2, 3, 4}  # the columns that stand at the right


def format_traces(
    traces: Sequence[TraceSummary], width: int, style: Style, digits: int = 32
) -> list[str]:
    """The traces as a table; of each id, the first ``digits``."""
    if not traces:
        return ["no traces"]
    rows = [_HEADINGS, *(_cells(trace, style, digits) for trace in traces)]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    widths[-1] = max(width - sum(widths[:-1]) - 2 * len(widths[:-1]), 12)
    looks = [_HEADING_LOOKS, *(_looks(trace) for trace in traces)]
    return [_line(row, widths, look, style) for row, look in zip(rows, looks, strict=True)]


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


def _line(row: Sequence[str], widths: Sequence[int], looks: Sequence[str], style: Style) -> str:
    cells = []
    for index, (text, width, look) in enumerate(zip(row, widths, looks, strict=True)):
        text = clip(text, width, style.glyphs.ellipsis)
        gap = " " * (width - columns(text))
        painted = style.paint(text, look) if look else text
        cells.append(gap + painted if index in _NUMBERS else painted + gap)
    return "  ".join(cells).rstrip()


@dataclass
class Node:
    """A span with what belongs under it. ``flaw`` is what is odd about its place: "orphan" (its
    parent is not recorded), "circle" (its ancestors are its descendants), "skewed" (it starts
    before its parent), or nothing."""

    span: ReadableSpan
    flaw: str = ""
    children: list[Node] = field(default_factory=list)
    events: list[TelemetryEvent] = field(default_factory=list)


Entry = Union[Node, TelemetryEvent, "Event"]
"""What can stand under a span: another span, a log record, a span event."""


def build_tree(spans: Iterable[ReadableSpan], events: Iterable[TelemetryEvent]) -> list[Entry]:
    """The roots of the spans' tree, and the events of no known span, in the order of time."""
    nodes = [Node(span) for span in sorted(spans, key=start_of)]
    by_id: dict[int, Node] = {}
    for node in nodes:
        by_id.setdefault(span_id_of(node.span), node)
    by_id.pop(0, None)
    roots = _link(nodes, by_id)
    loose: list[TelemetryEvent] = []
    for event in events:
        owner = by_id.get(event.span_id)
        (owner.events if owner else loose).append(event)
    return in_order([*roots, *loose])


def _link(nodes: list[Node], by_id: Mapping[int, Node]) -> list[Node]:
    roots = []
    for node in nodes:
        parent_id = parent_id_of(node.span)
        if parent := by_id.get(parent_id):
            parent.children.append(node)
            skewed = 0 < start_of(node.span) < start_of(parent.span)
            node.flaw = "skewed" if skewed else ""
        else:
            roots.append(node)
            node.flaw = "orphan" if parent_id else ""
    return roots + _open_circles(nodes, roots, by_id)


def _open_circles(nodes: list[Node], roots: list[Node], by_id: Mapping[int, Node]) -> list[Node]:
    """Spans that no root leads to come from circles; the earliest of a circle becomes a root."""
    seen = _reached(roots)
    opened = []
    for node in nodes:
        if id(node) not in seen:
            first = min(_circle_above(node, by_id), key=lambda one: start_of(one.span))
            siblings = by_id[parent_id_of(first.span)].children
            siblings[:] = [sibling for sibling in siblings if sibling is not first]
            first.flaw = "circle"
            opened.append(first)
            seen |= _reached([first])
    return opened


def _circle_above(node: Node, by_id: Mapping[int, Node]) -> list[Node]:
    path: dict[int, Node] = {}
    while id(node) not in path:
        path[id(node)] = node
        node = by_id[parent_id_of(node.span)]
    climbed = list(path.values())
    return climbed[list(path).index(id(node)) :]


def _reached(roots: list[Node]) -> set[int]:
    seen, stack = set(), list(roots)
    while stack:
        node = stack.pop()
        seen.add(id(node))
        stack.extend(node.children)
    return seen


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The entries by time: spans by their start."""
    return sorted(entries, key=entry_time)


def entry_time(entry: Entry) -> int:
    """Where in time an entry belongs, in nanoseconds since the epoch."""
    if isinstance(entry, Node):
        return start_of(entry.span)
    return time_of(entry) if isinstance(entry, TelemetryEvent) else entry.timestamp
