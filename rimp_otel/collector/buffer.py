"""The collector's buffer in memory, and the raw records in it, of which nothing is made until it is drained."""

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
    parse_severity_number,
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
    "batch_of_raw_records",
    "copy_attributes",
    "enclose_event",
    "enclose_metric",
    "encode_raw_record",
    "signal_of_raw_record",
    "to_event_type",
    "to_number",
    "to_text",
    "try_encode_raw_record",
]


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
        #: Oldest first. Whoever appends to it directly looks after ``limit``.
        self.records: deque[Record] = deque()

    def append(self, record: Record) -> int:
        """Append a record, and drop the oldest one if that is one too many.

        Returns:
            The number of records there are now.
        """
        records = self.records
        records.append(record)
        try:
            waiting = len(records)
            if waiting > self.limit:
                self.drop_oldest()
        except (RecursionError, MemoryError):
            return self.limit  # it is appended; the next one drops the oldest
        return waiting

    def drop_oldest(self) -> None:
        """Drop the oldest record, and report it to ``on_overflow``."""
        try:
            oldest = self.records.popleft()
        except IndexError:  # drained in the meantime
            return
        try:
            self._on_overflow(oldest)
        except (RecursionError, MemoryError):
            self.records.appendleft(oldest)  # it was not counted; the next one drops it

    def drain(self, most: int) -> list[Record]:
        """Remove the oldest ``most`` records, or all if there are fewer, and return them."""
        popleft, taken = self.records.popleft, []
        try:
            for _ in range(most):
                taken.append(popleft())
        except IndexError:
            pass
        return taken

    def __len__(self) -> int:
        return len(self.records)


# Raw records.

EVENT: Final = 0
METRIC: Final = 1
ENCODED: Final = 2

RawRecord = ReadableSpan | tuple[Any, ...]
"""The least that must be kept of a record: a span as it is, or a tuple of ``EVENT`` or ``METRIC`` and
what ``collect_event`` or ``collect_metric`` was given, or of ``ENCODED``, signal and encoded record."""


def signal_of_raw_record(record: RawRecord) -> Signal:
    """Return the signal that a record belongs to."""
    if type(record) is not tuple:
        return Signal.TRACES
    if record[0] == ENCODED:
        signal: Signal = record[1]
        return signal
    return Signal.METRICS if record[0] == METRIC else Signal.LOGS


def try_encode_raw_record(record: RawRecord, resource: ResourceInfo) -> RawRecord:
    """Return the record in its encoded form; as it is if it cannot be encoded."""
    if _is_encoded(record):
        return record
    try:
        return ENCODED, signal_of_raw_record(record), encode_raw_record(record, resource)
    except Exception:
        return record


def encode_raw_record(record: RawRecord, resource: ResourceInfo) -> EncodedRecord:
    """Return a record encoded; ``resource`` is that of native records.

    Raises:
        Exception: any, raised by what cannot be encoded.
    """
    # Told apart by hand: looking up by the enumeration costs a third of a microsecond.
    if type(record) is not tuple:
        return _encode_raw_span(record, resource)
    if record[0] == EVENT:
        return _encode_raw_event(record, resource)
    if record[0] == METRIC:
        return _encode_raw_metric(record, resource)
    encoded: EncodedRecord = record[2]
    return encoded


def batch_of_raw_records(records: Iterable[RawRecord], resource: ResourceInfo) -> TelemetryData:
    """Return records as a batch; ``resource`` is that of the native ones."""
    by_signal: dict[Signal, list[RawRecord]] = {signal: [] for signal in Signal}
    spans = by_signal[Signal.TRACES]
    for record in records:
        if type(record) is not tuple:
            spans.append(record)
        else:
            by_signal[signal_of_raw_record(record)].append(record)
    return make_batch(
        {signal: RawRecords(signal, found, resource) for signal, found in by_signal.items()}
    )


class RawRecords:
    """Raw records of one signal: a representation of a batch, see ``rimp_otel.batch``."""

    def __init__(
        self, signal: Signal, records: Sequence[RawRecord], resource: ResourceInfo
    ) -> None:
        self._signal = signal
        self._records = records
        self._resource = resource

    def __len__(self) -> int:
        return len(self._records)

    def objects(self) -> list[Any]:
        """Return the records as objects, in the order in which they were collected."""
        make = _MAKERS[self._signal]
        return [
            _decode_raw_record(record) if _is_encoded(record) else make(record, self._resource)
            for record in self._records
        ]

    def encoded(self) -> Iterator[EncodedRecord | None]:
        """Yield the records encoded; None for one that cannot be."""
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


def _decode_raw_record(record: Any) -> Any:
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


def _encode_raw_span(record: Any, _: ResourceInfo) -> EncodedRecord:
    return encode_span(record)


def _encode_raw_event(record: Any, resource: ResourceInfo) -> EncodedRecord:
    _, time, source, message, kind, metadata, context = record
    text = native_event_json(time, message, kind, metadata, context)
    return enclose_event(time, source, resource, text)


def _encode_raw_metric(record: Any, resource: ResourceInfo) -> EncodedRecord:
    _, time, name, value, unit, tags = record
    text = native_metric_json(time, value, tags)
    return enclose_metric(time, name, unit, resource, text)


def enclose_event(
    time_unix_nano: int, source: str, resource: ResourceInfo | None, text: str
) -> EncodedRecord:
    """Return a native event encoded, from its JSON object."""
    scope = scope_envelope(event_scope(source))
    return EncodedRecord(time_unix_nano, resource_envelope(resource), scope, None, text)


def enclose_metric(
    time_unix_nano: int, name: str, unit: str, resource: ResourceInfo | None, text: str
) -> EncodedRecord:
    """Return a native metric encoded, from its point's JSON object."""
    envelope, scope = native_metric_envelope(name, unit), scope_envelope(None)
    return EncodedRecord(time_unix_nano, resource_envelope(resource), scope, envelope, text)


_MAKERS: dict[Signal, Callable[[Any, ResourceInfo], Any]] = {
    Signal.TRACES: _make_span,
    Signal.LOGS: _make_event,
    Signal.METRICS: _make_metric,
}

_ENCODERS: dict[Signal, Callable[[Any, ResourceInfo], EncodedRecord]] = {
    Signal.TRACES: _encode_raw_span,
    Signal.LOGS: _encode_raw_event,
    Signal.METRICS: _encode_raw_metric,
}


# What callers give to the native API, made into what a raw record holds. Nothing here raises.

_SCALARS = frozenset({str, bool, int, float, bytes, type(None)})


def copy_attributes(attributes: Any) -> dict[str, Any]:
    """Return a copy that the caller cannot change any more."""
    try:
        copied = dict(attributes)
        for value in copied.values():
            if type(value) not in _SCALARS:
                return dict(plain_value(copied))
    except Exception:
        return {"rimp.repaired": plain_value(attributes)}
    return copied


def to_number(value: Any) -> float | int | None:
    """Return the number that ``value`` is or stands for; None if there is none."""
    found = plain_value(value)
    if isinstance(found, (int, float)):
        return int(found) if isinstance(found, bool) else found
    try:
        return float(found)  # a Decimal, or a text that is a number
    except (TypeError, ValueError):
        return None


def to_text(value: Any) -> str:
    """Return ``value`` as text."""
    found = plain_value(value)
    try:
        return found if isinstance(found, str) else str(found)
    except Exception as error:  # such as an integer of more digits than Python turns into text
        return f"<a {type(value).__name__} that cannot be read: {type(error).__name__}>"


def to_event_type(value: Any) -> EventType:
    """Return the event type that ``value`` is or names; ERROR if it names none, since it is not known
    to be less."""
    try:
        number = parse_severity_number(value)
    except Exception:
        number = None
    return EventType.ERROR if number is None else EventType.from_severity_number(number)
