"""The collector's buffer in memory, and the counting that goes with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.batch import TelemetryData, make_batch
from rimp_otel.models.records import (
    EventType,
    ResourceInfo,
    Signal,
    TelemetryEvent,
    TelemetryMetric,
)
from rimp_otel.otlp.encode_logs import event_scope, native_event_json
from rimp_otel.otlp.encode_metrics import native_metric_envelope, native_metric_json
from rimp_otel.otlp.encode_spans import encode_span
from rimp_otel.otlp.lines import EncodedRecord, join_lines, resource_envelope, scope_envelope
from rimp_otel.otlp.values import plain_value
from rimp_otel.process import importing

__all__ = [
    "ENCODED",
    "EVENT",
    "METRIC",
    "MemoryBuffer",
    "RawRecord",
    "batch_of",
    "encoded",
    "event_fragment_of",
    "fragment_of",
    "metric_fragment_of",
    "signal_of_raw",
]


# --- The collector's buffer in memory, and the counting that goes with it.

Record = TypeVar("Record")


class MemoryBuffer(Generic[Record]):
    """Records that wait to be drained, oldest first; lost when the process dies.

    Safe from any thread, and from code that interrupts another call half way: each step is one
    call into C. With several threads it may hold a few records more than ``limit`` for a moment.

    Args:
        limit: the most records it holds.
        on_overflow: called with each record that is dropped because there were more.
    """

    def __init__(self, limit: int, on_overflow: Callable[[Record], None]) -> None:
        self.limit = limit
        self._on_overflow = on_overflow
        #: Oldest first. Whoever appends to it looks for ``limit`` himself.
        self.records: deque[Record] = deque()

    def append(self, record: Record) -> int:
        """Puts a record last, and drops the oldest if that is one too many.

        Returns:
            How many records there are now.
        """
        records = self.records
        records.append(record)
        waiting = len(records)
        if waiting > self.limit:
            self.drop_oldest()
        return waiting

    def drop_oldest(self) -> None:
        """There is one too many."""
        try:
            oldest = self.records.popleft()
        except IndexError:  # drained in the meantime
            return
        self._on_overflow(oldest)

    def drain(self, most: int) -> list[Record]:
        """Takes the oldest ``most`` records out, or all where there are fewer."""
        popleft, taken = self.records.popleft, []
        try:
            for _ in range(most):
                taken.append(popleft())
        except IndexError:
            pass
        return taken

    def __len__(self) -> int:
        return len(self.records)


# --- Records as the buffer holds them: the least that must be kept, and nothing made of it yet.

EVENT: Final = 0
METRIC: Final = 1
ENCODED: Final = 2

RawRecord = ReadableSpan | tuple[Any, ...]
"""What this module's docstring describes."""


def signal_of_raw(record: RawRecord) -> Signal:
    """The signal that a record belongs to."""
    if type(record) is not tuple:
        return Signal.TRACES
    if record[0] == ENCODED:
        signal: Signal = record[1]
        return signal
    return Signal.METRICS if record[0] == METRIC else Signal.LOGS


def encoded(record: RawRecord, resource: ResourceInfo) -> RawRecord:
    """The record as its text; as it is, where that cannot be made."""
    if _is_encoded(record):
        return record
    try:
        return ENCODED, signal_of_raw(record), fragment_of(record, resource)
    except Exception:
        return record


def fragment_of(record: RawRecord, resource: ResourceInfo) -> EncodedRecord:
    """The record's text.

    Raises:
        Exception: whatever it is that cannot be encoded.
    """
    # Told apart by hand: looking up by the enumeration costs a third of a microsecond.
    if type(record) is not tuple:
        return _encode_span(record, resource)
    if record[0] == EVENT:
        return _encode_event(record, resource)
    if record[0] == METRIC:
        return _encode_metric(record, resource)
    fragment: EncodedRecord = record[2]
    return fragment


def batch_of(records: Iterable[RawRecord], resource: ResourceInfo) -> TelemetryData:
    """The buffer's records as a batch; ``resource`` is that of the native ones."""
    by_signal: dict[Signal, list[RawRecord]] = {signal: [] for signal in Signal}
    spans = by_signal[Signal.TRACES]
    for record in records:
        if type(record) is not tuple:
            spans.append(record)
        else:
            by_signal[signal_of_raw(record)].append(record)
    return make_batch({signal: Raw(signal, found, resource) for signal, found in by_signal.items()})


class Raw:
    """The buffer's records of one signal."""

    def __init__(
        self, signal: Signal, records: Sequence[RawRecord], resource: ResourceInfo
    ) -> None:
        self._signal = signal
        self._records = records
        self._resource = resource

    def __len__(self) -> int:
        return len(self._records)

    def objects(self) -> list[Any]:
        """The records, in the order in which they were collected."""
        make = _MAKERS[self._signal]
        return [
            _decoded(record) if _is_encoded(record) else make(record, self._resource)
            for record in self._records
        ]

    def encoded(self) -> Iterator[EncodedRecord | None]:
        """Their texts."""
        encode, resource = _ENCODERS[self._signal], self._resource
        for record in self._records:
            if type(record) is tuple and record[0] == ENCODED:
                yield record[2]
                continue
            try:
                yield encode(record, resource)
            except Exception:  # one bad record costs one record
                yield None


def _is_encoded(record: RawRecord) -> bool:
    return type(record) is tuple and record[0] == ENCODED


def _decoded(record: Any) -> Any:
    with importing():
        from rimp_otel.otlp.decode import decode_line
    (line,) = join_lines(record[1], [record[2]])
    return decode_line(line).records[0]


def _make_span(record: Any, _: ResourceInfo) -> ReadableSpan:
    span: ReadableSpan = record
    return span


def _make_event(record: Any, resource: ResourceInfo) -> TelemetryEvent:
    _, time, source, message, kind, metadata, context = record
    # The lists and dicts are made anew each time: what one consumer does to them, no other sees.
    event = TelemetryEvent(
        source, message, EventType(kind), plain_value(metadata or {}), time, time
    )
    event.scope, event.resource = event_scope(source), resource
    if context is not None:
        event.trace_id, event.span_id = context.trace_id, context.span_id
        event.trace_flags = int(context.trace_flags)
    return event


def _make_metric(record: Any, resource: ResourceInfo) -> TelemetryMetric:
    _, time, name, value, unit, tags = record
    return TelemetryMetric(name, value, unit, plain_value(tags or {}), time, resource=resource)


def _encode_span(record: Any, _: ResourceInfo) -> EncodedRecord:
    return encode_span(record)


def _encode_event(record: Any, resource: ResourceInfo) -> EncodedRecord:
    _, time, source, message, kind, metadata, context = record
    text = native_event_json(time, message, kind, metadata, context)
    return event_fragment_of(time, source, resource, text)


def _encode_metric(record: Any, resource: ResourceInfo) -> EncodedRecord:
    _, time, name, value, unit, tags = record
    text = native_metric_json(time, value, tags)
    return metric_fragment_of(time, name, unit, resource, text)


def event_fragment_of(
    time_unix_nano: int, source: str, resource: ResourceInfo | None, text: str
) -> EncodedRecord:
    """A native event's fragment, given its text."""
    scope = scope_envelope(event_scope(source))
    return EncodedRecord(time_unix_nano, resource_envelope(resource), scope, None, text)


def metric_fragment_of(
    time_unix_nano: int, name: str, unit: str, resource: ResourceInfo | None, text: str
) -> EncodedRecord:
    """A native metric's fragment, given its point's text."""
    wrapping, scope = native_metric_envelope(name, unit), scope_envelope(None)
    return EncodedRecord(time_unix_nano, resource_envelope(resource), scope, wrapping, text)


_MAKERS: dict[Signal, Callable[[Any, ResourceInfo], Any]] = {
    Signal.TRACES: _make_span,
    Signal.LOGS: _make_event,
    Signal.METRICS: _make_metric,
}

_ENCODERS: dict[Signal, Callable[[Any, ResourceInfo], EncodedRecord]] = {
    Signal.TRACES: _encode_span,
    Signal.LOGS: _encode_event,
    Signal.METRICS: _encode_metric,
}
