"""The collector: takes records in, cheaply and from anywhere.

``collect_*``, ``on_start``, ``on_end`` and ``on_emit`` run on the application's threads, in its signal
handlers and its finalisers. They take no lock, so they read the fields below as they happen to be.
Each field is one reference or one number that is replaced by one assignment, which the interpreter
does not cut in half; a caller may see the value of a moment ago, and that is harmless:

================= ======================================== =========================================
field             values, and who writes them              what a stale value does
================= ======================================== =========================================
_enabled          False collects nothing. Written by       A record more is collected.
                  ``retire_collector``.
_append_raw       The memory buffer's ``append``, if a     One more record goes into the memory
                  native record may go there as it is: no  buffer raw. The drain empties that buffer
                  journal, no listener, not backlogged.    too if there is a journal, and encodes
                  Else None. Written by                    it; a listener that was just added does
                  ``_refresh_fast_path``, on any thread.   not hear of it.
_journal_direct   The journal, if text may go straight     None: the record goes through ``_append``
                  into it: no listener. Else None.         into the same journal. The journal: a
                  Written by ``CollectorBuffer.attach``    listener that was just added does not
                  and ``_set_listeners``.                  hear of the record.
_backlogged       True while the stream is so far behind   A record is encoded by the thread that
                  that whoever collects encodes. Written   collects it instead of the stream's, or
                  by ``_set_backlogged``, on any thread.   the other way round.
_wake_count       When the stream is woken: at so many     The stream is woken once more or once
                  records in memory or, with a journal,    less: it drains every interval anyway. If
                  when so many were collected. ``_NEVER``  ``_set_wake_count`` overwrites an
                  without a stream, ``_ALWAYS`` while the  ``_ALWAYS``, what threads that run on
                  process exits. Written by ``attach``,    collect after the exit's drain stays in
                  ``write_through``, and                   the journal, for the next process.
                  ``_set_wake_count`` on any thread.
_encode_count     From so many records in memory on, the   None does: ``attach`` is called before
                  collector is backlogged. ``_NEVER``      any provider has the collector.
                  without a stream. Written by ``attach``.
_backlog_count    Until so many were collected, the        Too low: the check is repeated. Too high,
                  memory buffer cannot be full. Written    after its bounds have changed: the buffer
                  by ``_check_backlog`` on any thread;     is checked one buffer of records later.
                  ``_refresh_fast_path`` sets it to
                  ``_ALWAYS``.
================= ======================================== =========================================

``_refresh_fast_path`` is where all of it comes together: whoever changes what ``_append_raw`` depends
on (``_enabled``, ``_journal``, ``_realtime``, ``_backlogged``) calls it afterwards. It has no lock
either, since a signal handler may interrupt it and call it again: it repeats until what it has written
is still right.

A record is encoded, then counted, then appended, in this order: what a signal handler raises while it
is encoded, such as KeyboardInterrupt, is the application's, and costs a record that nobody has counted.
Nothing stands between count and append, so that what is counted is stored or dropped in the end.

Where the application leaves no room on the stack, or in memory, a record is counted as lost, once: ``lost``
is what counts it, and changes when the record is counted as collected, and when it is kept. A ``try``
costs nothing where nothing is raised. What is caught there cannot call anything, not even a function in C,
so it counts by a step of an iteration (see ``Counter.numbers`` and ``StepCounter``).
Before a ``try`` nothing may need memory: unpacking a pair does, until the interpreter has specialised it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from time import time_ns
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
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
    batch_of_raw_records,
    copy_attributes,
    enclose_event,
    enclose_metric,
    encode_raw_record,
    signal_of_raw_record,
    to_event_type,
    to_number,
    to_text,
    try_encode_raw_record,
)
from rimp_otel.collector.context import SPAN_KEY, captured_log, current_context, span_context_of
from rimp_otel.collector.stats import (
    NO_LOSS,
    CollectorStats,
    Losses,
    RecordCounts,
    observe_processor,
)
from rimp_otel.config import TelemetryConfig
from rimp_otel.convert.resources import resource_from_sdk
from rimp_otel.errors import ConfigurationError
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
from rimp_otel.process import Reporter, call_in_forked_child, describe_error, importing

__all__ = [
    "CollectorBuffer",
    "Listener",
    "TelemetryCollector",
    "adopt_resource",
    "append_log_json",
    "counts_of",
    "drop_log_record",
    "expect_captured_logs",
    "forget_open_span",
    "observe_collector",
    "resource_from_config",
    "retire_collector",
]

Listener = Callable[[TelemetryData], object]
"""Called with one record at a time, on the thread that collected it."""

_SPAN, _LOG, _POINT = (SIGNAL_TAGS[signal] for signal in Signal)
_SIGNALS = {tag: signal for signal, tag in SIGNAL_TAGS.items()}
_NEVER, _ALWAYS = sys.maxsize, -1
# What the application leaves no room for: on the stack, or in memory.
_TROUBLE = (RecursionError, MemoryError)
# The stream is far behind when this part of the memory buffer is full.
_BACKLOG_PART = 8


class Stream(Protocol):
    """The stream that drains a collector, as the collector sees it."""

    def wake(self) -> None:
        """Drain soon: the buffer is full. Safe from any thread, signal handler or finaliser."""

    def flush(self) -> TelemetryData:
        """Drain the buffer, and return what was in it."""

    @property
    def held(self) -> int:
        """The number of records that the stream holds in memory."""

    def drain(self, timeout: float, ending: bool = False) -> bool:
        """Drain the buffer; return False if that takes longer than ``timeout`` seconds.

        With ``ending``, a storage that hangs is not waited for again.
        """


class TelemetryCollector(SpanProcessor, LogRecordProcessor):
    """Collects native events and metrics, and the spans and log records of OpenTelemetry's SDK.

    It is a SpanProcessor and a LogRecordProcessor; spans that are not sampled are left out, as the
    specification demands.

    Thread-safe. ``collect_*``, ``on_start``, ``on_end`` and ``on_emit`` take no lock and raise nothing;
    signal handlers and finalisers may call them too, in the middle of another call. ``flush``,
    ``force_flush`` and ``shutdown`` wait, within their time limits. A forked child starts with an empty
    buffer and counts of 0: what waits was collected by the parent, which stores it.

    Args:
        config: how to behave; default: ``TelemetryConfig()``.
        resource: of native records; default: made from the configuration and the environment.
        meter_provider: for the collector's own metrics, as the SDK's processors take it; default: the
            global one.
    """

    def __init__(
        self,
        config: TelemetryConfig | None = None,
        resource: Resource | None = None,
        *,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self.config = config or TelemetryConfig()
        self._resource = None if resource is None else resource_from_sdk(resource)
        self._enabled = self.config.enabled
        # Whether a listener is told of each record.
        self._realtime = False
        # Whether calls of logging are collected without the SDK; see ``expect_captured_logs``.
        self._captures_logging = False
        self._listeners: tuple[Listener, ...] = ()
        self._reporter = Reporter()
        self._stream: Stream | None = None
        self._journal: Journal | None = None
        # The stream counts what it does with the records.
        self._counts = RecordCounts()
        # The fast path: see the table at the top.
        self._append_raw: Callable[[RawRecord], object] | None = None
        self._journal_direct: Journal | None = None
        self._backlogged = False
        self._wake_count = self._encode_count = self._backlog_count = _NEVER
        self._reset()
        call_in_forked_child(self._reset_after_fork)
        observe_collector(self, meter_provider)

    def _reset(self) -> None:
        self._buffer: MemoryBuffer[RawRecord] = MemoryBuffer(
            self._buffer_limit, self._count_overflow
        )
        self._collected = self._counts.collected.numbers
        self._lost_spans = self._counts.lost_spans
        self._lost_logs = self._counts.lost_logs
        self._lost_points = self._counts.lost_points
        # Spans whose end is not recorded, linked: the last one, and those before it.
        self._lost_ends: tuple[ReadableSpan, Any] | None = None
        self._backlogged = False
        # Of ``accept_records``, since the stream was woken; a race costs a wake too many or too few.
        self._accepted = 0
        self._refresh_fast_path()
        self._flushing = threading.RLock()
        self._changing_listeners = threading.RLock()
        self._calling_listeners = threading.local()

    def _reset_after_fork(self) -> None:
        self._counts.reset_after_fork()
        self._reset()
        if self._journal is not None:
            self._journal.reset_after_fork()
            self._set_wake_count(-1)

    @property
    def _buffer_limit(self) -> int:
        """The most records that may wait in memory: more with a stream, which will drain them."""
        size = self.config.buffer_size
        return size if self._stream is None else max(size, self.config.buffer_limit)

    def _refresh_fast_path(self) -> None:
        """Set ``_append_raw`` by what it depends on, and have the buffer looked at soon."""
        while True:
            takes_raw = self._takes_raw_records
            self._append_raw = self._buffer.records.append if takes_raw else None
            self._backlog_count = _ALWAYS
            # Another thread, or a signal handler, may have changed it and refreshed meanwhile.
            if takes_raw == self._takes_raw_records:
                return

    @property
    def _takes_raw_records(self) -> bool:
        return self._enabled and not (self._journal or self._realtime or self._backlogged)

    @property
    def resource(self) -> ResourceInfo:
        """The resource of native records."""
        if self._resource is None:
            self._resource = resource_from_sdk(resource_from_config(self.config)) or ResourceInfo()
        return self._resource

    # Native records.

    def collect_event(
        self,
        source: str,
        message: str,
        event_type: EventType | str | int = EventType.INFO,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Collect an event; inside a span it carries that span's ids.

        Args:
            source: the component that reports it; becomes OTLP's scope name.
            message: what happened.
            event_type: how severe it is: an EventType, a name such as "warn" or "critical", OTLP's
                number, or a level of ``logging`` above 24. Anything else counts as an error.
            metadata: any attributes. Copied: later changes are not seen.
        """
        lost = self._lost_logs[0]
        try:
            if (
                type(source) is not str
                or type(message) is not str
                or type(event_type) is not EventType
            ):
                source, message = to_text(source), to_text(message)
                event_type = to_event_type(event_type)
            span, kind = current_context().get(SPAN_KEY), event_type._value_
            context = None if span is None else span_context_of(span)
            append_raw = self._append_raw
            if append_raw is not None:
                kept = None if metadata is None else copy_attributes(metadata)
                record = (EVENT, time_ns(), source, message, kind, kept, context)
                # Nothing between the two: what is counted is in the buffer.
                lost = self._lost_logs[1]
                for collected in self._collected:
                    break
                append_raw(record)
                lost = NO_LOSS
                if collected >= self._backlog_count:
                    self._check_backlog(collected)
                return
            if not self._enabled:
                return
            now, journal = time_ns(), self._journal_direct
            if journal is None or (metadata is not None and type(metadata) is not dict):
                kept = None if metadata is None else copy_attributes(metadata)
                self._append((EVENT, now, source, message, kind, kept, context), self._lost_logs)
                return
            # Written at once, so that nothing need be copied.
            text = native_event_json(now, message, kind, metadata, context)
            resource = self._resource
            lost = self._lost_logs[1]
            for collected in self._collected:
                break
            if not journal.append_known(_LOG, source, resource, text):
                encoded = enclose_event(now, source, resource, text)
                self._append_first(journal, _LOG, source, resource, None, encoded)
            lost = NO_LOSS
            if collected >= self._wake_count:
                self._wake_stream_again(collected)
        except _TROUBLE as error:
            for _ in lost[error.__class__ is MemoryError]:
                break

    def collect_metric(
        self,
        name: str,
        value: float,
        unit: str = "",
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Collect a measured value; it becomes a gauge's data point.

        Args:
            name: the metric's name.
            value: the measured number. Anything else is dropped, and counted as "invalid_value".
            unit: a UCUM unit, such as ``ms`` or ``By``.
            tags: the point's attributes. Copied: later changes are not seen.
        """
        lost = self._lost_points[0]
        try:
            if not self._enabled:
                return
            if type(value) is not float and type(value) is not int:
                found = to_number(value)
                if found is None:
                    self._counts.reject("invalid_value", Signal.METRICS)
                    return
                value = found
            if type(name) is not str or type(unit) is not str:
                name, unit = to_text(name), "" if unit is None else to_text(unit)
            now, journal = time_ns(), self._journal_direct
            if journal is None or (tags is not None and type(tags) is not dict):
                kept = None if tags is None else copy_attributes(tags)
                self._append((METRIC, now, name, value, unit, kept), self._lost_points)
                return
            key, text, resource = (name, unit), native_metric_json(now, value, tags), self._resource
            lost = self._lost_points[1]
            for collected in self._collected:
                break
            if not journal.append_known(_POINT, key, resource, text):
                encoded = enclose_metric(now, name, unit, resource, text)
                self._append_first(journal, _POINT, key, resource, None, encoded)
            lost = NO_LOSS
            if collected >= self._wake_count:
                self._wake_stream_again(collected)
        except _TROUBLE as error:
            for _ in lost[error.__class__ is MemoryError]:
                break

    # The SDK's records.

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Record that a span has started, in case the process dies before its end.

        Called by the SDK.
        """
        try:
            journal = self._journal
            if journal is not None and self._enabled and is_sampled(span):
                journal.add_open_span(span)
        except _TROUBLE:
            pass  # if the process dies before its end, that is not known

    def on_end(self, span: ReadableSpan) -> None:
        """Collect a span that has ended. Called by the SDK."""
        lost = self._lost_spans[0]
        try:
            if not self._enabled or not is_sampled(span):
                return
            journal = self._journal_direct
            if journal is None:
                self._append_span(span)
                return
            try:
                text = span_json(span)
                resource, scope = span.resource, span.instrumentation_scope
            except Exception:  # one bad record costs one record
                self._append_span(span)
                return
            lost = self._lost_spans[1]
            for collected in self._collected:
                break
            if not journal.append_span(span, resource, scope, text):
                key = journal.mark_span_ending(span)
                encoded = encode_span(span, text)
                self._append_first(journal, _SPAN, id(scope), resource, scope, encoded)
                lost = NO_LOSS
                journal.mark_span_recorded(key)
            lost = NO_LOSS
            if collected >= self._wake_count:
                self._wake_stream_again(collected)
        except _TROUBLE as error:
            for _ in lost[error.__class__ is MemoryError]:
                break
            if lost is not NO_LOSS:
                try:
                    self._lost_ends = span, self._lost_ends
                except MemoryError:
                    pass

    def on_emit(self, log_record: Any) -> None:
        """Collect a log record; it is encoded now, since it may change later. Called by the SDK."""
        lost = self._lost_logs[0]
        try:
            if not self._enabled:
                return
            try:
                if self._captures_logging and _is_captured(log_record):
                    return  # the same call of logging, by way of a handler of the application's
                text = log_record_json(log_record)
                resource, scope = log_record.resource, log_record.instrumentation_scope
            except _TROUBLE:
                raise
            except Exception:
                self._counts.reject("encoding", Signal.LOGS)
                return
            self._append_log(log_record_time(log_record), text, resource, scope)
        except _TROUBLE as error:
            for _ in lost[error.__class__ is MemoryError]:
                break

    # Records of other programs.

    def accept_records(self, signal: Signal, records: Sequence[EncodedRecord]) -> bool:
        """Collect records that another program has made, all of them or none.

        Unlike ``collect_*`` it may wait for another thread that opens the journal; no signal handler
        or finaliser may call it.

        Args:
            signal: of all of them.
            records: as they will be stored; what they belong to stays as it is.

        Returns:
            True once all of them are in the journal; without one, in the buffer in memory. False if
            there is no room or no journal now: then none is kept, and none is counted as collected.
        """
        if not self._enabled:
            return False
        journal, number = self._journal, len(records)
        # Before they can be stored: what is pending is never less than nothing.
        self._counts.accept(number)
        is_in = False
        try:
            if journal is None:
                is_in = self._buffer_all(signal, records)
            else:
                is_in = journal.append_all(SIGNAL_TAGS[signal], records)
        except Exception as error:
            self._reporter.warn("accept", f"records are refused: {describe_error(error)}")
        finally:
            if not is_in:
                self._counts.accept(-number)
        self._accepted = 0 if not is_in else self._accepted + number
        if not is_in or self._accepted >= self.config.buffer_size:
            self._accepted = 0
            self._wake_stream(0 if journal is not None else len(self._buffer))
        if is_in and self._realtime:
            for record in records:
                self._call_listeners((ENCODED, signal, record))
        return is_in

    def _buffer_all(self, signal: Signal, records: Sequence[EncodedRecord]) -> bool:
        if len(self._buffer) + len(records) > self._buffer.limit:
            return False
        self._buffer.records.extend([(ENCODED, signal, record) for record in records])
        return True

    # From here to the buffer or the journal.

    # These raise RecursionError and MemoryError only while the record is not counted yet; ``_append_first``
    # and ``_keep_refused``, while it is neither kept nor dropped.

    def _append_log(self, time: int, text: str, resource: object, scope: object) -> None:
        journal = self._journal_direct
        if journal is None:
            encoded = enclose_log_record(time, text, resource, scope)
            self._append((ENCODED, Signal.LOGS, encoded), self._lost_logs)
            return
        lost = self._lost_logs[1]
        try:
            for collected in self._collected:
                break
            if not journal.append_known(_LOG, id(scope), resource, text):
                encoded = enclose_log_record(time, text, resource, scope)
                self._append_first(journal, _LOG, id(scope), resource, scope, encoded)
            lost = NO_LOSS
            if collected >= self._wake_count:
                self._wake_stream_again(collected)
        except _TROUBLE as error:
            for _ in lost[error.__class__ is MemoryError]:
                break

    def _append_span(self, span: ReadableSpan) -> None:
        journal = self._journal
        key = None if journal is None else journal.mark_span_ending(span)
        self._append(span, self._lost_spans)
        if journal is not None:
            try:
                journal.mark_span_recorded(key)
            except _TROUBLE:
                try:
                    self._lost_ends = span, self._lost_ends
                except MemoryError:
                    pass

    def _append_first(
        self,
        journal: Journal,
        tag: str,
        key: Hashable,
        resource: object,
        owner: object,
        encoded: EncodedRecord,
    ) -> None:
        """Append the first record of its resource and scope in a segment, and whatever else
        ``append_known`` does not take."""
        if not journal.append(tag, encoded):
            self._keep_refused(journal, (ENCODED, _SIGNALS[tag], encoded))
            return
        try:
            journal.learn_head(tag, key, resource, owner, encoded)
        except _TROUBLE:
            pass  # the next one is

    def _append(self, record: RawRecord, losses: Losses) -> None:
        """Append a record on any path but the fast ones."""
        journal = self._journal
        if journal is not None:
            try:
                encoded = encode_raw_record(record, self.resource)
            except _TROUBLE:
                raise
            except Exception:  # one bad record costs one record
                self._counts.reject("encoding", signal_of_raw_record(record))
                return
            tag = _tag_of_raw_record(record)
            kept: RawRecord = (ENCODED, signal_of_raw_record(record), encoded)
        else:
            kept = try_encode_raw_record(record, self.resource) if self._backlogged else record
        lost = losses[1]
        try:
            for collected in self._collected:
                break
            if journal is not None:
                if not journal.append(tag, encoded):
                    self._keep_refused(journal, kept)
                lost = NO_LOSS
                if collected >= self._wake_count:
                    self._wake_stream_again(collected)
            else:
                waiting = self._buffer.append(kept)
                lost = NO_LOSS
                if waiting >= self._wake_count:
                    self._wake_stream(waiting)
            if self._realtime:
                self._call_listeners(record)
        except _TROUBLE as error:
            for _ in lost[error.__class__ is MemoryError]:
                break

    def _keep_refused(self, journal: Journal, record: RawRecord) -> None:
        """Drop a record that the journal is too full for; keep one that it cannot write in memory."""
        if journal.is_full:
            self._counts.drop("journal_full", signal_of_raw_record(record))
            waiting = self.config.buffer_size
        else:
            waiting = self._buffer.append(record)
        try:
            journal.note_in_memory(self._in_memory)
            if waiting >= self.config.buffer_size:
                self._wake_stream(0)
        except _TROUBLE:
            pass  # the next one does it

    def _count_overflow(self, record: RawRecord) -> None:
        self._counts.drop("buffer_full", signal_of_raw_record(record))

    # Waking the stream.

    def _wake_stream(self, waiting: int) -> None:
        # From here on whoever collects also encodes: several busy threads leave the stream's one
        # too little of the interpreter to do that for all of them.
        self._set_backlogged(waiting)
        stream = self._stream
        if stream is not None:
            stream.wake()

    def _wake_stream_again(self, collected: int) -> None:
        self._set_wake_count(collected)
        self._wake_stream(0)

    def _set_wake_count(self, collected: int) -> None:
        """Have the stream woken when one more buffer of records has been collected.

        Args:
            collected: the count before the last record that is not to be counted, which is what
                each record's is compared with.
        """
        if self._wake_count != _ALWAYS:
            self._wake_count = collected + self.config.buffer_size

    def _set_backlogged(self, waiting: int) -> None:
        backlogged = waiting >= self._encode_count
        if backlogged is not self._backlogged:
            self._backlogged = backlogged
            self._refresh_fast_path()

    def _check_backlog(self, collected: int) -> None:
        """Act on a memory buffer that is full, and compute the record count at which it can be full
        again at the earliest."""
        waiting = len(self._buffer)
        if waiting > self._buffer.limit:
            self._buffer.drop_oldest()
        if waiting >= self._wake_count:
            self._wake_stream(waiting)
        room = min(self._buffer.limit + 1, self._wake_count) - waiting
        self._backlog_count = collected + room if room > 0 else _ALWAYS

    # Listeners.

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener`` with each record as it is collected; only with ``realtime_mode``."""
        if self._enabled and not self.config.realtime_mode:
            self._reporter.warn(
                "realtime",
                "a listener is not called unless the configuration has realtime_mode=True",
            )
        load_decoding()
        with self._changing_listeners:
            self._set_listeners((*self._listeners, listener))

    def remove_listener(self, listener: Listener) -> None:
        """Stop calling ``listener``. A listener that was never added is ignored."""
        with self._changing_listeners:
            kept = list(self._listeners)
            if listener in kept:
                kept.remove(listener)
            self._set_listeners(tuple(kept))

    def _set_listeners(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        self._realtime = self.config.realtime_mode and bool(listeners)
        self._load_resource()
        self._journal_direct = None if self._realtime else self._journal
        self._refresh_fast_path()

    def _call_listeners(self, record: RawRecord) -> None:
        if getattr(self._calling_listeners, "now", False):
            return  # a listener that collects does not call the listeners
        self._calling_listeners.now = True
        try:
            data = batch_of_raw_records([record], self.resource)
            for listener in self._listeners:
                try:
                    listener(share_batch(data))
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # even SystemExit
                    self._counts.listener_errors.add_one()
                    self._report_listener(listener, error)
        finally:
            self._calling_listeners.now = False

    def _report_listener(self, listener: Listener, error: BaseException) -> None:
        self._counts.last_listener_error = found = describe_error(error)
        name = getattr(listener, "__qualname__", None) or type(listener).__qualname__
        self._reporter.warn(f"listener {name}", f"the listener {name} raised {found}")

    def _load_resource(self) -> None:
        # Early: the SDK starts threads for it, which a signal handler and the interpreter's exit
        # cannot.
        if self._enabled:
            _ = self.resource

    # Draining, through the stream that is attached.

    def flush(self) -> TelemetryData:
        """Empty the buffer, and return what was in it.

        With a stream attached, it has been stored and given to the consumers when this returns, if
        that takes no longer than ``flush_timeout``. Without one, it is only returned.
        """
        if self._stream is not None:
            return self._stream.flush()
        with self._flushing:
            records = self._buffer.drain(len(self._buffer))
            data = batch_of_raw_records(records, self.resource)
            self._counts.store(data)
        return data

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Store all that was collected; return False if that takes longer. Called by the SDK."""
        return self._stream is None or self._stream.drain(timeout_millis / 1_000)

    def shutdown(self) -> None:
        """Store all that was collected, within ``flush_timeout``. Called by the SDK.

        Records that still arrive afterwards are collected too.
        """
        if self._stream is not None:
            self._stream.drain(self.config.flush_timeout, ending=True)

    def stats(self) -> CollectorStats:
        """Return the counts of records up to now."""
        in_memory, stats = self._in_memory, self._counts.stats()
        if self._journal is None:
            return stats._replace(in_memory=stats.pending)
        return stats._replace(in_memory=min(in_memory, stats.pending))

    @property
    def _in_memory(self) -> int:
        """The number of records that wait in memory."""
        stream = self._stream
        return len(self._buffer) + (0 if stream is None else stream.held)


# What the other parts of the package do with a collector, and users do not.


class CollectorBuffer:
    """A collector's buffer as the stream sees it that drains it; one stream, on one thread at a time.

    Args:
        collector: whose buffer it is.
    """

    def __init__(self, collector: TelemetryCollector) -> None:
        self._collector = collector
        #: What becomes of the records: the stream counts what it stores and drops.
        self.counts = collector._counts

    def attach(self, stream: Stream, journal: Journal | None = None) -> None:
        """Let ``stream`` drain the collector from now on; records go into ``journal``, if given.

        Raises:
            ConfigurationError: the collector has a stream already.
        """
        collector = self._collector
        with collector._changing_listeners:
            if collector._stream is not None:
                raise ConfigurationError(
                    "the collector has a stream already: use that one, or make another collector"
                )
            collector._stream = stream
        collector._load_resource()
        collector._journal = journal
        collector._journal_direct = None if collector._realtime else journal
        size = collector._wake_count = collector.config.buffer_size
        if journal is not None:
            collector._set_wake_count(-1)
        limit = collector._buffer.limit = collector._buffer_limit
        collector._encode_count = max(size, limit // _BACKLOG_PART)
        collector._refresh_fast_path()

    def wake_at_next_record(self) -> None:
        """Wake the stream for the next record, whatever there is in the buffer."""
        self._collector._wake_count = 0
        self._collector._refresh_fast_path()

    def wake_when_full(self) -> None:
        """Wake the stream when the buffer is full, as usual."""
        collector = self._collector
        if collector._journal is not None:
            self.rearm()
        elif collector._wake_count != _ALWAYS:
            collector._wake_count = collector.config.buffer_size

    def write_through(self) -> None:
        """Wake the stream for every record from now on: the interpreter is about to exit."""
        self._collector._wake_count = _ALWAYS
        self._collector._refresh_fast_path()

    @property
    def waiting(self) -> int:
        """The number of records that wait in memory."""
        return len(self._collector._buffer)

    def take(self, most: int) -> TelemetryData:
        """Remove the oldest ``most`` records from memory, and return them."""
        collector = self._collector
        records = collector._buffer.drain(most)
        collector._set_backlogged(len(collector._buffer))
        return batch_of_raw_records(records, collector.resource)

    def rearm(self) -> None:
        """Note that the journal is drained: the stream is to be woken when it is full again."""
        collector = self._collector
        collector._set_wake_count(self.counts.collected.value - 1)
        lost, collector._lost_ends = collector._lost_ends, None
        while lost is not None:
            span, lost = lost
            forget_open_span(collector, span)


def append_log_json(
    collector: TelemetryCollector, time_unix_nano: int, text: str, resource: object, scope: object
) -> None:
    """Collect a log record that is encoded already.

    Args:
        collector: where to.
        time_unix_nano: when it happened.
        text: its JSON object.
        resource, scope: the SDK's; they may not change.
    """
    if collector._enabled:
        collector._append_log(time_unix_nano, text, resource, scope)


def expect_captured_logs(collector: TelemetryCollector) -> None:
    """Have the collector look out for log records of the SDK that ``append_log_json`` had already."""
    collector._captures_logging = True


def counts_of(collector: TelemetryCollector) -> RecordCounts:
    """Return the counts of a collector's records."""
    return collector._counts


def drop_log_record(collector: TelemetryCollector, reason: str) -> None:
    """Count a log record that cannot be collected."""
    collector._counts.reject(reason, Signal.LOGS)


def forget_open_span(collector: TelemetryCollector, span: Any) -> None:
    """Have a span that has started, and will not be ended, not come back as an interrupted one."""
    journal = collector._journal
    if journal is not None:
        journal.mark_span_recorded(journal.mark_span_ending(span))


def retire_collector(collector: TelemetryCollector) -> None:
    """Have a collector, which providers may hold on to, collect nothing more."""
    collector._enabled = False
    collector._refresh_fast_path()


def adopt_resource(collector: TelemetryCollector, resource: Resource) -> None:
    """Make ``resource`` that of native records, from the next one on."""
    collector._resource = resource_from_sdk(resource) or ResourceInfo()


def observe_collector(
    collector: TelemetryCollector, meter_provider: MeterProvider | None = None
) -> None:
    """Record the SDK's self-observability metrics of a collector, if they are switched on."""
    observe_processor(
        collector, collector._counts, _pending_of, _capacity_of, _in_memory_of, meter_provider
    )


_UNKNOWN_SERVICE = "unknown_service"


def resource_from_config(config: TelemetryConfig) -> Resource:
    """Return the SDK's resource, with what the configuration adds to it."""
    attributes = dict(config.resource_attributes)
    if config.service_name:
        attributes["service.name"] = config.service_name
    resource = Resource.create(attributes)
    if str(resource.attributes.get("service.name")).startswith(_UNKNOWN_SERVICE):
        # Nobody has named it, so the SDK has.
        with importing():
            from rimp_otel.collector.service_name import name_of_process
        name = name_of_process()
        if name:
            return resource.merge(Resource({"service.name": name}))
    return resource


def _is_captured(log_record: Any) -> bool:
    """Return True if this thread is handing a captured record to its handlers, and it is this one."""
    captured = captured_log.time
    return captured is not None and captured == log_record.log_record.timestamp


def _pending_of(collector: TelemetryCollector) -> int:
    """Return the number of records in the buffer, in memory or in the journal."""
    is_in_memory = collector._journal is None
    return len(collector._buffer) if is_in_memory else collector.stats().pending


def _in_memory_of(collector: TelemetryCollector) -> int:
    return collector.stats().in_memory


def _capacity_of(collector: TelemetryCollector) -> int | None:
    """Return the number of records the buffer can hold; None for a journal, bounded in bytes."""
    return collector._buffer.limit if collector._journal is None else None


def _tag_of_raw_record(record: RawRecord) -> str:
    """Return the tag of its signal in the journal; told apart as ``encode_raw_record`` does."""
    if type(record) is not tuple:
        return _SPAN
    if record[0] == METRIC:
        return _POINT
    return _LOG if record[0] == EVENT or record[1] is Signal.LOGS else SIGNAL_TAGS[record[1]]
