"""Reading recordings for the commands, and what a record is in their JSON."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from rimp_otel.cli.options import UsageError
from rimp_otel.cli.render import Style, format_utc, plural
from rimp_otel.models import SummaryPoint, TelemetryEvent, TelemetryMetric
from rimp_otel.otlp.signals import Signal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.cli.moments import Window
    from rimp_otel.data import TelemetryData
    from rimp_otel.filters import Filter
    from rimp_otel.storage.reader import RecordingReader
    from rimp_otel.storage.sqlite.reader import DatabaseReader

    Reader = RecordingReader | DatabaseReader

__all__ = [
    "Record",
    "duration_of",
    "end_of",
    "has_failed",
    "is_interrupted",
    "open_recording",
    "parent_id_of",
    "record_json",
    "records_of",
    "report_damage",
    "retrieve",
    "say",
    "service_of",
    "span_id_of",
    "start_of",
    "time_of",
    "trace_id_of",
]

Record = Union["ReadableSpan", TelemetryEvent, TelemetryMetric]
"""One record of any signal."""


def open_recording(path: Path, wait: bool = False) -> Reader:
    """A reader of what is recorded at ``path``.

    Raises:
        UsageError: there is nothing, and the caller does not want to ``wait`` until there is.
    """
    # Reading needs the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.storage.reader import RecordingReader
    from rimp_otel.storage.sqlite.reader import DatabaseReader, is_database

    reader: Reader = DatabaseReader(path) if is_database(path) else RecordingReader(path)
    if not reader.files():
        nothing = (
            f"no recording at {path}: record one with 'rimp run -- python app.py', "
            "or name another with --path"
        )
        if not wait:
            raise UsageError(nothing)
        say(f"waiting; {nothing}")
    return reader


def say(message: str) -> None:
    """A remark for a person, on standard error."""
    # It can quote a path or a recorded text.
    print(f"rimp: {Style().clean(message)}", file=sys.stderr, flush=True)


def report_damage(reader: Reader, reported: int = 0) -> int:
    """Say that lines were skipped, if more than ``reported`` were; returns how many were."""
    total = len(reader.damaged)
    if total > reported:
        say(f"skipped {plural(total - reported, 'damaged line')}; 'rimp stats' lists them")
    return total


def retrieve(
    reader: RecordingReader, window: Window, wanted: Filter | None = None, limit: int | None = None
) -> TelemetryData:
    """The records of the window that match, oldest first; of more than ``limit``, the newest.

    A span's time is its start here. No more files are read than it takes.
    """
    from rimp_otel.filters import Filter
    from rimp_otel.storage import retrieval
    from rimp_otel.storage.base import Selection

    return retrieval.retrieve(reader, Selection(*window, limit, wanted or Filter()))


def records_of(
    data: TelemetryData, signals: Collection[Signal] = frozenset(Signal)
) -> Iterator[Record]:
    """The records of these signals."""
    if Signal.TRACES in signals:
        yield from data.spans
    if Signal.LOGS in signals:
        yield from data.events
    if Signal.METRICS in signals:
        yield from data.metrics


def time_of(record: Record) -> int:
    """When the record came to be: of a span, its end (its start, while it has none)."""
    if isinstance(record, TelemetryEvent):
        return record.time_unix_nano or record.observed_time_unix_nano
    if isinstance(record, TelemetryMetric):
        return record.time_unix_nano
    return record.end_time or record.start_time or 0


def start_of(span: ReadableSpan) -> int:
    """Nanoseconds since the epoch; 0 where it is not known."""
    return span.start_time or 0


def end_of(span: ReadableSpan) -> int | None:
    """Nanoseconds since the epoch; None while the span has not ended."""
    return span.end_time or None


def duration_of(span: ReadableSpan) -> int | None:
    """Nanoseconds from start to end; None while one of them is not known."""
    start, end = start_of(span), end_of(span)
    return end - start if start and end else None


def trace_id_of(span: ReadableSpan) -> int:
    """The trace that the span belongs to."""
    return span.context.trace_id if span.context else 0


def span_id_of(span: ReadableSpan) -> int:
    """The span's id; 0 for a span that was recorded without."""
    return span.context.span_id if span.context else 0


def parent_id_of(span: ReadableSpan) -> int:
    """The id of the span's parent; 0 for a root."""
    return span.parent.span_id if span.parent else 0


def has_failed(span: ReadableSpan) -> bool:
    """Whether the span's status is an error."""
    return span.status.status_code.name == "ERROR"


def is_interrupted(span: ReadableSpan) -> bool:
    """Whether the span was open when its process died; its end is the last sign of life then."""
    return bool((span.attributes or {}).get("rimp.interrupted"))


def service_of(record: Record) -> str:
    """The ``service.name`` of the record's resource; empty where it has none."""
    attributes = record.resource.attributes if record.resource else {}
    return str(attributes.get("service.name", ""))


def record_json(record: Record) -> dict[str, Any]:
    """The record as ``--json`` prints it; docs/cli.md describes the shape."""
    if isinstance(record, TelemetryEvent):
        return _event_json(record)
    if isinstance(record, TelemetryMetric):
        return _metric_json(record)
    return _span_json(record)


def _head(signal: Signal, record: Record, scope: str) -> dict[str, Any]:
    return {
        "signal": signal.value,
        "time": format_utc(time_of(record)),
        "service": service_of(record),
        "scope": scope,
    }


def _event_json(event: TelemetryEvent) -> dict[str, Any]:
    return {
        **_head(Signal.LOGS, event, event.source),
        "severity": event.event_type.value,
        "severity_number": event.severity_number,
        "severity_text": event.severity_text,
        "event_name": event.event_name,
        "message": event.message,
        "attributes": event.metadata,
        "trace_id": _hex(event.trace_id, 32),
        "span_id": _hex(event.span_id, 16),
    }


def _metric_json(metric: TelemetryMetric) -> dict[str, Any]:
    return {
        **_head(Signal.METRICS, metric, metric.scope.name if metric.scope else ""),
        "name": metric.name,
        "kind": metric.kind.value,
        "value": metric.value if metric.has_value else None,
        "unit": metric.unit,
        "attributes": metric.tags,
        **_distribution_json(metric),
    }


def _distribution_json(metric: TelemetryMetric) -> Mapping[str, Any]:
    point = metric.point
    if point is None:
        return {}
    if isinstance(point, SummaryPoint):
        return {"count": point.count, "quantiles": dict(point.quantiles)}
    return {"count": point.count, "min": point.min, "max": point.max}


def _span_json(span: ReadableSpan) -> dict[str, Any]:
    scope = span.instrumentation_scope
    return {
        **_head(Signal.TRACES, span, scope.name if scope else ""),
        "name": span.name,
        "kind": span.kind.name.lower(),
        "trace_id": _hex(trace_id_of(span), 32),
        "span_id": _hex(span_id_of(span), 16),
        "parent_span_id": _hex(parent_id_of(span), 16),
        "start": format_utc(start_of(span)),
        "duration_ns": duration_of(span),
        "status": span.status.status_code.name.lower(),
        "status_message": span.status.description or "",
        "attributes": span.attributes or {},
        "events": [
            {"time": format_utc(e.timestamp), "name": e.name, "attributes": e.attributes or {}}
            for e in span.events
        ],
    }


def _hex(number: int, digits: int) -> str | None:
    return f"{number:0{digits}x}" if number else None
