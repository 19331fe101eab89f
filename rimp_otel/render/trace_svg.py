"""A trace as SVG: its spans as bars on one time scale, with the log records that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rimp_otel.models.accessors import (
    brief_attributes,
    duration_of,
    end_of,
    service_of,
    start_of,
)
from rimp_otel.models.records import EventType, TelemetryEvent
from rimp_otel.render.format import format_count, format_duration, format_time
from rimp_otel.render.html import escape_html, format_pairs, make_element
from rimp_otel.render.trace_layout import (
    EventRow,
    SpanRow,
    TimeScale,
    TraceLayout,
    describe_event,
    exceptions_of,
    lay_out_trace,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan

__all__ = ["render_trace_html", "render_trace_svg"]

_MAX_SPANS = 500
# A browser draws so many at once; a span can have 100,000.
_MAX_EVENTS = 1_000
_MAX_ERRORS_IN_TITLE = 10
_MAX_SERVICES = 8
_ROW_HEIGHT, _TOP, _NAMES_WIDTH, _BARS_WIDTH, _WIDTH = 20, 24, 330, 540, 960
_INDENT, _MAX_DEPTH = 12, 12
_LETTER_WIDTH = 6.6  # of a font of 12 px, about
# Readable on white and on black; red is for errors alone.
_COLORS = ("#1e88e5", "#43a047", "#f9a825", "#8e24aa", "#00acc1", "#6d4c41", "#7cb342")
_RED, _GREY = "#e53935", "#9e9e9e"
_EVENT_COLORS = {EventType.ERROR: _RED, EventType.WARNING: "#fb8c00"}


def render_trace_html(spans: Sequence[ReadableSpan], events: Sequence[TelemetryEvent]) -> str:
    """Return the trace as HTML: its id, how long it took, what is in it, and its drawing."""
    layout = lay_out_trace(spans, events, _MAX_DEPTH, _MAX_SPANS)
    errors = make_element("span", format_count(layout.errors, "error"), style=f"color:{_RED}")
    facts = [
        f"trace {layout.trace_id:032x}",
        format_time(layout.scale.start),
        escape_html(format_duration(layout.scale.duration)),
        format_count(layout.spans, "span"),
        *([format_count(layout.logs, "log")] if layout.logs else []),
        *([errors] if layout.errors else []),
    ]
    return make_element("div", make_element("div", " · ".join(facts)), _draw_layout(layout))


def render_trace_svg(spans: Sequence[ReadableSpan], events: Sequence[TelemetryEvent] = ()) -> str:
    """Return the trace as an SVG element, with the first 500 spans and 1,000 events."""
    return _draw_layout(lay_out_trace(spans, events, _MAX_DEPTH, _MAX_SPANS))


def _draw_layout(layout: TraceLayout) -> str:
    scale = layout.scale
    rows = [row for row in layout.rows if isinstance(row, SpanRow)]
    bottom = _TOP + len(rows) * _ROW_HEIGHT
    parts = [_draw_axis(scale, bottom), _draw_services(layout.services, bottom + 16)]
    # Log records that belong to no recorded span stand in the axis.
    loose = [row.event for row in layout.rows if isinstance(row, EventRow) and not row.depth]
    parts += [_draw_event(event, 8, scale) for event in loose[:_MAX_EVENTS]]
    room = max(_MAX_EVENTS - len(loose), 0)
    for index, row in enumerate(rows):
        events = row.events[:room]
        room -= len(events)
        parts.append(_draw_span(row, events, _TOP + index * _ROW_HEIGHT, scale))
    height = bottom + 2 * _ROW_HEIGHT
    events_left_out = len(loose) + sum(len(row.events) for row in rows) - _MAX_EVENTS
    left_out = [
        format_count(number, noun)
        for number, noun in ((layout.spans_left_out, "span"), (events_left_out, "event"))
        if number > 0
    ]
    if left_out:
        note = f"and {' and '.join(left_out)} more"
        parts.append(_draw_text(0, height - 6, note, opacity=0.7))
    return make_element(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} {height}",
        width="100%",
        style=f"max-width:{_WIDTH}px;font:12px sans-serif",
        role="img",
        fill="currentColor",
    )


def _x_of(time: int, scale: TimeScale) -> float:
    offset = scale.offset_of(time)
    return round(_NAMES_WIDTH + _BARS_WIDTH * offset / max(scale.duration, 1), 1)


def _draw_axis(scale: TimeScale, bottom: int) -> str:
    parts = []
    for tick, nanos in enumerate(scale.ticks(4)):
        x = _NAMES_WIDTH + _BARS_WIDTH * tick / 4
        label = format_duration(nanos) if nanos else "0"
        anchor = "end" if tick == 4 else "start" if tick == 0 else "middle"
        parts.append(_draw_text(x, 14, escape_html(label), text_anchor=anchor, opacity=0.7))
        line = {"x1": x, "x2": x, "y1": _TOP - 4, "y2": bottom, "stroke": _GREY}
        parts.append(make_element("line", stroke_width=0.5, stroke_dasharray="2 3", **line))
    return "".join(parts)


def _draw_services(services: Sequence[str], y: int) -> str:
    x, parts = 0.0, []
    for index, service in enumerate(services[:_MAX_SERVICES]):
        name = escape_html(service or "(no service)", 24)
        parts.append(make_element("circle", cx=x + 5, cy=y - 4, r=4, fill=_color_of(index)))
        parts.append(_draw_text(x + 14, y, name))
        x += 28 + _LETTER_WIDTH * min(len(service) or 12, 24)
    return "".join(parts)


def _color_of(service: int) -> str:
    return _COLORS[service % len(_COLORS)]


def _draw_span(
    row: SpanRow, shown: Sequence[TelemetryEvent | Event], y: int, scale: TimeScale
) -> str:
    span = row.span
    indent = _INDENT * min(row.depth, _MAX_DEPTH)
    mark = "✂ " if row.is_interrupted else "✗ " if row.has_failed else ""
    room = int((_NAMES_WIDTH - indent - 12) / _LETTER_WIDTH)
    text = mark + escape_html(span.name or "(no name)", room - len(mark))
    name = _draw_text(indent, y + 14, text, **({"fill": _RED} if row.has_failed else {}))
    events = "".join(_draw_event(event, y, scale) for event in shown)
    duration = _draw_text(_WIDTH, y + 14, _duration_text(span), text_anchor="end")
    return make_element(
        "g",
        make_element("title", _title_of(span)),
        name,
        _draw_bar(row, y, scale),
        events,
        duration,
    )


def _duration_text(span: ReadableSpan) -> str:
    nanos = duration_of(span)
    return "open" if nanos is None else escape_html(format_duration(nanos))


def _draw_bar(row: SpanRow, y: int, scale: TimeScale) -> str:
    start, end = start_of(row.span) or scale.start, end_of(row.span)
    left, right = _x_of(start, scale), _x_of(end or scale.end, scale)
    look: dict[str, object] = {
        "fill": _color_of(row.service),
        "fill_opacity": 0.85 if end else 0.35,
    }
    if row.has_failed:
        look |= {"stroke": _RED, "stroke_width": 1.5}
    return make_element(
        "rect", x=left, y=y + 4, width=max(round(right - left, 1), 1.5), height=12, rx=2, **look
    )


def _draw_event(event: TelemetryEvent | Event, y: int, scale: TimeScale) -> str:
    about = describe_event(event)
    kind, color = "event", "currentColor"
    if about.event_type is not None:
        kind, color = about.event_type.value, _EVENT_COLORS.get(about.event_type, color)
    elif about.exception:
        color = _RED
    lines = [
        f"{kind}: {escape_html(about.exception or about.text)}",
        format_pairs(about.attributes),
    ]
    title = make_element("title", "\n".join(filter(None, lines)))
    look = {"fill": color, "stroke": "white", "stroke_width": 0.8}
    return make_element("circle", title, cx=_x_of(about.time, scale), cy=y + 10, r=3, **look)


def _title_of(span: ReadableSpan) -> str:
    """Return the text that appears when the pointer rests on the span."""
    exceptions = list(filter(None, exceptions_of(span)))
    raised = [escape_html(text) for text in exceptions[:_MAX_ERRORS_IN_TITLE]]
    if len(exceptions) > len(raised):
        raised.append(f"and {len(exceptions) - len(raised):,} more")
    lines = [
        f"{escape_html(service_of(span) or '(no service)')}: {escape_html(span.name)}",
        _duration_text(span),
        *(raised or [escape_html(span.status.description or "")]),
        format_pairs(brief_attributes(span.attributes or {})),
    ]
    return "\n".join(filter(None, lines))


def _draw_text(x: float, y: float, inside: str, **look: object) -> str:
    return make_element("text", inside, x=x, y=y, **look)
