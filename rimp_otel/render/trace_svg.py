"""A trace as SVG: its spans as bars on one time scale, with the log records that belong to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from rimp_otel.models.tree import Node, build_tree, sort_entries, time_of_entry
from rimp_otel.render.format import format_duration, format_time, plural
from rimp_otel.render.html import element, pairs, shown

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan

__all__ = ["trace_html", "trace_svg"]

_MOST_ROWS = 500
_ROW, _TOP, _NAMES, _BARS, _WIDTH = 20, 24, 330, 540, 960
_INDENT, _DEEPEST = 12, 12
_LETTER = 6.6  # of a font of 12 px, about
# Read on white and on black; red is for errors alone.
_COLORS = ("#1e88e5", "#43a047", "#f9a825", "#8e24aa", "#00acc1", "#6d4c41", "#7cb342")
_RED, _GREY = "#e53935", "#9e9e9e"
_MARKS = {EventType.ERROR: _RED, EventType.WARNING: "#fb8c00"}


class _Row(NamedTuple):
    node: Node
    depth: int


def trace_html(spans: Sequence[ReadableSpan], events: Sequence[TelemetryEvent]) -> str:
    """The trace with a heading: its id, how long it took, what is in it."""
    ids = [trace_id_of(span) for span in spans] + [event.trace_id for event in events]
    failed = sum(map(has_failed, spans))
    first, last = _extent(spans, events)
    facts = [
        f"trace {ids[0] if ids else 0:032x}",
        format_time(first),
        shown(format_duration(last - first)),
        plural(len(spans), "span"),
        *([plural(len(events), "log")] if events else []),
        *([element("span", plural(failed, "error"), style=f"color:{_RED}")] if failed else []),
    ]
    return element("div", element("div", " · ".join(facts)), trace_svg(spans, events))


def trace_svg(spans: Sequence[ReadableSpan], events: Sequence[TelemetryEvent] = ()) -> str:
    """The trace as an SVG element; of more than 500 spans, the first ones."""
    roots = build_tree(spans, events)
    rows = list(_rows([root for root in roots if isinstance(root, Node)]))
    drawn, scale = rows[:_MOST_ROWS], _Scale(*_extent(spans, events))
    colors = dict(
        zip(dict.fromkeys(service_of(row.node.span) for row in rows), cycle(_COLORS), strict=False)
    )
    parts = [_axis(scale, len(drawn)), _legend(colors, len(drawn))]
    # Of no span that is recorded.
    parts += [_mark(one, 8, scale) for one in roots if isinstance(one, TelemetryEvent)]
    parts += [_drawn(row, place, scale, colors) for place, row in enumerate(drawn)]
    height = _TOP + (len(drawn) + 2) * _ROW
    if len(rows) > len(drawn):
        y = _TOP + (len(drawn) + 2) * _ROW - 6
        parts.append(_text(0, y, f"and {plural(len(rows) - len(drawn), 'span')} more", opacity=0.7))
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} {height}",
        width="100%",
        style=f"max-width:{_WIDTH}px;font:12px sans-serif",
        role="img",
        fill="currentColor",
    )


def _extent(spans: Sequence[ReadableSpan], events: Sequence[TelemetryEvent]) -> tuple[int, int]:
    times = [time for span in spans for time in (start_of(span), end_of(span)) if time]
    times = times or [time for time in map(time_of, events) if time]
    return min(times, default=0), max(times, default=0)


class _Scale(NamedTuple):
    first: int
    last: int

    def x(self, time: int) -> float:
        """Where a time is, from the left."""
        inside = min(max(time, self.first), self.last) - self.first
        return round(_NAMES + _BARS * inside / max(self.last - self.first, 1), 1)


def _rows(roots: Sequence[Node]) -> Iterator[_Row]:
    """From top to bottom. A loop, since a chain of spans can be longer than the stack."""
    stack = [_Row(node, 0) for node in reversed(roots)]
    while stack:
        row = stack.pop()
        yield row
        children = [child for child in sort_entries(row.node.children) if isinstance(child, Node)]
        stack += [_Row(child, row.depth + 1) for child in reversed(children)]


def _axis(scale: _Scale, rows: int) -> str:
    parts = []
    for tick in range(5):
        x, nanos = _NAMES + _BARS * tick / 4, (scale.last - scale.first) * tick // 4
        label = format_duration(nanos) if nanos else "0"
        anchor = "end" if tick == 4 else "start" if tick == 0 else "middle"
        parts.append(_text(x, 14, shown(label), text_anchor=anchor, opacity=0.7))
        line = {"x1": x, "x2": x, "y1": _TOP - 4, "y2": _TOP + rows * _ROW, "stroke": _GREY}
        parts.append(element("line", stroke_width=0.5, stroke_dasharray="2 3", **line))
    return "".join(parts)


def _legend(colors: dict[str, str], rows: int) -> str:
    x, parts = 0.0, []
    y = _TOP + rows * _ROW + 16
    for service, color in list(colors.items())[:8]:
        name = shown(service or "(no service)", 24)
        parts.append(element("circle", cx=x + 5, cy=y - 4, r=4, fill=color))
        parts.append(_text(x + 14, y, name))
        x += 28 + _LETTER * min(len(service) or 12, 24)
    return "".join(parts)


def _drawn(row: _Row, place: int, scale: _Scale, colors: dict[str, str]) -> str:
    span, y = row.node.span, _TOP + place * _ROW
    indent = _INDENT * min(row.depth, _DEEPEST)
    mark = "✂ " if is_interrupted(span) else "✗ " if has_failed(span) else ""
    room = int((_NAMES - indent - 12) / _LETTER)
    look = {"fill": _RED} if has_failed(span) else {}
    name = _text(indent, y + 14, mark + shown(span.name or "(no name)", room - len(mark)), **look)
    bar = _bar(span, y, scale, colors[service_of(span)])
    entries: list[TelemetryEvent | Event] = [*span.events, *row.node.events]
    marks = "".join(_mark(entry, y, scale) for entry in entries)
    nanos = duration_of(span)
    took = "open" if nanos is None else shown(format_duration(nanos))
    duration = _text(_WIDTH, y + 14, took, text_anchor="end")
    return element("g", element("title", _title(span)), name, bar, marks, duration)


def _bar(span: ReadableSpan, y: int, scale: _Scale, color: str) -> str:
    start, end = start_of(span) or scale.first, end_of(span)
    left, right = scale.x(start), scale.x(end or scale.last)
    look: dict[str, object] = {"fill": color, "fill_opacity": 0.85 if end else 0.35}
    if has_failed(span):
        look |= {"stroke": _RED, "stroke_width": 1.5}
    return element(
        "rect", x=left, y=y + 4, width=max(round(right - left, 1), 1.5), height=12, rx=2, **look
    )


def _mark(entry: TelemetryEvent | Event, y: int, scale: _Scale) -> str:
    if isinstance(entry, TelemetryEvent):
        attributes: Mapping[str, Any] = entry.metadata
        kind, text = entry.event_type.value, entry.message
        color = _MARKS.get(entry.event_type, "currentColor")
    else:
        attributes = entry.attributes or {}
        kind, text = "event", entry.name
        color = _RED if exception_text(attributes) else "currentColor"
    said = [
        f"{kind}: {shown(exception_text(attributes) or text)}",
        pairs(brief_attributes(attributes)),
    ]
    title = element("title", "\n".join(filter(None, said)))
    x = scale.x(time_of_entry(entry))
    return element(
        "circle", title, cx=x, cy=y + 10, r=3, fill=color, stroke="white", stroke_width=0.8
    )


def _title(span: ReadableSpan) -> str:
    nanos = duration_of(span)
    raised = [shown(exception_text(event.attributes or {})) for event in span.events]
    lines = [
        f"{shown(service_of(span) or '(no service)')}: {shown(span.name)}",
        "open" if nanos is None else shown(format_duration(nanos)),
        *filter(None, raised or [shown(span.status.description or "")]),
        pairs(brief_attributes(span.attributes or {})),
    ]
    return "\n".join(filter(None, lines))


def _text(x: float, y: float, inside: str, **look: object) -> str:
    return element("text", inside, x=x, y=y, **look)
