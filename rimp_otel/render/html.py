"""A batch as HTML: what is in it, and its newest records."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rimp_otel.models.accessors import (
    Record,
    brief_attributes,
    duration_of,
    exception_text,
    has_failed,
    service_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import SummaryPoint, TelemetryEvent, TelemetryMetric
from rimp_otel.render.format import (
    escape_text,
    format_count,
    format_duration,
    format_number,
    format_time,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["escape_html", "format_pairs", "make_element", "render_batch_html"]


# --- Elements of HTML and SVG, whose text and attributes are escaped.

_LONGEST = 200
_MOST_PAIRS = 20


def _quoted(text: str) -> str:
    # html.escape does the same; its module takes as long to load as all that is here.
    for character, entity in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "#x27")):
        text = text.replace(character, f"&{entity};")
    return text


def escape_html(text: object, longest: int = _LONGEST) -> str:
    """Recorded text for a page: what is longer is cut, what would do more than appear is escaped."""
    plain = str(text)
    cut = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return _quoted(escape_text(cut))


def make_element(name: str, *inside: str, **attributes: object) -> str:
    """An element.

    Args:
        name: of the element.
        inside: markup, such as what `shown` and `element` give.
        attributes: escaped here; ``_`` stands for ``-``, one at the end is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_quoted(str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(inside)}</{name}>"


def format_pairs(attributes: Mapping[str, Any], longest: int = 60) -> str:
    """Attributes as ``key=value``, the first twenty."""
    texts: Iterable[str] = (
        f"{escape_html(key, longest)}={escape_html(_text(value), longest)}"
        for key, value in list(attributes.items())[:_MOST_PAIRS]
    )
    more = len(attributes) - _MOST_PAIRS
    return "&nbsp; ".join([*texts, *([f"(+{more:,} more)"] if more > 0 else [])])


def _text(value: Any) -> str:
    if isinstance(value, (str, bytes)):
        return str(value[:_LONGEST]) + "…" * (len(value) > _LONGEST)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


# --- A batch as HTML: what is in it, and its newest records.

_NEWEST = 10
_MOST_SERVICES = 8
_CELL = "text-align:left;vertical-align:top;padding:2px 8px;white-space:nowrap"
_WIDE = "text-align:left;vertical-align:top;padding:2px 8px"
_RED = "color:#c62828"


def render_batch_html(
    spans: Sequence[ReadableSpan],
    events: Sequence[TelemetryEvent],
    metrics: Sequence[TelemetryMetric],
) -> str:
    """How many records there are, of which services and times, and a table of the newest ten."""
    records: list[Record] = [*spans, *events, *metrics]
    counts = (
        format_count(len(spans), "span"),
        format_count(len(events), "event"),
        format_count(len(metrics), "metric point"),
    )
    head = make_element("b", "TelemetryData") + "&nbsp; " + " · ".join(counts)
    if not records:
        return make_element("div", head)
    newest = sorted(heapq.nlargest(_NEWEST, records, key=time_of), key=time_of)
    table = make_element("table", _heading(), *map(_row, newest), style="border-collapse:collapse")
    more = len(records) - len(newest)
    note = make_element("div", f"the newest {len(newest)} of {len(records):,}") if more else ""
    return make_element(
        "div", make_element("div", head), make_element("div", _origin(records)), table, note
    )


def _origin(records: Sequence[Record]) -> str:
    services = Counter(service_of(record) or "(no service)" for record in records)
    names = [escape_html(name, 40) for name, _ in services.most_common(_MOST_SERVICES)]
    more = len(services) - len(names)
    times = [time for time in map(time_of, records) if time]
    first, last = min(times, default=0), max(times, default=0)
    between = f"{format_time(first)} to {format_time(last)} ({escape_html(format_duration(last - first))})"
    return f"{', '.join(names)}{f' and {more:,} more' if more > 0 else ''} · {between}"


def _heading() -> str:
    names = ("time", "", "service", "", "", "attributes", "trace")
    return make_element("tr", *(make_element("th", name, style=_CELL) for name in names))


def _row(record: Record) -> str:
    kind, what, value, attributes, is_bad = _told(record)
    trace_id = _trace_id(record)
    cells: Iterable[tuple[str, str]] = (
        (format_time(time_of(record)), _CELL),
        (kind, _CELL),
        (escape_html(service_of(record), 40), _CELL),
        (what, _WIDE + ";" + _RED if is_bad else _WIDE),
        (value, _CELL),
        (attributes, _WIDE + ";opacity:0.7"),
        (f"{trace_id:032x}"[:8] if trace_id else "", _CELL),
    )
    return make_element("tr", *(make_element("td", text, style=style) for text, style in cells))


def _trace_id(record: Record) -> int:
    if isinstance(record, TelemetryEvent):
        return record.trace_id
    return 0 if isinstance(record, TelemetryMetric) else trace_id_of(record)


def _told(record: Record) -> tuple[str, str, str, str, bool]:
    """What kind of record it is, what it says, its value, its attributes, whether it is bad."""
    if isinstance(record, TelemetryEvent):
        raised = exception_text(record.metadata)
        text = escape_html(record.message or record.event_name) + (
            f" {escape_html(raised)}" if raised else ""
        )
        kind, is_bad = record.event_type.value, record.event_type.severity_number >= 17
        return kind, text, "", format_pairs(brief_attributes(record.metadata)), is_bad
    if isinstance(record, TelemetryMetric):
        return (
            "metric",
            escape_html(record.name),
            _measured(record),
            format_pairs(record.tags),
            False,
        )
    nanos = duration_of(record)
    duration = "open" if nanos is None else escape_html(format_duration(nanos))
    attributes = format_pairs(brief_attributes(record.attributes or {}))
    return "span", escape_html(record.name), duration, attributes, has_failed(record)


def _measured(metric: TelemetryMetric) -> str:
    unit = f" {escape_html(metric.unit, 20)}" if metric.unit not in ("", "1") else ""
    if metric.point is None:
        return (format_number(metric.value) if metric.has_value else "no value") + unit
    count = f"n={metric.point.count:,}"
    if not metric.point.count or not metric.has_value or isinstance(metric.point, SummaryPoint):
        return count
    return f"{count} mean={format_number(metric.value / metric.point.count)}{unit}"
