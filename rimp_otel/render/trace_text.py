"""A trace as text: a tree of spans on the left, a bar for each on a common time scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rimp_otel.models.accessors import brief_attributes, duration_of, end_of, start_of
from rimp_otel.models.records import EventType, TelemetryEvent
from rimp_otel.render.format import format_count, format_time
from rimp_otel.render.terminal import (
    SERVICE_LOOKS,
    Piece,
    Style,
    clip_text,
    display_width,
    pad_text,
    wrap_items,
)
from rimp_otel.render.trace_layout import (
    BLANK,
    BRANCH,
    LAST_BRANCH,
    LEFT_OUT,
    LINE,
    EventRow,
    SpanRow,
    TimeScale,
    TraceLayout,
    describe_event,
    exceptions_of,
    lay_out_trace,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["EVENT_MARKS", "render_trace_text"]

_MIN_WIDTH = 50
_MIN_BAR_WIDTH = 8
_MIN_NOTE_WIDTH = 16
_COLUMNS_PER_TICK, _MAX_TICKS = 14, 4
_MAX_ERROR_LINES = 4
_MAX_LINES_OF_STACK_LINE = 50

EVENT_MARKS = {
    EventType.DEBUG: ("DEBUG", ("dim",)),
    EventType.INFO: ("INFO", ("green",)),
    EventType.WARNING: ("WARN", ("yellow",)),
    EventType.ERROR: ("ERROR", ("red",)),
}
"""The word for each type of event, and its looks."""


def render_trace_text(
    spans: Sequence[ReadableSpan],
    events: Iterable[TelemetryEvent] = (),
    width: int = 100,
    style: Style = Style(),  # noqa: B008 (immutable)
    with_stacks: bool = False,
) -> list[str]:
    """Return the trace as lines of text, ``width`` columns wide (50 at least).

    Args:
        spans: of one trace, in any order.
        events: log records of the same trace; each is shown under its span.
        width: columns of the terminal.
        style: what the terminal can show.
        with_stacks: True to show the stacks of exceptions as a whole.
    """
    width = max(width, _MIN_WIDTH)
    # Guides take a quarter of the width at most, so that names keep as much.
    max_depth = (width // 2 - 18) // 3
    layout = lay_out_trace(spans, list(events), max_depth)
    return _TraceDrawing(layout, width, style, with_stacks).lines()


class _SpanLine(NamedTuple):
    """The line of a span, which has a bar."""

    row: SpanRow
    guide: str
    #: Glyphs for what is odd about the span, each with a space behind it.
    marks: str
    name: str
    duration: str


class _Note(NamedTuple):
    """Text below a span: an event, or what explains the span's failure."""

    guide: str
    text: str
    looks: tuple[str, ...] = ()
    mark: str = ""
    mark_looks: tuple[str, ...] = ()
    #: Of an event, in nanoseconds since the epoch.
    time: int = 0
    #: Further text, if there is room for it.
    extra: str = ""
    max_lines: int = _MAX_ERROR_LINES


class _TraceDrawing:
    """Draws the rows of a layout in a known width."""

    def __init__(
        self, layout: TraceLayout, width: int, style: Style, with_stacks: bool = False
    ) -> None:
        self._layout, self._width, self._style = layout, width, style
        self._with_stacks = with_stacks
        self._services = [style.clean(service) or "(no service)" for service in layout.services]
        self._lines = list(self._lines_of_rows())
        self._measure_columns()

    def lines(self) -> list[str]:
        """Return the heading, the axis, the rows, and what their marks mean."""
        has_spans = any(isinstance(line, _SpanLine) for line in self._lines)
        lines = [*self._heading(), "", *([self._axis()] if has_spans else [])]
        for line in self._lines:
            if isinstance(line, _SpanLine):
                lines.append(self._draw_span(line))
            else:
                lines += self._draw_note(line)
        return [*lines, *self._legend()]

    # From rows to lines: text that is safe to show.

    def _lines_of_rows(self) -> Iterator[_SpanLine | _Note]:
        for row in self._layout.rows:
            if isinstance(row, EventRow):
                yield from self._event_notes(row)
            else:
                yield self._span_line(row)
                if row.has_failed:
                    yield from self._failure_notes(row)

    def _guide(self, guide: str) -> str:
        glyphs = self._style.glyphs
        texts = {
            LINE: glyphs.guide,
            BLANK: "   ",
            BRANCH: glyphs.branch,
            LAST_BRANCH: glyphs.last,
            LEFT_OUT: glyphs.deep,
        }
        return "".join(texts[level] for level in guide)

    def _span_line(self, row: SpanRow) -> _SpanLine:
        glyphs, marks, nanos = self._style.glyphs, "", duration_of(row.span)
        if row.is_interrupted or row.has_failed:
            marks += f"{glyphs.cut if row.is_interrupted else glyphs.failed} "
        if row.flaw:
            marks += f"{getattr(glyphs, row.flaw)} "
        name = self._style.clean(row.span.name) or "(no name)"
        duration = "open" if nanos is None else self._style.duration(nanos)
        return _SpanLine(row, self._guide(row.guide), marks, name, duration)

    def _event_notes(self, row: EventRow) -> Iterator[_Note]:
        style, about = self._style, describe_event(row.event)
        mark, looks, text, exception = "EVENT", ("dim",), about.text, about.exception
        if about.event_type is not None:
            mark, looks = EVENT_MARKS[about.event_type]
        elif exception:
            mark, looks, text, exception = style.glyphs.failed, ("red",), exception, ""
        extra = style.pairs(about.attributes)
        if exception:
            extra.append(style.clean(exception))
        # Red text explains a failure, and may take more than a line.
        is_error = looks == ("red",)
        guide = self._guide(row.guide)
        yield _Note(
            guide,
            style.clean(text),
            looks if is_error else (),
            mark,
            looks,
            about.time,
            "  ".join(extra),
            _MAX_ERROR_LINES if is_error or not about.time else 1,
        )
        for line in about.stack if self._with_stacks else ():
            yield _Note(
                f"{guide}   ", style.clean(line), ("dim",), max_lines=_MAX_LINES_OF_STACK_LINE
            )

    def _failure_notes(self, row: SpanRow) -> Iterator[_Note]:
        """Yield what explains the failure: the span's attributes, and its message if no exception
        contains it."""
        style, span, guide = self._style, row.span, self._guide(row.guide_below)
        if pairs := style.pairs(brief_attributes(span.attributes or {})):
            # Those of an interrupted span are what it started with, and explain less.
            max_lines = 1 if row.is_interrupted else _MAX_ERROR_LINES
            yield _Note(guide, "  ".join(pairs), ("dim",), max_lines=max_lines)
        # The mark of an interrupted span says why it failed.
        message = "" if row.is_interrupted else span.status.description or ""
        if message and not any(message in text for text in exceptions_of(span)):
            yield _Note(guide, style.clean(message), ("red",), style.glyphs.failed, ("red",))

    # The columns.

    def _measure_columns(self) -> None:
        lines = [line for line in self._lines if isinstance(line, _SpanLine)]
        widths = [display_width(line.guide + line.marks + line.name) for line in lines]
        self._name_width = min(max(widths, default=0), self._width // 2)
        self._service_width = 0
        if len(self._services) > 1:
            self._service_width = min(max(map(display_width, self._services)), self._width // 7)
        self._duration_width = max((len(line.duration) for line in lines), default=0)
        gaps = 6 if self._service_width else 4
        used = self._name_width + self._service_width + self._duration_width + gaps
        self._bars = _Bars(self._layout.scale, max(self._width - used, _MIN_BAR_WIDTH))

    # Drawing.

    def _heading(self) -> list[str]:
        layout, style, width = self._layout, self._style, self._width
        root = next((line for line in self._lines if isinstance(line, _SpanLine)), None)
        name = clip_text(root.name, width - 12, style.glyphs.ellipsis) if root else "(no spans)"
        duration = style.duration(layout.scale.duration) if root else ""
        dim = ("dim",)
        facts: list[Piece] = [
            (f"trace {layout.trace_id:032x}", dim),
            (format_time(layout.scale.start), dim),
            (format_count(layout.spans, "span"), dim),
        ]
        if layout.logs:
            facts.append((format_count(layout.logs, "log"), dim))
        if layout.errors:
            facts.append((format_count(layout.errors, "error"), ("red",)))
        services: list[Piece] = [
            (f"{style.glyphs.dot} {service}", (_look_of(index),))
            for index, service in enumerate(self._services)
        ]
        return [
            f"{style.paint(name, 'bold')}  {duration}".rstrip(),
            *wrap_items(facts, style.glyphs.between, width, style),
            *(wrap_items(services, "  ", width, style) if services else []),
        ]

    def _axis(self) -> str:
        text = ""
        for column, nanos in self._bars.ticks().items():
            text = pad_text(text, column) + (self._style.duration(nanos) if nanos else "0")
        end = self._style.duration(self._layout.scale.duration)
        text = pad_text(text, self._bars.width - len(end)) + end
        return " " * (self._width - self._bars.width) + self._style.paint(text, "dim")

    def _draw_span(self, line: _SpanLine) -> str:
        paint, ellipsis = self._style.paint, self._style.glyphs.ellipsis
        row, guide, marks = line.row, line.guide, line.marks
        name = clip_text(line.name, self._name_width - display_width(guide + marks), ellipsis)
        looks = ("red", "bold") if row.has_failed else () if guide else ("bold",)
        mark_look, service_look = "red" if row.has_failed else "yellow", _look_of(row.service)
        parts = [
            paint(guide, "dim") + paint(marks, mark_look) + paint(name, *looks),
            " " * (self._name_width - display_width(guide + marks + name)),
        ]
        if self._service_width:
            text = clip_text(self._services[row.service], self._service_width, ellipsis)
            gap = " " * (self._service_width - display_width(text))
            parts.append(f"  {paint(text, service_look)}{gap}")
        bar = self._bars.draw(row.span, service_look, self._style)
        parts.append(f"  {line.duration:>{self._duration_width}}  {bar}")
        return "".join(parts).rstrip()

    def _draw_note(self, note: _Note) -> list[str]:
        style, paint = self._style, self._style.paint
        offset = self._offset_text(note.time)
        mark = f"{note.mark}  " if note.mark else ""
        used = display_width(note.guide + mark) + len(offset) + 2
        room = max(self._width - used, _MIN_NOTE_WIDTH)
        first, *rest = _wrap_text(note.text, room, note.max_lines, style.glyphs.ellipsis)
        extra = "" if rest else self._clip_extra(note.extra, room - display_width(first))
        gap = " " * (room - display_width(first + extra) + 2)
        lead = paint(note.guide, "dim") + paint(mark, *note.mark_looks)
        text = paint(first, *note.looks) + paint(extra, "dim")
        indent = paint(note.guide, "dim") + " " * display_width(mark)
        return [
            f"{lead}{text}{gap}{paint(offset, 'dim')}".rstrip(),
            *(indent + paint(text, *note.looks) for text in rest),
        ]

    def _offset_text(self, time: int) -> str:
        since = time - self._layout.scale.start
        return ("+" * (since >= 0) + self._style.duration(since)) if time else ""

    def _clip_extra(self, text: str, room: int) -> str:
        return (
            "  " + clip_text(text, room - 2, self._style.glyphs.ellipsis)
            if text and room > 8
            else ""
        )

    def _legend(self) -> list[str]:
        lines = [line for line in self._lines if isinstance(line, _SpanLine)]
        marks = {mark for line in lines for mark in line.marks.split()}
        glyphs = self._style.glyphs
        meanings = {
            glyphs.cut: "its process was terminated here",
            glyphs.orphan: "its parent is not recorded",
            glyphs.circle: "its ancestors go round in a circle",
            glyphs.skewed: "starts before its parent does",
        }
        texts = [f"{mark} {meaning}" for mark, meaning in meanings.items() if mark in marks]
        return ["", self._style.paint("   ".join(texts), "dim")] if texts else []


class _Bars(NamedTuple):
    """The columns that a time scale is drawn in. Each has two halves: a bar can start in either."""

    scale: TimeScale
    width: int

    def ticks(self) -> dict[int, int]:
        """Return the columns of the grid, with the nanoseconds that each stands for."""
        parts = min(max(self.width // _COLUMNS_PER_TICK, 1), _MAX_TICKS)
        if self.scale.duration <= _MAX_TICKS:
            parts = 1
        offsets = self.scale.ticks(parts)[:-1]
        return {self.width * tick // parts: nanos for tick, nanos in enumerate(offsets)}

    def draw(self, span: ReadableSpan, look: str, style: Style) -> str:
        """Return the bar of the span, on the grid."""
        first, bar = self._bar(start_of(span) or self.scale.start, end_of(span), style)
        grid = [" "] * self.width
        for column in self.ticks():
            grid[column] = style.glyphs.tick if column else " "
        before, after = "".join(grid[:first]), "".join(grid[first + len(bar) :])
        return (
            style.paint(before, "dim") + style.paint(bar, look) + style.paint(after.rstrip(), "dim")
        )

    def _bar(self, start: int, end: int | None, style: Style) -> tuple[int, str]:
        """Return the column that the bar starts in, and the bar: half a column at least."""
        glyphs = style.glyphs
        left = min(self._halves(start), 2 * self.width - 1)
        first, from_half = divmod(left, 2)
        if end is None:
            return first, glyphs.bar_open * (self.width - first)
        right = self._halves(end, round_up=max(self.scale.duration - 1, 0))
        last, to_half = divmod(max(right, left + 1), 2)
        full = glyphs.bar * (last - first - from_half)
        return first, glyphs.bar_from_half * from_half + full + glyphs.bar_to_half * to_half

    def _halves(self, time: int, round_up: int = 0) -> int:
        offset = self.scale.offset_of(time)
        return (offset * 2 * self.width + round_up) // max(self.scale.duration, 1)


def _look_of(service: int) -> str:
    return SERVICE_LOOKS[service % len(SERVICE_LOOKS)]


def _wrap_text(text: str, room: int, max_lines: int, ellipsis: str) -> list[str]:
    """Return the text in ``max_lines`` lines at most, broken at spaces where that is possible."""
    lines: list[str] = []
    while display_width(text) > room and len(lines) < max_lines - 1:
        piece = clip_text(text, room, "")
        cut = piece.rfind(" ")
        piece = piece[:cut] if cut > 0 else piece or text[:1]
        lines.append(piece.rstrip())
        text = text[len(piece) :].lstrip()
    return [*lines, clip_text(text, room, ellipsis)]
