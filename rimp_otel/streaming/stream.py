"""The stream: moves records from the collector into the storage, and on to the consumers."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricReader, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation

import rimp_otel.storage as storages
from rimp_otel.batch import TelemetryData, load_decoding, share_batch
from rimp_otel.collector.collector import CollectorBuffer, TelemetryCollector
from rimp_otel.config import DEFAULT_PATHS, JournalPlace, TelemetryConfig, settings_without_effect
from rimp_otel.errors import ConfigurationError
from rimp_otel.journal.journal import Journal
from rimp_otel.process import AtExit, Reporter, call_in_forked_child, importing
from rimp_otel.storage.base import TelemetryStorage
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.streaming.drain import Drain
from rimp_otel.streaming.journal_drain import JournalDrain
from rimp_otel.streaming.measurements import Measurements, renew_instrument_locks
from rimp_otel.streaming.worker import Consumer, ConsumerFunction, ConsumerStats, Task, Worker

__all__ = ["StreamStats", "TelemetryStream", "storage_for"]


# One over the part of the time that collections for the checkpoint take at most.
_COLLECTING_PART = 10
# Seconds. Waiting for longer raises OverflowError.
_MAX_WAIT = threading.TIMEOUT_MAX / 2


class StreamStats(NamedTuple):
    """Exact counts of a stream."""

    #: Calls of ``store`` that succeeded.
    batches_stored: int
    #: Calls of ``store`` that raised.
    store_errors: int
    #: Collections of OpenTelemetry's instruments that raised.
    metric_errors: int
    #: The consumers' counts, in the order in which they were added.
    consumers: tuple[ConsumerStats, ...]
    #: Segments and tables of open spans of dead processes that were damaged, and are in quarantine.
    damaged: int = 0


def storage_for(config: TelemetryConfig) -> TelemetryStorage:
    """Return the storage that a configuration names."""
    if config.storage_backend == "file":
        return FileStorage.from_config(config)
    if config.storage_backend == "sqlite":
        return storages.SQLiteStorage.from_config(config)
    if config.storage_backend == "clickhouse":
        return storages.ClickHouseStorage.from_config(config)
    return storages.MemoryStorage(config.memory_max_records, config.memory_max_bytes)


class TelemetryStream(MetricReader):
    """Drains a collector into a storage, and hands what was stored to the consumers.

    One background thread serves all three signals: it drains every ``flush_interval``, and when
    the buffer is full. As a MetricReader it has OpenTelemetry's instruments collected every
    ``metric_interval``, on another thread, since their callbacks are foreign code; and in between
    every ``metric_checkpoint_interval``, only to keep in the journal what a death of the process
    would lose (points of delta temporality are stored then, too). A batch is stored first, then offered to the consumers. What a storage refuses stays and is offered again, with
    growing pauses; what then finds no room in the buffer is dropped and counted.

    Nothing that hangs (a storage, a consumer) makes ``stop``, ``force_flush``, ``shutdown`` or
    ``flush`` miss its deadline. A stream that was never started, or was stopped, still stores what
    ``flush`` finds; at the interpreter's exit every stream stores what is left.

    Thread-safe: all methods may be called from any thread, also by a consumer or by the storage
    itself, which then wait for nothing that waits for them; none from a signal handler or finaliser.
    Of a ``start`` and a ``stop`` at the same time, the one that begins last wins. A forked child has
    a stream of its own, with empty queues; its thread starts with its first record, or at the fork if
    it collects instruments, and never waits for that.

    Args:
        collector: what to drain; a collector has one stream. A MeterProvider that is given the
            stream as its reader starts it.
        storage: where to store; by default, the storage that the collector's configuration names.
        interval: seconds between two drains; by default, the configuration's ``flush_interval``.
        preferred_temporality, preferred_aggregation: as for every MetricReader.

    Raises:
        ConfigurationError: the collector has a stream already, or ``interval`` is not allowed.
    """

    def __init__(
        self,
        collector: TelemetryCollector,
        storage: TelemetryStorage | None = None,
        interval: float | None = None,
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Aggregation] | None = None,
    ) -> None:
        super().__init__(
            preferred_temporality=preferred_temporality,
            preferred_aggregation=preferred_aggregation,
        )
        self._preferences: dict[str, Any] = {
            "preferred_temporality": preferred_temporality,
            "preferred_aggregation": preferred_aggregation,
        }
        self._further_readers: tuple[MetricReader, ...] = ()
        config = collector.config
        self.collector = collector
        self.storage = storage_for(config) if storage is None else storage
        self.interval = _check_interval(config.flush_interval if interval is None else interval)
        self._metric_interval = config.metric_interval
        self._timeout = config.flush_timeout
        self._consumers: tuple[Consumer, ...] = ()
        self._metric_errors = 0
        self._checkpoint_interval = config.metric_checkpoint_interval or math.inf
        self._metrics_due = time.monotonic() + self._metric_interval
        self._checkpoint_due = time.monotonic() + self._checkpoint_interval
        self._drain_due = 0.0
        self._metrics_ended = False
        self._collecting: Task | None = None
        self._exiting = False
        # True if the storage stored nothing while it was waited for the last time.
        self._hangs = False
        self._wants_thread = False
        # True in a forked child until its first record.
        self._lacks_thread = False
        self._reporter = Reporter()
        self._buffer = CollectorBuffer(collector)
        self._drain = self._make_drain()
        self._warn_of_settings(makes_storage=storage is None)
        self._keeps_checkpoints = (
            self._drain.keeps_checkpoints and self._checkpoint_interval < self._metric_interval
        )
        self._measurements: dict[MetricReader, Measurements] = {}
        self._measuring = threading.Lock()
        # Held while the threads that run, or the consumers, change; never while something is stored.
        self._changing = threading.RLock()
        # Of the thread that collects: whether this is not a regular collection, and whether it has
        # brought anything.
        self._collection = threading.local()
        self._worker = Worker(self._tick, "rimp-stream")
        self._companions = _companions_for(config) if storage is None else []
        call_in_forked_child(self._reset_after_fork)
        call_in_forked_child(self._start_after_fork, last=True)
        self._exit = AtExit(self._at_exit)
        if not config.enabled:
            self._exit.release()

    def _make_drain(self) -> Drain:
        """Attach this stream to the collector; let it buffer in a journal if the storage has a place
        for one."""
        buffer, config, reporter = self._buffer, self.collector.config, self._reporter
        target = self.storage.journal_target(config.journal_path) if config.journal else None
        if target is None:
            buffer.attach(_StreamHooks(self))
            return Drain(buffer, self.storage, buffer.counts, self._offer, reporter)
        journal = Journal(
            target,
            config.journal_size,
            reporter,
            open_spans=config.record_open_spans,
            crashes=config.record_crashes,
        )
        buffer.attach(_StreamHooks(self), journal)
        return JournalDrain(
            journal,
            target,
            buffer.counts,
            self._offer,
            reporter,
            buffer=buffer,
            storage=self.storage,
            sync_after={"always": 0.0, "interval": config.sync_interval}.get(config.sync),
        )

    def _warn_of_settings(self, makes_storage: bool) -> None:
        if not isinstance(self._drain, JournalDrain):
            place = JournalPlace.NONE
        elif self.storage._has_place_for_journals:
            place = JournalPlace.OWN
        else:
            place = JournalPlace.CONFIGURED
        kind = type(self.storage).__name__
        for number, sentence in enumerate(
            settings_without_effect(self.collector.config, kind, makes_storage, place)
        ):
            self._reporter.warn(f"settings {number}", sentence)

    def _set_collect_callback(self, func: Any) -> None:  # type: ignore[misc]
        """Start, since a MeterProvider has registered this reader. Called by the SDK."""
        super()._set_collect_callback(func)
        self.start()

    def start(self) -> None:
        """Start the background thread, if none runs. Does nothing if telemetry is disabled."""
        if self.collector.config.enabled:
            self._drain.recover()
            with self._changing:
                self._wants_thread, self._lacks_thread = True, False
                self._worker.start()
                # Now, since at its exit the interpreter starts no thread any more.
                for consumer in self._consumers:
                    consumer.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Store what there is, let the consumers finish, and end the thread.

        Args:
            timeout: seconds this may take; by default, the configuration's ``flush_timeout``.

        Returns:
            True if all of it was done in that time.
        """
        deadline = self._deadline(timeout)
        with self._changing:
            self._lacks_thread = False
            self._wants_thread = False  # nor collects the instruments again, once this has done so
        done = self._flush_all(deadline, ending=True)
        with self._changing:
            if self._wants_thread:
                return done  # started again meanwhile, by another thread
            self._worker.end()
            for consumer in self._consumers:
                consumer.close()
            self._exit.release()
        has_ended = self._worker.join(deadline)
        for companion in self._companions:
            companion.stop(max(0.0, deadline - time.monotonic()))
        return has_ended and done

    def __enter__(self) -> TelemetryStream:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def add_consumer(self, consumer: ConsumerFunction) -> None:
        """Hand ``consumer`` every batch that is stored from now on, on a thread of its own."""
        load_decoding()
        size = self.collector.config.consumer_queue_size
        entry = Consumer(consumer, size, self._reporter)
        with self._changing:
            self._consumers = (*self._consumers, entry)
            if self._wants_thread:
                entry.start()

    def remove_consumer(self, consumer: ConsumerFunction) -> None:
        """Offer ``consumer`` no more batches; it still gets those in its queue.

        A consumer that was never added is ignored.
        """
        with self._changing:
            for entry in self._consumers:
                if entry.function == consumer:
                    self._consumers = tuple(kept for kept in self._consumers if kept is not entry)
                    entry.close()
                    return

    def flush(self) -> TelemetryData:
        """Store what is in the buffer, and wait until the consumers have handled it.

        Returns:
            What was in the buffer; less, if not all could be stored within ``flush_timeout``.
        """
        batches: list[TelemetryData] = []
        deadline = self._deadline(None)
        self._perform(lambda: self._drain.run(batches), deadline)
        self._wait_for_consumers(deadline)
        return TelemetryData.concat(batches)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect OpenTelemetry's instruments, and store all there is.

        Returns:
            True if that was done in time, and the storage took all of it.
        """
        return self._flush_all(self._deadline(timeout_millis / 1_000), ending=False)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Collect OpenTelemetry's instruments for the last time, and store all there is.

        Called by the MeterProvider. Spans, log records and native records that still arrive are
        stored on: only ``stop`` and the interpreter's exit end the thread. It waits no longer than
        ``flush_timeout``, and not at all for a storage that hangs and has been waited for before.
        """
        if not self._metrics_ended:
            timeout = 0.0 if self._hangs else min(timeout_millis / 1_000, self._timeout)
            self._flush_all(self._deadline(timeout), ending=False)
            self._metrics_ended = True

    def stats(self) -> StreamStats:
        """Return what has been counted up to now."""
        consumers = tuple(consumer.stats() for consumer in self._consumers)
        drain = self._drain
        return StreamStats(
            drain.batches, drain.errors, self._metric_errors, consumers, drain.damaged
        )

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        self._receive(self, metrics_data)

    def _receive(self, reader: MetricReader, metrics_data: MetricsData) -> None:
        self._collection.is_empty = False
        if not self.collector.config.enabled:
            return
        if self._keeps_checkpoints:
            self._take_measurements(reader, metrics_data)
        elif data := TelemetryData.from_metrics_data(metrics_data):
            self._drain.accept_points(data)
            self._worker.wake()

    def _take_measurements(self, reader: MetricReader, metrics_data: MetricsData | None) -> None:
        """Store a regular collection, and the deltas of any; keep the rest in the checkpoint."""
        is_regular = not getattr(self._collection, "is_between", False)
        with self._measuring:
            found = self._measurements.setdefault(reader, Measurements())
            if is_regular:
                points, failed = found.collect(metrics_data, time.time_ns())
            elif metrics_data is not None:
                points, failed = found.note(metrics_data)
            else:
                return
            if points or failed:
                is_safe = self._drain.accept_encoded_points(points, failed)
                if is_regular and is_safe:
                    found.mark_stored()
            self._keep_measurements()
        if points:
            self._worker.wake()

    def _keep_measurements(self) -> None:
        everything = list(self._measurements.values())
        # Not once the stream is told to stop, which stores what is kept: this may be after that.
        wants_any = self._wants_thread or not any(found.unstored for found in everything)
        if wants_any and any(found.is_changed for found in everything):
            unstored = [record for found in everything for record in found.unstored]
            if self._drain.checkpoint(unstored):
                for found in everything:
                    found.is_changed = False

    def _store_kept_measurements(self, deadline: float) -> None:
        """Store what is only kept in the checkpoint, where the last collection did not bring it."""
        if not self._measuring.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return
        try:
            for found in self._measurements.values():
                points = found.collect_kept(time.time_ns())
                if points and self._drain.accept_encoded_points(points):
                    found.mark_stored()
            self._keep_measurements()
        finally:
            self._measuring.release()

    def _tick(self) -> float:
        _load_modules()
        now = time.monotonic()
        if self._wants_thread and now >= self._metrics_due:
            self._metrics_due = now + self._metric_interval
            self._checkpoint_due = now + self._checkpoint_interval
            self._begin_collecting()
        elif self._wants_checkpoints and now >= self._checkpoint_due:
            self._checkpoint_due = now + self._checkpoint_interval
            self._begin_collecting(self._collect_between)
        if self._worker.was_woken or now >= self._drain_due:
            self._drain.run_when_due()
            self._drain_due = time.monotonic() + self.interval
        if self._wants_thread:
            for companion in self._companions:
                companion.run()
        due = [self._drain_due]
        if self._wants_thread:
            due.append(self._metrics_due)
        if self._wants_checkpoints:
            due.append(self._checkpoint_due)
        return max(0.0, min(due) - time.monotonic())

    @property
    def _wants_checkpoints(self) -> bool:
        return self._keeps_checkpoints and self._wants_thread and self._collect is not None

    def _begin_collecting(self, collect: Callable[[], None] | None = None) -> Task | None:
        """Collect the instruments on a thread of its own, unless that is being done.

        An observable instrument's callback may hang.
        """
        if self._collect is None or self._metrics_ended:
            return None
        if self._collecting is None or self._collecting.done.is_set():
            self._collecting = self._worker.run_aside(collect or self._collect_metrics)
        return self._collecting

    def _collect_metrics(self) -> None:
        try:
            for reader in (self, *self._further_readers):
                self._collection.is_empty = True
                reader.collect(timeout_millis=self._timeout * 1_000)
                if self._keeps_checkpoints and self._collection.is_empty:
                    self._take_measurements(reader, None)
        except Exception as error:
            self._metric_errors += 1
            self._reporter.warn("metrics", f"metrics could not be collected: {error!r}")

    def _collect_between(self) -> None:
        """Collect the instruments for the checkpoint alone."""
        began = time.monotonic()
        self._collection.is_between = True
        try:
            self._collect_metrics()
        finally:
            self._collection.is_between = False
            # Where it takes long, for the number of series or for callbacks, it must not take all.
            pause = _COLLECTING_PART * (time.monotonic() - began)
            self._checkpoint_due = max(self._checkpoint_due, began + pause)

    def _finish_collecting(self, deadline: float) -> bool:
        """Have all that was measured up to now collected; return False if that takes longer."""
        running = self._collecting
        if running is not None and not running.wait(deadline):
            return False
        collecting = self._begin_collecting()
        return collecting is None or collecting.wait(deadline)

    def _flush_all(self, deadline: float, ending: bool) -> bool:
        def flush() -> bool:
            self._drain.run()  # at once, whatever the instruments' callbacks do
            collected = self._finish_collecting(deadline)
            if ending:
                self._store_kept_measurements(deadline)
            stored = self._drain.run()
            if ending:
                self._drain.close()
            return collected and stored

        return self._perform(flush, deadline) and self._wait_for_consumers(deadline)

    def _perform(self, function: Callable[[], bool], deadline: float) -> bool:
        if not self.collector.config.enabled:
            return True  # there is nothing to store, and no thread to be started for it
        batches = self._drain.batches
        finished: list[bool] = []

        def watched() -> bool:
            stored = function()
            finished.append(stored)
            self._hangs = False
            return stored

        done, stored = self._worker.perform(watched, deadline)
        self._hangs = not finished and self._drain.batches == batches
        return bool(done and stored)

    def _offer(self, data: TelemetryData) -> None:
        for consumer in self._consumers:
            consumer.offer(share_batch(data))

    def _wait_for_consumers(self, deadline: float) -> bool:
        consumers = self._consumers
        if self._worker.is_current or any(consumer.is_current for consumer in consumers):
            return True  # a storage or a consumer that flushes: others may wait for it
        waited = [consumer.wait(deadline) for consumer in consumers]
        return all(waited)

    def _deadline(self, timeout: float | None) -> float:
        timeout = self._timeout if timeout is None else timeout
        return time.monotonic() + min(max(0.0, timeout), _MAX_WAIT)

    def _at_exit(self) -> None:
        self._exiting = True
        self._buffer.write_through()
        # The providers have waited for a storage that hangs, each on its own.
        self.stop(0.0 if self._hangs else None)
        self._drain.report_unstored()

    def _reset_after_fork(self) -> None:
        """Forget in a forked child the thread and what it was doing, which are the parent's."""
        self._reporter = Reporter()
        self._drain.reset_after_fork()
        self._worker.reset_after_fork()
        self._collecting = None
        self._changing = threading.RLock()
        self._measuring = threading.Lock()
        # The callback that the SDK gives to its readers is a method of what all measurements go through.
        renew_instrument_locks(getattr(self._collect, "__self__", None))
        for found in self._measurements.values():
            found.reset_after_fork()
        for consumer in self._consumers:
            consumer.reset_after_fork()

    def _start_after_fork(self) -> None:
        self._lacks_thread = self._wants_thread
        if not self._wants_thread:
            return
        if self._collect is not None:
            # What the instruments measure is no record that could start it.
            self._start_in_child()
        else:
            self._buffer.wake_at_next_record()

    def _start_in_child(self) -> None:
        """Start the thread of a forked child. Safe in a signal handler; waits for nothing."""
        if self._worker.start_unawaited():
            self._lacks_thread = False
            self._buffer.wake_when_full()


def _load_modules() -> None:
    """Import, on the stream's thread and as its first act, what draining needs but recording does
    not: later, a child that is forked or an exit might meet an import half done."""
    with importing():
        import hashlib  # noqa: F401


class _StreamHooks:
    """The methods that the collector calls on its stream; users of the stream do not see them."""

    def __init__(self, stream: TelemetryStream) -> None:
        self._stream = stream

    def wake(self) -> None:
        """Make the thread drain now. Safe from any thread, signal handler or finaliser."""
        stream = self._stream
        if stream._exiting and not stream._worker.is_running:
            stream._drain.run_if_free()
        elif stream._lacks_thread:
            stream._start_in_child()
        else:
            stream._worker.wake()

    @property
    def held(self) -> int:
        """The number of records that the stream has taken from the buffer, and not stored yet."""
        return self._stream._drain.held

    def flush(self) -> TelemetryData:
        """Store what is in the buffer, and return it."""
        return self._stream.flush()

    def drain(self, timeout: float, ending: bool = False) -> bool:
        """Store what is in the buffer, and let the consumers handle it.

        Args:
            timeout: seconds this may take.
            ending: do not wait for a storage that hangs, if it has been waited for before.

        Returns:
            True if that was done in time, and the storage took all of it.
        """
        stream = self._stream
        deadline = stream._deadline(0.0 if ending and stream._hangs else timeout)
        stored = stream._perform(stream._drain.run, deadline)
        return stored and stream._wait_for_consumers(deadline)


class _Companion(Protocol):
    """What works on a recording beside its stream, once its thread runs."""

    def run(self) -> None: ...

    def stop(self, timeout: float) -> None: ...


def _companions_for(config: TelemetryConfig) -> list[_Companion]:
    """Return what forwards, and what serves, the recording that a configuration names."""
    if not config.enabled or config.storage_backend not in DEFAULT_PATHS:
        return []
    found: list[_Companion] = []
    with importing():
        # By their names: they are above what records, and most recorders need neither.
        if config.forward:
            module = import_module("rimp_otel.transport.forwarding.in_process")
            found.append(module.InProcessForwarding(config.path, config.forward))
        if config.prometheus_port is not None:
            module = import_module("rimp_otel.prometheus.in_process")
            port, host = config.prometheus_port, config.prometheus_host
            found.append(module.InProcessMetrics(config.path, port, host, config.prometheus_gauges))
    return found


def _check_interval(interval: float) -> float:
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not interval > 0:
        raise ConfigurationError(f"interval must be a number of seconds > 0, got {interval!r}")
    return float(min(interval, _MAX_WAIT))


class _FurtherReader(MetricReader):
    """Has a stream collect the instruments of one more MeterProvider."""

    def __init__(self, stream: TelemetryStream) -> None:
        super().__init__(**stream._preferences)
        self._stream = stream

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        self._stream._receive(self, metrics_data)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._stream.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._stream.force_flush(timeout_millis)


def reader_for(stream: TelemetryStream) -> MetricReader:
    """Return what a MeterProvider is given to have its instruments collected by ``stream``: the stream
    itself, or a reader of its own where the stream has a provider already, since it can have only one."""
    with stream._changing:
        if stream._collect is None:
            return stream
        reader = _FurtherReader(stream)
        stream._further_readers = (*stream._further_readers, reader)
        return reader
