"""A batch as HTML for notebooks, and elements of HTML and SVG, whose text is escaped."""

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


_MAX_TEXT_LENGTH = 200
_MAX_PAIRS = 20


# Elements.


def _replace_entities(text: str) -> str:
    # html.escape does the same, but its module takes as long to load as all modules of drawings.
    for character, entity in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "#x27")):
        text = text.replace(character, f"&{entity};")
    return text


def escape_html(text: object, max_length: int = _MAX_TEXT_LENGTH) -> str:
    """Return recorded text for a page: cut to ``max_length``, with markup and control characters
    escaped."""
    plain = str(text)
    cut = plain if len(plain) <= max_length else plain[: max_length - 1] + "…"
    return _replace_entities(escape_text(cut))


def make_element(name: str, *inside: str, **attributes: object) -> str:
    """Return an element.

    Args:
        name: of the element.
        inside: markup, as `escape_html` and `make_element` return it.
        attributes: not escaped yet; ``_`` stands for ``-``, one at the end is left out.
    """
    texts = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_replace_entities(str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{texts}>{''.join(inside)}</{name}>"


def format_pairs(attributes: Mapping[str, Any], max_length: int = 60) -> str:
    """Return the first twenty attributes as ``key=value``, and how many there are besides."""
    texts: Iterable[str] = (
        f"{escape_html(key, max_length)}={escape_html(_value_text(value), max_length)}"
        for key, value in list(attributes.items())[:_MAX_PAIRS]
    )
    more = len(attributes) - _MAX_PAIRS
    return "&nbsp; ".join([*texts, *([f"(+{more:,} more)"] if more > 0 else [])])


def _value_text(value: Any) -> str:
    if isinstance(value, (str, bytes)):
        return str(value[:_MAX_TEXT_LENGTH]) + "…" * (len(value) > _MAX_TEXT_LENGTH)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


# Batches.

_MAX_ROWS = 10
_MAX_SERVICES = 8
_CELL = "text-align:left;vertical-align:top;padding:2px 8px;white-space:nowrap"
_WIDE = "text-align:left;vertical-align:top;padding:2px 8px"
_RED = "color:#c62828"


def render_batch_html(
    spans: Sequence[ReadableSpan],
    events: Sequence[TelemetryEvent],
    metrics: Sequence[TelemetryMetric],
) -> str:
    """Return how many records there are, their services and times, and a table of the newest ten."""
    records: list[Record] = [*spans, *events, *metrics]
    counts = (
        format_count(len(spans), "span"),
        format_count(len(events), "event"),
        format_count(len(metrics), "metric point"),
    )
    head = make_element("b", "TelemetryData") + "&nbsp; " + " · ".join(counts)
    if not records:
        return make_element("div", head)
    newest = sorted(heapq.nlargest(_MAX_ROWS, records, key=time_of), key=time_of)
    table = make_element(
        "table", _heading_row(), *map(_record_row, newest), style="border-collapse:collapse"
    )
    more = len(records) - len(newest)
    note = make_element("div", f"the newest {len(newest)} of {len(records):,}") if more else ""
    return make_element(
        "div",
        make_element("div", head),
        make_element("div", _services_and_times(records)),
        table,
        note,
    )


def _services_and_times(records: Sequence[Record]) -> str:
    services = Counter(service_of(record) or "(no service)" for record in records)
    names = [escape_html(name, 40) for name, _ in services.most_common(_MAX_SERVICES)]
    more = len(services) - len(names)
    times = [time for time in map(time_of, records) if time]
    first, last = min(times, default=0), max(times, default=0)
    services_text = ", ".join(names) + (f" and {more:,} more" if more > 0 else "")
    duration = escape_html(format_duration(last - first))
    return f"{services_text} · {format_time(first)} to {format_time(last)} ({duration})"


def _heading_row() -> str:
    names = ("time", "", "service", "", "", "attributes", "trace")
    return make_element("tr", *(make_element("th", name, style=_CELL) for name in names))


def _record_row(record: Record) -> str:
    kind, text, value, attributes, is_error = _describe_record(record)
    trace_id = _trace_id_of_record(record)
    cells: Iterable[tuple[str, str]] = (
        (format_time(time_of(record)), _CELL),
        (kind, _CELL),
        (escape_html(service_of(record), 40), _CELL),
        (text, _WIDE + ";" + _RED if is_error else _WIDE),
        (value, _CELL),
        (attributes, _WIDE + ";opacity:0.7"),
        (f"{trace_id:032x}"[:8] if trace_id else "", _CELL),
    )
    return make_element("tr", *(make_element("td", text, style=style) for text, style in cells))


def _trace_id_of_record(record: Record) -> int:
    if isinstance(record, TelemetryEvent):
        return record.trace_id
    return 0 if isinstance(record, TelemetryMetric) else trace_id_of(record)


def _describe_record(record: Record) -> tuple[str, str, str, str, bool]:
    """Return the record's kind, text, value and attributes, and whether it is an error."""
    if isinstance(record, TelemetryEvent):
        raised = exception_text(record.metadata)
        text = escape_html(record.message or record.event_name) + (
            f" {escape_html(raised)}" if raised else ""
        )
        kind, is_error = record.event_type.value, record.event_type.severity_number >= 17
        return kind, text, "", format_pairs(brief_attributes(record.metadata)), is_error
    if isinstance(record, TelemetryMetric):
        return (
            "metric",
            escape_html(record.name),
            _metric_text(record),
            format_pairs(record.tags),
            False,
        )
    nanos = duration_of(record)
    duration = "open" if nanos is None else escape_html(format_duration(nanos))
    attributes = format_pairs(brief_attributes(record.attributes or {}))
    return "span", escape_html(record.name), duration, attributes, has_failed(record)


def _metric_text(metric: TelemetryMetric) -> str:
    unit = f" {escape_html(metric.unit, 20)}" if metric.unit not in ("", "1") else ""
    if metric.point is None:
        return (format_number(metric.value) if metric.has_value else "no value") + unit
    count = f"n={metric.point.count:,}"
    if not metric.point.count or not metric.has_value or isinstance(metric.point, SummaryPoint):
        return count
    return f"{count} mean={format_number(metric.value / metric.point.count)}{unit}"
