"""The layout of one trace: its rows from top to bottom, and its time scale.

`trace_text` and `trace_svg` draw what is laid out here. Any recording can be laid out: with missing
parents, several roots, circles, spans that never ended, clocks that disagree, tens of thousands of
spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rimp_otel.models.accessors import (
    brief_attributes,
    end_of,
    exception_text,
    has_failed,
    is_interrupted,
    service_of,
    stack_lines,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import EventType, TelemetryEvent
from rimp_otel.models.tree import Entry, Node, build_tree, sort_entries, time_of_entry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan

__all__ = [
    "BLANK",
    "BRANCH",
    "LAST_BRANCH",
    "LEFT_OUT",
    "LINE",
    "EventRow",
    "EventText",
    "SpanRow",
    "TimeScale",
    "TraceLayout",
    "describe_event",
    "exceptions_of",
    "lay_out_trace",
]

# The lines that lead from a row to its ancestors, a character for each level.
LINE, BLANK, BRANCH, LAST_BRANCH, LEFT_OUT = "|", " ", "+", "`", "."


class SpanRow(NamedTuple):
    """The row of a span."""

    span: ReadableSpan
    #: How many ancestors it has.
    depth: int
    #: A character for each level: `LINE`, `BLANK`, `BRANCH`, `LAST_BRANCH` or `LEFT_OUT`.
    guide: str
    #: The same for text below the row that belongs to it.
    guide_below: str
    #: The index of its service.
    service: int
    has_failed: bool
    is_interrupted: bool
    #: "orphan", "circle", "skewed" or empty; see `Node`.
    flaw: str
    #: The events of the span, and the log records that belong to it.
    events: list[TelemetryEvent | Event]


class EventRow(NamedTuple):
    """The row of a span event or a log record, below its span."""

    event: TelemetryEvent | Event
    #: 0 if it belongs to no recorded span.
    depth: int
    guide: str


TraceRow = SpanRow | EventRow


class TimeScale(NamedTuple):
    """The time that a drawing covers, in nanoseconds."""

    #: Since the epoch.
    start: int
    #: 0 if everything happened at once.
    duration: int

    @property
    def end(self) -> int:
        """Nanoseconds since the epoch."""
        return self.start + self.duration

    def offset_of(self, time: int) -> int:
        """Return the nanoseconds from the start to ``time``, or to the bound that it is beyond."""
        return min(max(time - self.start, 0), self.duration)

    def ticks(self, parts: int) -> list[int]:
        """Return the offsets of the edges of ``parts`` equal parts, both ends included."""
        return [self.duration * tick // parts for tick in range(parts + 1)]


class TraceLayout(NamedTuple):
    """A trace, ready to be drawn."""

    #: 0 if nothing is recorded.
    trace_id: int
    spans: int
    logs: int
    errors: int
    scale: TimeScale
    #: In the order in which they appear.
    services: list[str]
    rows: list[TraceRow]
    #: How many spans have no row.
    spans_left_out: int


def lay_out_trace(
    spans: Sequence[ReadableSpan],
    events: Sequence[TelemetryEvent],
    max_depth: int,
    max_spans: int | None = None,
) -> TraceLayout:
    """Return the layout of the trace.

    Args:
        spans: of one trace, in any order.
        events: log records of the same trace.
        max_depth: where the guides end: deeper rows share one depth, since their names need the
            room.
        max_spans: how many spans may have a row, the first ones; None for all of them.
    """
    services: dict[str, int] = {}
    rows: list[TraceRow] = []
    found = 0
    for row in _walk_rows(build_tree(spans, events), services, max_depth):
        is_span = isinstance(row, SpanRow)
        found += is_span
        is_loose = not is_span and not row.depth
        if max_spans is None or found <= max_spans or is_loose:
            rows.append(row)
    ids = [trace_id_of(span) for span in spans] + [event.trace_id for event in events]
    return TraceLayout(
        trace_id=ids[0] if ids else 0,
        spans=len(spans),
        logs=len(events),
        errors=sum(map(has_failed, spans)),
        scale=_scale_of(spans, events),
        services=list(services),
        rows=rows,
        spans_left_out=0 if max_spans is None else max(found - max_spans, 0),
    )


def _scale_of(spans: Iterable[ReadableSpan], events: Iterable[TelemetryEvent]) -> TimeScale:
    times = [time for span in spans for time in (start_of(span), end_of(span)) if time]
    times = times or [time for time in map(time_of, events) if time]
    start = min(times, default=0)
    return TimeScale(start, max(times, default=0) - start)


class _TreePlace(NamedTuple):
    """An entry of the tree, with its place in the drawing."""

    entry: Entry
    depth: int
    guide: str
    #: For whatever is below the entry.
    guide_below: str


def _walk_rows(
    roots: Sequence[Entry], services: dict[str, int], max_depth: int
) -> Iterator[TraceRow]:
    """Yield the rows from top to bottom, and number the services as they appear."""
    # A loop, since a chain of spans can be longer than the stack.
    stack = [_TreePlace(entry, 0, "", "") for entry in reversed(roots)]
    while stack:
        place = stack.pop()
        node = place.entry
        if isinstance(node, Node):
            yield _span_row(node, place, services)
            stack.extend(reversed(_places_below(node, place, max_depth)))
        else:
            yield EventRow(node, place.depth, place.guide_below)


def _span_row(node: Node, place: _TreePlace, services: dict[str, int]) -> SpanRow:
    span = node.span
    return SpanRow(
        span=span,
        depth=place.depth,
        guide=place.guide,
        guide_below=place.guide_below + (LINE if node.children else BLANK),
        service=services.setdefault(service_of(span), len(services)),
        has_failed=has_failed(span),
        is_interrupted=is_interrupted(span),
        flaw=node.flaw,
        events=[*span.events, *node.events],
    )


def _places_below(node: Node, place: _TreePlace, max_depth: int) -> list[_TreePlace]:
    guide, depth = place.guide_below, place.depth + 1
    if place.depth >= max_depth:
        guide = guide[: max_depth - 1] + LEFT_OUT
    entries = sort_entries([*node.children, *node.events, *node.span.events])
    last = max((i for i, entry in enumerate(entries) if isinstance(entry, Node)), default=-1)
    return [
        _TreePlace(
            entry,
            depth,
            guide + (LAST_BRANCH if index == last else BRANCH),
            guide + (LINE if index < last else BLANK),
        )
        for index, entry in enumerate(entries)
    ]


class EventText(NamedTuple):
    """The text of a span event or a log record in a drawing."""

    time: int
    #: None for a span event.
    event_type: EventType | None
    #: The message of a log record, the name of a span event.
    text: str
    #: See `exception_text`.
    exception: str
    #: See `brief_attributes`.
    attributes: Mapping[str, Any]
    #: The lines of the stack; see `stack_lines`.
    stack: list[str]


def describe_event(event: TelemetryEvent | Event) -> EventText:
    """Return the text of the event in a drawing."""
    if isinstance(event, TelemetryEvent):
        event_type, text, attributes = event.event_type, event.message, event.metadata
    else:
        event_type, text, attributes = None, event.name, dict(event.attributes or {})
    exception, brief = exception_text(attributes), brief_attributes(attributes)
    stack = stack_lines(attributes)
    return EventText(time_of_entry(event), event_type, text, exception, brief, stack)


def exceptions_of(span: ReadableSpan) -> list[str]:
    """Return the text of each event of the span; empty for one that is no exception."""
    return [exception_text(event.attributes or {}) for event in span.events]
