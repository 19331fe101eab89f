"""The collector: takes records in, cheaply and from anywhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Mapping
from time import time_ns
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from rimp_otel.batch import TelemetryData, load_decoding, share_batch
from rimp_otel.collector.buffer import (
    ENCODED,
    EVENT,
    METRIC,
    MemoryBuffer,
    RawRecord,
    batch_of,
    encoded,
    event_fragment_of,
    fragment_of,
    metric_fragment_of,
    signal_of_raw,
)
from rimp_otel.collector.context import SPAN_KEY, current_context, span_context_of
from rimp_otel.collector.stats import CollectorStats, Counts, observe_processor
from rimp_otel.config import TelemetryConfig
from rimp_otel.convert.resources import resource_from_sdk
from rimp_otel.journal.format import SIGNAL_TAGS
from rimp_otel.journal.journal import Journal
from rimp_otel.models.records import EventType, ResourceInfo, Signal
from rimp_otel.otlp.encode_logs import (
    enclose_log_record,
    log_record_json,
    log_record_time,
    native_event_json,
)
from rimp_otel.otlp.encode_metrics import native_metric_json
from rimp_otel.otlp.encode_spans import encode_span, is_sampled, span_json
from rimp_otel.otlp.lines import EncodedRecord
from rimp_otel.otlp.values import plain_value
from rimp_otel.process import in_forked_child

__all__ = [
    "Listener",
    "TelemetryCollector",
    "copied",
    "event_type_of",
    "number",
    "resource_of",
    "text_of",
]


# --- What callers give to the native API, made into what a record holds. Nothing here raises.

_SCALARS = frozenset({str, bool, int, float, bytes, type(None)})


def copied(attributes: Any) -> dict[str, Any]:
    """A copy that the caller cannot change any more."""
    try:
        copied = dict(attributes)
        for value in copied.values():
            if type(value) not in _SCALARS:
                return dict(plain_value(copied))
    except Exception:
        return {"rimp.repaired": plain_value(attributes)}
    return copied


def number(value: Any) -> float | int | None:
    """The number that it is, or stands for; None for what is none."""
    found = plain_value(value)
    if isinstance(found, (int, float)):
        return int(found) if isinstance(found, bool) else found
    try:
        return float(found)  # a Decimal, or a text that is a number
    except (TypeError, ValueError):
        return None


def text_of(value: Any) -> str:
    """What there is to read of it."""
    found = plain_value(value)
    try:
        return found if isinstance(found, str) else str(found)
    except Exception as error:  # such as an integer of more digits than Python turns into text
        return f"<a {type(value).__name__} that cannot be read: {type(error).__name__}>"


def event_type_of(value: Any) -> EventType:
    """The type that it names; INFO, where it names none."""
    try:
        return value if isinstance(value, EventType) else EventType(str(value).lower())
    except Exception:
        return EventType.INFO


# --- The collector: takes records in, cheaply and from anywhere.

Listener = Callable[[TelemetryData], object]
"""Called with one record at a time, on the thread that collected it."""

_SPAN, _LOG, _POINT = (SIGNAL_TAGS[signal] for signal in Signal)
_SIGNALS = {letter: signal for signal, letter in SIGNAL_TAGS.items()}
_NEVER, _ALWAYS = sys.maxsize, -1
# The stream is far behind when this part of the buffer is full.
_BEHIND = 8


class Stream(Protocol):
    """What a collector asks of the stream that is attached to it."""

    def wake(self) -> None:
        """The buffer is full. Safe from any thread, signal handler or finaliser."""

    def flush(self) -> TelemetryData:
        """Drains the buffer, and returns what was in it."""

    def drain(self, timeout: float, ending: bool = False) -> bool:
        """Drains the buffer; False if that takes longer than ``timeout`` seconds.

        With ``ending``, and a storage that hangs, it is not waited for again.
        """


class TelemetryCollector(SpanProcessor, LogRecordProcessor):
    """Takes in native events and metrics, and the spans and log records of OpenTelemetry's SDK.

    It is a SpanProcessor and a LogRecordProcessor; spans that are not sampled are left out, as the
    specification demands. ``collect_*``, ``on_start``, ``on_end`` and ``on_emit`` take no lock,
    raise nothing, and may be called from any thread, signal handler or finaliser.

    Args:
        config: how to behave; the defaults, if not given.
        resource: of native records; made from the configuration and the environment, if not given.
    """

    def __init__(
        self, config: TelemetryConfig | None = None, resource: Resource | None = None
    ) -> None:
        self.config = config or TelemetryConfig()
        self._resource = None if resource is None else resource_from_sdk(resource)
        self._enabled = self.config.enabled
        self._realtime = False
        self._listeners: tuple[Listener, ...] = ()
        self._stream: Stream | None = None
        self._journal: Journal | None = None
        # The same, where records need go nowhere else: no listener is to be told.
        self._direct: Journal | None = None
        self._wake_at = self._encode_at = self._attend_at = _NEVER
        self._put: Callable[[RawRecord], object] | None = None
        #: What becomes of the records; the stream counts what it does with them.
        self.counts = Counts()
        self._start_counting()
        in_forked_child(self._start_anew)
        observe_processor(self)

    def _start_counting(self) -> None:
        self._buffer: MemoryBuffer[RawRecord] = MemoryBuffer(self._limit, self._count_overflow)
        self._count_one = self.counts.collected.add_one
        self._behind = False
        self._look()
        self._flushing = threading.RLock()
        self._notifying = threading.local()

    def _look(self) -> None:
        """Finds out whether native records may be put into the buffer without more ado."""
        while True:
            is_plain = self._is_plain
            self._put = self._buffer.records.append if is_plain else None
            self._attend_at = _ALWAYS
            # Another thread, or a signal handler, may have changed it and looked meanwhile.
            if is_plain == self._is_plain:
                return

    @property
    def _is_plain(self) -> bool:
        return self._enabled and not (self._journal or self._realtime or self._behind)

    @property
    def _limit(self) -> int:
        """The most records that may wait: more with a stream, which is going to take them."""
        size = self.config.buffer_size
        return size if self._stream is None else max(size, self.config.buffer_limit)

    def _start_anew(self) -> None:
        """In a forked child: what waits here is the parent's, and will be stored by it."""
        self.counts.reset_after_fork()
        self._start_counting()
        if self._journal is not None:
            self._journal.reset_after_fork()
            self._wake_at = self.config.buffer_size

    @property
    def resource(self) -> ResourceInfo:
        """The resource of native records."""
        if self._resource is None:
            self._resource = resource_from_sdk(resource_of(self.config)) or ResourceInfo()
        return self._resource

    def collect_event(
        self,
        source: str,
        message: str,
        event_type: EventType = EventType.INFO,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes in an event; inside a span it carries that span's ids.

        Args:
            source: who tells; becomes OTLP's scope name.
            message: what happened.
            event_type: how bad it is.
            metadata: any attributes. Copied: later changes are not seen.
        """
        if type(source) is not str or type(message) is not str or type(event_type) is not EventType:
            source, message = text_of(source), text_of(message)
            event_type = event_type_of(event_type)
        span, kind = current_context().get(SPAN_KEY), event_type._value_
        context = None if span is None else span_context_of(span)
        put = self._put
        if put is not None:
            kept = None if metadata is None else copied(metadata)
            record = (EVENT, time_ns(), source, message, kind, kept, context)
            # Nothing between the two: what is counted is in the buffer.
            collected = self._count_one()
            put(record)
            if collected >= self._attend_at:
                self._attend(collected)
            return
        if not self._enabled:
            return
        now, journal = time_ns(), self._direct
        if journal is None or (metadata is not None and type(metadata) is not dict):
            kept = None if metadata is None else copied(metadata)
            self._append((EVENT, now, source, message, kind, kept, context))
            return
        # Written at once, so that nothing need be copied. Encoded before it is counted: what a
        # signal handler raises meanwhile, such as KeyboardInterrupt, is the application's, and must
        # not leave a record that never comes.
        text = native_event_json(now, message, kind, metadata, context)
        resource = self._resource
        collected = self._count_one()
        if not journal.append_known(_LOG, source, resource, text):
            fragment = event_fragment_of(now, source, resource, text)
            self._append_anew(journal, _LOG, source, resource, None, fragment)
        if collected >= self._wake_at:
            self._wake_again(collected)

    def collect_metric(
        self,
        name: str,
        value: float,
        unit: str = "",
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes in a measured value; it becomes a gauge's data point.

        Args:
            name: of the metric.
            value: the measured number. What is no number is dropped, as "invalid_value".
            unit: UCUM, such as ``ms`` or ``By``.
            tags: the point's attributes. Copied: later changes are not seen.
        """
        if not self._enabled:
            return
        if type(value) is not float and type(value) is not int:
            found = number(value)
            if found is None:
                self._count_one()
                self.counts.drop("invalid_value", Signal.METRICS)
                return
            value = found
        if type(name) is not str or type(unit) is not str:
            name, unit = text_of(name), "" if unit is None else text_of(unit)
        now, journal = time_ns(), self._direct
        if journal is None or (tags is not None and type(tags) is not dict):
            kept = None if tags is None else copied(tags)
            self._append((METRIC, now, name, value, unit, kept))
            return
        key, text, resource = (name, unit), native_metric_json(now, value, tags), self._resource
        collected = self._count_one()
        if not journal.append_known(_POINT, key, resource, text):
            fragment = metric_fragment_of(now, name, unit, resource, text)
            self._append_anew(journal, _POINT, key, resource, None, fragment)
        if collected >= self._wake_at:
            self._wake_again(collected)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Notes a span that has started, so that it is known if the process dies before its end.
        Called by the SDK."""
        journal = self._journal
        if journal is not None and self._enabled and is_sampled(span):
            journal.add_open_span(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Takes in a span that has ended. Called by the SDK."""
        if not self._enabled or not is_sampled(span):
            return
        journal = self._direct
        if journal is None:
            self._append_span(span)
            return
        try:
            text = span_json(span)
            resource, scope = span.resource, span.instrumentation_scope
        except Exception:  # one bad record costs one record
            self._append_span(span)
            return
        collected = self._count_one()
        if not journal.append_span(span, resource, scope, text):
            key = journal.mark_span_ending(span)
            fragment = encode_span(span, text)
            self._append_anew(journal, _SPAN, id(scope), resource, scope, fragment)
            journal.mark_span_recorded(key)
        if collected >= self._wake_at:
            self._wake_again(collected)

    def _append_span(self, span: ReadableSpan) -> None:
        journal = self._journal
        key = None if journal is None else journal.mark_span_ending(span)
        self._append(span)
        if journal is not None:
            journal.mark_span_recorded(key)

    def on_emit(self, log_record: Any) -> None:
        """Takes in a log record; encodes it now, since it may change later. Called by the SDK."""
        if not self._enabled:
            return
        try:
            text = log_record_json(log_record)
            resource, scope = log_record.resource, log_record.instrumentation_scope
        except Exception:
            self._count_one()
            self.counts.drop("encoding", Signal.LOGS)
            return
        self._append_log(log_record_time(log_record), text, resource, scope)

    def take_log(self, time_unix_nano: int, text: str, resource: object, scope: object) -> None:
        """Takes in a log record that is OTLP JSON already.

        Args:
            time_unix_nano: when it happened.
            text: its object.
            resource, scope: the SDK's; they may not change.
        """
        if self._enabled:
            self._append_log(time_unix_nano, text, resource, scope)

    def _append_log(self, time: int, text: str, resource: object, scope: object) -> None:
        journal = self._direct
        if journal is None:
            fragment = enclose_log_record(time, text, resource, scope)
            self._append((ENCODED, Signal.LOGS, fragment))
            return
        collected = self._count_one()
        if not journal.append_known(_LOG, id(scope), resource, text):
            fragment = enclose_log_record(time, text, resource, scope)
            self._append_anew(journal, _LOG, id(scope), resource, scope, fragment)
        if collected >= self._wake_at:
            self._wake_again(collected)

    def _append_anew(
        self,
        journal: Journal,
        letter: str,
        key: Hashable,
        resource: object,
        owner: object,
        fragment: EncodedRecord,
    ) -> None:
        """The first record of its origin in a segment, and one that the quick way does not take."""
        if journal.append(letter, fragment):
            journal.learn_head(letter, key, resource, owner, fragment)
        else:
            self._keep(journal, (ENCODED, _SIGNALS[letter], fragment))

    def _append(self, record: RawRecord) -> None:
        if self._journal is not None:
            self._append_to_journal(self._journal, record)
            return
        kept = encoded(record, self.resource) if self._behind else record
        # Nothing between the two: what is counted is in the buffer.
        self._count_one()
        waiting = self._buffer.append(kept)
        if waiting >= self._wake_at:
            self._wake(waiting)
        if self._realtime:
            self._notify(record)

    def _append_to_journal(self, journal: Journal, record: RawRecord) -> None:
        # Encoded before it is counted: what a signal handler raises meanwhile, such as
        # KeyboardInterrupt, is the application's, and must not leave a record that never comes.
        try:
            fragment = fragment_of(record, self.resource)
        except Exception:  # one bad record costs one record
            self._count_one()
            self.counts.drop("encoding", signal_of_raw(record))
            return
        collected = self._count_one()
        if not journal.append(_letter_of(record), fragment):
            self._keep(journal, (ENCODED, signal_of_raw(record), fragment))
        if collected >= self._wake_at:
            self._wake_again(collected)
        if self._realtime:
            self._notify(record)

    def _wake_again(self, collected: int) -> None:
        self._arm(collected)
        self._wake(0)

    def _keep(self, journal: Journal, record: RawRecord) -> None:
        """What the journal did not take: too much, unless it could not be written."""
        if journal.is_full:
            self.counts.drop("journal_full", signal_of_raw(record))
            self._wake(0)
        elif self._buffer.append(record) >= self.config.buffer_size:
            self._wake(0)

    def _wake(self, waiting: int) -> None:
        # From here on whoever collects also encodes: several busy threads leave the stream's one
        # too little of the interpreter to do that for all of them.
        self._set_behind(waiting)
        stream = self._stream
        if stream is not None:
            stream.wake()

    def _set_behind(self, waiting: int) -> None:
        behind = waiting >= self._encode_at
        if behind is not self._behind:
            self._behind = behind
            self._look()

    def _attend(self, collected: int) -> None:
        """Looks whether the buffer is full, and finds out when it can be so again at the earliest."""
        waiting = len(self._buffer)
        if waiting > self._buffer.limit:
            self._buffer.drop_oldest()
        if waiting >= self._wake_at:
            self._wake(waiting)
        room = min(self._buffer.limit + 1, self._wake_at) - waiting
        self._attend_at = collected + room if room > 0 else _ALWAYS

    def _notify(self, record: RawRecord) -> None:
        if getattr(self._notifying, "now", False):
            return  # a listener that collects does not call the listeners
        self._notifying.now = True
        try:
            data = batch_of([record], self.resource)
            for listener in self._listeners:
                try:
                    listener(share_batch(data))
                except KeyboardInterrupt:
                    raise
                except BaseException:  # even SystemExit
                    self.counts.listener_errors.add_one()
        finally:
            self._notifying.now = False

    def add_listener(self, listener: Listener) -> None:
        """Calls ``listener`` with each record at once; only with ``realtime_mode``."""
        load_decoding()
        self._set_listeners((*self._listeners, listener))

    def remove_listener(self, listener: Listener) -> None:
        """Calls ``listener`` no more. One that was never added is ignored."""
        kept = list(self._listeners)
        if listener in kept:
            kept.remove(listener)
        self._set_listeners(tuple(kept))

    def _set_listeners(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        self._realtime = self.config.realtime_mode and bool(listeners)
        self._make_resource()
        self._direct = None if self._realtime else self._journal
        self._look()

    def _make_resource(self) -> None:
        # Early: the SDK starts threads for it, which a signal handler and the interpreter's exit
        # cannot.
        if self._enabled:
            _ = self.resource

    def flush(self) -> TelemetryData:
        """Empties the buffer, and returns what was in it.

        With a stream attached, it has been stored and given to the consumers when this returns, if
        that takes no longer than ``flush_timeout``. Without one, it is only returned.
        """
        if self._stream is not None:
            return self._stream.flush()
        with self._flushing:
            data = batch_of(self._buffer.drain(len(self._buffer)), self.resource)
            self.counts.store(data)
        return data

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Has everything stored. False if that takes longer. Called by the SDK."""
        return self._stream is None or self._stream.drain(timeout_millis / 1_000)

    def shutdown(self) -> None:
        """Has everything stored, within ``flush_timeout``. What still arrives after is collected
        too. Called by the SDK."""
        if self._stream is not None:
            self._stream.drain(self.config.flush_timeout, ending=True)

    def stats(self) -> CollectorStats:
        """What has been counted up to now."""
        return self.counts.stats()

    def counted(self, signal: Signal) -> tuple[int, dict[str, int]]:
        """Of one signal: how many records were stored, and how many were dropped, by reason."""
        return self.counts.of(signal)

    # What follows is for the stream, which is attached to one collector and drains it.

    def attach(self, stream: Stream, journal: Journal | None = None) -> None:
        """Lets ``stream`` drain this collector from now on; buffered in ``journal``, if given."""
        self._make_resource()
        self._stream = stream
        self._journal = journal
        self._direct = None if self._realtime else journal
        self._wake_at = self.config.buffer_size
        self._buffer.limit = self._limit
        self._encode_at = max(self.config.buffer_size, self._buffer.limit // _BEHIND)
        self._look()

    def adopt(self, resource: Resource) -> None:
        """Makes ``resource`` that of native records, from the next batch on."""
        self._resource = resource_from_sdk(resource) or ResourceInfo()

    def rearm(self) -> None:
        """The journal has been drained: the stream is to be woken when it is full again."""
        self._arm(self.counts.collected.value)

    def _arm(self, collected: int) -> None:
        """Has the stream woken when so many more records have been collected."""
        if self._wake_at != _ALWAYS:
            self._wake_at = collected + self.config.buffer_size

    def write_through(self) -> None:
        """Wakes the stream for every record from now on: the interpreter is about to exit."""
        self._wake_at = _ALWAYS
        self._look()

    def take(self, most: int) -> TelemetryData:
        """Takes the oldest ``most`` records out of the buffer."""
        records = self._buffer.drain(most)
        self._set_behind(len(self._buffer))
        return batch_of(records, self.resource)

    @property
    def waiting(self) -> int:
        """How many records are in the buffer in memory."""
        return len(self._buffer)

    @property
    def pending(self) -> int:
        """How many records are in the buffer, in memory or in the journal."""
        return len(self._buffer) if self._journal is None else self.stats().pending

    @property
    def capacity(self) -> int | None:
        """How many records the buffer can hold; None for a journal, which is bounded in bytes."""
        return self._buffer.limit if self._journal is None else None

    def _count_overflow(self, record: RawRecord) -> None:
        self.counts.drop("buffer_full", signal_of_raw(record))


def resource_of(config: TelemetryConfig) -> Resource:
    """The SDK's resource, with what the configuration adds to it."""
    attributes = dict(config.resource_attributes)
    if config.service_name:
        attributes["service.name"] = config.service_name
    return Resource.create(attributes)


def _letter_of(record: RawRecord) -> str:
    """The letter of its signal in the journal; told apart as ``fragment_of`` does."""
    if type(record) is not tuple:
        return _SPAN
    if record[0] == METRIC:
        return _POINT
    return _LOG if record[0] == EVENT or record[1] is Signal.LOGS else SIGNAL_TAGS[record[1]]
