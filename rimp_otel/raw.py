"""Records as the buffer holds them: the least that must be kept, and nothing made of it yet.

A span is the SDK's own object, which does not change once it has ended. All else is a plain
tuple, told apart by its first element, since nothing is cheaper to make:

- ``(EVENT, time_unix_nano, source, message, event_type, metadata, span_context)``
- ``(METRIC, time_unix_nano, name, value, unit, tags)``
- ``(LOG, fragment)``: a log record changes after ``on_emit``, so it is encoded there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.data import TelemetryData
from rimp_otel.models import EventType, ResourceInfo, TelemetryEvent, TelemetryMetric
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.fragment import Fragment, lines, resource_wrapping, scope_wrapping
from rimp_otel.otlp.logs import event_scope, native_event_json
from rimp_otel.otlp.metrics import native_metric_json, native_wrapping
from rimp_otel.otlp.signals import Signal
from rimp_otel.sources import Source, Spans, encode_each

__all__ = ["EVENT", "LOG", "METRIC", "RawRecord", "batch_of"]

EVENT: Final = 0
METRIC: Final = 1
LOG: Final = 2

RawRecord = ReadableSpan | tuple[Any, ...]
"""What this module's docstring describes."""

_SEVERITIES = {kind: kind.severity_number for kind in EventType}


def batch_of(records: Iterable[RawRecord], resource: ResourceInfo) -> TelemetryData:
    """The buffer's records as a batch; ``resource`` is that of the native ones."""
    spans: list[Any] = []
    logs: list[tuple[Any, ...]] = []
    metrics: list[tuple[Any, ...]] = []
    for record in records:
        if type(record) is not tuple:
            spans.append(record)
        elif record[0] == METRIC:
            metrics.append(record)
        else:
            logs.append(record)
    sources: dict[Signal, Source] = {
        Signal.TRACES: Spans(spans),
        Signal.LOGS: RawLogs(logs, resource),
        Signal.METRICS: RawMetrics(metrics, resource),
    }
    return TelemetryData.from_sources(sources)


class RawLogs:
    """Native events, and log records that were encoded when they were emitted."""

    def __init__(self, records: Sequence[tuple[Any, ...]], resource: ResourceInfo) -> None:
        self._records = records
        self._resource = resource

    def __len__(self) -> int:
        return len(self._records)

    def objects(self) -> list[TelemetryEvent]:
        """The events, in the order in which they were collected."""
        return [self._object(record) for record in self._records]

    def _object(self, record: tuple[Any, ...]) -> TelemetryEvent:
        if record[0] == LOG:
            (line,) = lines(Signal.LOGS, [record[1]])
            event: TelemetryEvent = decode_line(line).records[0]
            return event
        _, time, source, message, event_type, metadata, context = record
        event = TelemetryEvent(source, message, event_type, metadata or {}, time, time)
        event.scope, event.resource = event_scope(source), self._resource
        if context is not None:
            event.trace_id, event.span_id = context.trace_id, context.span_id
            event.trace_flags = int(context.trace_flags)
        return event

    def fragments(self) -> Iterator[Fragment | None]:
        """The events' texts."""
        resource = resource_wrapping(self._resource)

        def encode(record: tuple[Any, ...]) -> Fragment:
            if record[0] == LOG:
                fragment: Fragment = record[1]
                return fragment
            _, time, source, message, event_type, metadata, context = record
            text = native_event_json(time, message, _SEVERITIES[event_type], metadata, context)
            return Fragment(time, resource, scope_wrapping(event_scope(source)), None, text)

        return encode_each(encode, self._records)


class RawMetrics:
    """Native metrics."""

    def __init__(self, records: Sequence[tuple[Any, ...]], resource: ResourceInfo) -> None:
        self._records = records
        self._resource = resource

    def __len__(self) -> int:
        return len(self._records)

    def objects(self) -> list[TelemetryMetric]:
        """The metrics, in the order in which they were collected."""
        return [
            TelemetryMetric(name, value, unit, tags or {}, time, resource=self._resource)
            for _, time, name, value, unit, tags in self._records
        ]

    def fragments(self) -> Iterator[Fragment | None]:
        """The metrics' texts."""
        resource, scope = resource_wrapping(self._resource), scope_wrapping(None)

        def encode(record: tuple[Any, ...]) -> Fragment:
            _, time, name, value, unit, tags = record
            text = native_metric_json(time, value, tags)
            return Fragment(time, resource, scope, native_wrapping(name, unit), text)

        return encode_each(encode, self._records)
