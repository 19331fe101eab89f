"""One trace as a waterfall: a tree of spans on the left, a bar for each on a common time scale.

Takes whatever was recorded: missing parents, several roots, circles, spans that never ended,
clocks that disagree, tens of thousands of spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

from rimp_otel.models.accessors import (
    brief_attributes,
    duration_of,
    end_of,
    exception_text,
    has_failed,
    is_interrupted,
    service_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import EventType, TelemetryEvent
from rimp_otel.models.tree import Entry, Node, build_tree, sort_entries, time_of_entry
from rimp_otel.render.format import format_time, plural
from rimp_otel.render.terminal import SERVICE_LOOKS, Piece, Style, clip, columns, flow, pad

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan

__all__ = ["EVENT_MARKS", "render_trace"]

_NARROWEST = 50
EVENT_MARKS = {
    EventType.DEBUG: ("DEBUG", ("dim",)),
    EventType.INFO: ("INFO", ("green",)),
    EventType.WARNING: ("WARN", ("yellow",)),
    EventType.ERROR: ("ERROR", ("red",)),
}
"""The word for each type of event, and its looks."""


def render_trace(
    spans: Sequence[ReadableSpan],
    events: Iterable[TelemetryEvent] = (),
    width: int = 100,
    style: Style = Style(),  # noqa: B008 (immutable)
) -> list[str]:
    """The trace as lines of text, ``width`` columns wide (50 at least).

    Args:
        spans: of one trace, in any order.
        events: log records of the same trace; each is shown under its span.
        width: columns of the terminal.
        style: what the terminal can show.
    """
    events = list(events)
    width = max(width, _NARROWEST)
    rows = list(_walk(build_tree(spans, events), style, (width // 2 - 18) // 3))
    times = [time for span in spans for time in (start_of(span), end_of(span)) if time]
    drawing = _Drawing(rows, times or [time_of(event) for event in events], width, style)
    return [*_header(spans, events, drawing), "", *drawing.lines()]


def _header(
    spans: Sequence[ReadableSpan], events: Sequence[TelemetryEvent], drawing: _Drawing
) -> list[str]:
    style, width = drawing.style, drawing.width
    root = next((row for row in drawing.rows if row.span), None)
    name = clip(root.text, width - 12, style.glyphs.ellipsis) if root else "(no spans)"
    duration = style.duration(drawing.scale.total) if root else ""
    dots = [(f"{style.glyphs.dot} {service}", (look,)) for service, look in drawing.services]
    return [
        f"{style.paint(name, 'bold')}  {duration}".rstrip(),
        *flow(_facts(spans, events, drawing.scale), style.glyphs.between, width, style),
        *(flow(dots, "  ", width, style) if dots else []),
    ]


def _facts(
    spans: Sequence[ReadableSpan], events: Sequence[TelemetryEvent], scale: _Scale
) -> list[Piece]:
    ids = [trace_id_of(span) for span in spans] + [event.trace_id for event in events]
    failed = sum(map(has_failed, spans))
    dim = ("dim",)
    facts: list[Piece] = [
        (f"trace {ids[0] if ids else 0:032x}", dim),
        (format_time(scale.start), dim),
        (plural(len(spans), "span"), dim),
    ]
    if events:
        facts.append((plural(len(events), "log"), dim))
    if failed:
        facts.append((plural(failed, "error"), ("red",)))
    return facts


class _Row(NamedTuple):
    """One line: of a span, of an event (which has a time), or of a detail of the span above."""

    guide: str
    text: str
    looks: tuple[str, ...] = ()
    span: ReadableSpan | None = None
    mark: str = ""
    mark_looks: tuple[str, ...] = ()
    time: int = 0
    extra: str = ""
    #: Lines that it may take; 0 for as many as its kind usually may.
    most: int = 0


def _walk(top: Sequence[Entry], style: Style, max_depth: int) -> Iterator[_Row]:
    """The rows from top to bottom. A loop, since a chain of spans can be longer than the stack."""
    stack = [(entry, "", "", 0) for entry in reversed(top)]
    while stack:
        entry, before, below, depth = stack.pop()
        if not isinstance(entry, Node):
            yield _event_row(entry, below, style)
            continue
        yield _span_row(entry, before, style)
        inner = below + (style.glyphs.guide if entry.children else " " * 3)
        yield from (row._replace(guide=inner) for row in _details(entry.span, style))
        stack.extend(reversed(_below(entry, below, depth, style, max_depth)))


def _below(
    node: Node, guide: str, depth: int, style: Style, max_depth: int
) -> list[tuple[Entry, str, str, int]]:
    glyphs = style.glyphs
    if depth >= max_depth:  # the deepest share one depth: their names need the room
        guide = guide[: 3 * (max_depth - 1)] + glyphs.deep
    entries = sort_entries([*node.children, *node.events, *node.span.events])
    last = max((i for i, entry in enumerate(entries) if isinstance(entry, Node)), default=-1)
    rows = []
    for index, entry in enumerate(entries):
        before = guide + (glyphs.last if index == last else glyphs.branch)
        rows.append((entry, before, guide + (glyphs.guide if index < last else "   "), depth + 1))
    return rows


def _span_row(node: Node, guide: str, style: Style) -> _Row:
    failed = has_failed(node.span)
    cut = is_interrupted(node.span)
    marks = [style.glyphs.cut if cut else style.glyphs.failed] if failed or cut else []
    if node.flaw:
        marks.append(getattr(style.glyphs, node.flaw))
    name = style.clean(node.span.name) or "(no name)"
    looks = ("red", "bold") if failed else ("bold",) if not guide else ()
    return _Row(guide, name, looks, node.span, " ".join(marks), ("red",) if failed else ("yellow",))


def _event_row(event: TelemetryEvent | Event, guide: str, style: Style) -> _Row:
    if isinstance(event, TelemetryEvent):
        mark, looks = EVENT_MARKS[event.event_type]
        attributes: Mapping[str, Any] = event.metadata
        text = event.message
    else:
        mark, looks = "EVENT", ("dim",)
        attributes = event.attributes or {}
        text = event.name
    raised = exception_text(attributes)
    if raised and not isinstance(event, TelemetryEvent):
        mark, looks, text, raised = style.glyphs.failed, ("red",), raised, ""
    extra = style.pairs(brief_attributes(attributes)) + [style.clean(raised)] * bool(raised)
    text_looks = ("red",) if looks == ("red",) else ()
    return _Row(
        guide,
        style.clean(text),
        text_looks,
        None,
        mark,
        looks,
        time_of_entry(event),
        "  ".join(extra),
    )


def _details(span: ReadableSpan, style: Style) -> Iterator[_Row]:
    """What explains a failure: its attributes, and its message where no exception has it."""
    if not has_failed(span):
        return
    if pairs := style.pairs(brief_attributes(span.attributes or {})):
        # Of a span that was interrupted, they are what it started with, and explain less.
        yield _Row("", "  ".join(pairs), ("dim",), most=int(is_interrupted(span)))
    # Of a span that was interrupted, its mark says why.
    message = "" if is_interrupted(span) else span.status.description or ""
    raised = [exception_text(event.attributes or {}) for event in span.events]
    if message and not any(message in text for text in raised):
        yield _Row("", style.clean(message), ("red",), None, style.glyphs.failed, ("red",))


class _Scale(NamedTuple):
    """Time along the columns of the bars. A column has two halves: a bar can start in either."""

    start: int
    total: int
    cells: int

    def bar(self, start: int, end: int | None, style: Style) -> tuple[int, str]:
        """The column that the bar starts in, and the bar, which is half a column at least."""
        glyphs = style.glyphs
        left = min(self._halves(start), 2 * self.cells - 1)
        first, from_half = divmod(left, 2)
        if end is None:
            return first, glyphs.bar_open * (self.cells - first)
        right = self._halves(end, round_up=max(self.total - 1, 0))
        last, to_half = divmod(max(right, left + 1), 2)
        full = glyphs.bar * (last - first - from_half)
        return first, glyphs.bar_from_half * from_half + full + glyphs.bar_to_half * to_half

    def _halves(self, time: int, round_up: int = 0) -> int:
        inside = min(max(time - self.start, 0), self.total)
        return (inside * 2 * self.cells + round_up) // max(self.total, 1)

    def ticks(self) -> dict[int, int]:
        """The columns of the grid, and the nanoseconds that each stands for."""
        count = min(max(self.cells // 14, 1), 4) if self.total > 4 else 1
        return {self.cells * tick // count: self.total * tick // count for tick in range(count)}


class _Drawing:
    """Rows on a canvas of a known width."""

    def __init__(
        self, rows: Sequence[_Row], times: Sequence[int], width: int, style: Style
    ) -> None:
        self.rows, self.width, self.style = rows, width, style
        self._names = _service_names(rows, style)
        self._lay_out(times)

    @property
    def services(self) -> list[tuple[str, str]]:
        """The names and looks of the services, in the order in which they appear."""
        return list(self._names.values())

    def _lay_out(self, times: Sequence[int]) -> None:
        rows = [(row, row.span) for row in self.rows if row.span]
        longest = max((columns(row.guide + _marked(row)) for row, _ in rows), default=0)
        self.name_width = min(longest, self.width // 2)
        names = [columns(name) for name, _ in self.services]
        self.service_width = min(max(names), self.width // 7) if len(names) > 1 else 0
        self.duration_width = max((len(self._duration(span)) for _, span in rows), default=0)
        gaps = 6 if self.service_width else 4
        used = self.name_width + self.service_width + self.duration_width + gaps
        start = min(times, default=0)
        total = max(times, default=0) - start
        self.scale = _Scale(start, total, max(self.width - used, 8))

    def _duration(self, span: ReadableSpan) -> str:
        nanos = duration_of(span)
        return "open" if nanos is None else self.style.duration(nanos)

    def lines(self) -> list[str]:
        """The rows, under the axis and above what their marks mean."""
        body = [line for row in self.rows for line in self._row(row)]
        spans = any(row.span for row in self.rows)
        return [*([self._axis()] if spans else []), *body, *self._legend()]

    def _row(self, row: _Row) -> list[str]:
        return [self._span(row, row.span)] if row.span else self._text(row)

    def _span(self, row: _Row, span: ReadableSpan) -> str:
        paint, clip_to = self.style.paint, self.style.glyphs.ellipsis
        service, look = self._names[service_of(span)]
        guide, mark = row.guide, row.mark + " " if row.mark else ""
        name = clip(row.text, self.name_width - columns(guide + mark), clip_to)
        parts = [
            paint(guide, "dim") + paint(mark, *row.mark_looks) + paint(name, *row.looks),
            " " * (self.name_width - columns(guide + mark + name)),
        ]
        if self.service_width:
            text = clip(service, self.service_width, clip_to)
            parts.append("  " + paint(text, look) + " " * (self.service_width - columns(text)))
        parts.append(f"  {self._duration(span):>{self.duration_width}}  " + self._bar(span, look))
        return "".join(parts).rstrip()

    def _bar(self, span: ReadableSpan, look: str) -> str:
        start = start_of(span) or self.scale.start
        first, bar = self.scale.bar(start, end_of(span), self.style)
        grid = [" "] * self.scale.cells
        for tick in self.scale.ticks():
            grid[tick] = self.style.glyphs.tick if tick else " "
        before, after = "".join(grid[:first]), "".join(grid[first + len(bar) :])
        paint = self.style.paint
        return paint(before, "dim") + paint(bar, look) + paint(after.rstrip(), "dim")

    def _axis(self) -> str:
        line = ""
        for tick, nanos in self.scale.ticks().items():
            line = pad(line, tick) + (self.style.duration(nanos) if nanos else "0")
        end = self.style.duration(self.scale.total)
        line = pad(line, self.scale.cells - len(end)) + end
        return " " * (self.width - self.scale.cells) + self.style.paint(line, "dim")

    def _text(self, row: _Row) -> list[str]:
        """A line of text under a span. What is red explains a failure: it may take four lines."""
        paint = self.style.paint
        offset = self._offset(row.time)
        mark = row.mark + "  " if row.mark else ""
        room = max(self.width - columns(row.guide + mark) - len(offset) - 2, 16)
        most = row.most or (4 if row.looks or not row.time else 1)
        first, *rest = _wrap(row.text, room, most, self.style.glyphs.ellipsis)
        extra = self._extra(row.extra, room - columns(first)) if not rest else ""
        gap = " " * (room - columns(first + extra) + 2)
        lead = paint(row.guide, "dim") + paint(mark, *row.mark_looks)
        line = lead + paint(first, *row.looks) + paint(extra, "dim") + gap + paint(offset, "dim")
        hang = paint(row.guide, "dim") + " " * columns(mark)
        return [line.rstrip(), *(hang + paint(text, *row.looks) for text in rest)]

    def _offset(self, time: int) -> str:
        since = time - self.scale.start
        return ("+" * (since >= 0) + self.style.duration(since)) if time else ""

    def _extra(self, text: str, room: int) -> str:
        return "  " + clip(text, room - 2, self.style.glyphs.ellipsis) if text and room > 8 else ""

    def _legend(self) -> list[str]:
        marks = {mark for row in self.rows if row.span for mark in row.mark.split()}
        glyphs = self.style.glyphs
        known = {
            glyphs.cut: "its process was terminated here",
            glyphs.orphan: "its parent is not recorded",
            glyphs.circle: "its ancestors go round in a circle",
            glyphs.skewed: "starts before its parent does",
        }
        texts = [f"{mark} {meaning}" for mark, meaning in known.items() if mark in marks]
        return ["", self.style.paint("   ".join(texts), "dim")] if texts else []


def _service_names(rows: Sequence[_Row], style: Style) -> dict[str, tuple[str, str]]:
    services = dict.fromkeys(service_of(row.span) for row in rows if row.span)
    return {
        service: (style.clean(service) or "(no service)", look)
        for service, look in zip(services, cycle(SERVICE_LOOKS), strict=False)
    }


def _marked(row: _Row) -> str:
    return f"{row.mark} {row.text}" if row.mark else row.text


def _wrap(text: str, room: int, most: int, ellipsis: str) -> list[str]:
    """The text in ``most`` lines at most, broken at spaces where that is possible."""
    lines: list[str] = []
    while columns(text) > room and len(lines) < most - 1:
        piece = clip(text, room, "")
        cut = piece.rfind(" ")
        piece = piece[:cut] if cut > 0 else piece or text[:1]
        lines.append(piece.rstrip())
        text = text[len(piece) :].lstrip()
    return [*lines, clip(text, room, ellipsis)]
