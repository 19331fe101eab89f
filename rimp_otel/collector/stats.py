"""The counts of records, and the SDK's self-observability metrics of our components.

Names and attributes of the metrics: OpenTelemetry semantic conventions, "SDK metrics". Recorded if the
SDK's own switch for them, OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED, is true.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count, repeat
from typing import Any, NamedTuple, TypeVar

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from rimp_otel.batch import TelemetryData, skipped_count
from rimp_otel.models.records import Signal
from rimp_otel.process import Counter, StepCounter

__all__ = [
    "NO_LOSS",
    "CollectorStats",
    "ExporterMetrics",
    "Loss",
    "Losses",
    "RecordCounts",
    "observe_processor",
]


class CollectorStats(NamedTuple):
    """Exact counts of records: ``collected == stored + pending + sum(dropped.values())``."""

    #: Records that were collected, of all signals; data points of OpenTelemetry metrics too.
    collected: int
    #: Of those, in the storage; without a stream, returned by ``flush()``.
    stored: int
    #: Of those, neither stored nor dropped yet.
    pending: int
    #: Of those, lost, by reason: "buffer_full", "journal_full", "encoding", "invalid_value",
    #: "storage_error", "recursion" and "memory" (no room on the stack, or in memory, to record it),
    #: and "damaged" (in the journal of a process that died).
    dropped: dict[str, int]
    #: Calls of a listener that raised.
    listener_errors: int
    #: Of those collected, found in the journal of a process that died.
    recovered: int = 0
    #: The exception that a listener raised last, with its type; None if none raised.
    last_listener_error: str | None = None
    #: Of those pending, in memory only, where a death of the process loses them: all without a
    #: journal, else those that found no room on disk.
    in_memory: int = 0


Loss = tuple[Iterable[None], Iterable[None]]
"""Counts a record that is lost with the first step of an iteration: over the first where there was no room on
the stack, over the second where there was none in memory. See ``StepCounter``."""

NO_LOSS: Loss = (repeat(None), repeat(None))
"""Counts nothing; an iterator, since to make one takes memory."""


Losses = tuple[Loss, Loss]
"""What counts the records of one signal that there is no room to record: those that are not counted as collected,
which this does, too; and those that are."""


class RecordCounts:
    """Exact counts of what becomes of one collector's records.

    ``collected``, ``drop``, ``reject`` and ``lost_*`` are safe from any thread, signal handler or
    finaliser, and so is reading; all else is for the one thread that drains. Where ``drop`` and
    ``reject`` raise RecursionError or MemoryError, they have counted nothing.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Count from 0 again, in a forked child."""
        #: Records that were collected.
        self.collected = Counter()
        #: Calls of a listener that raised.
        self.listener_errors = Counter()
        #: The exception that a listener raised last.
        self.last_listener_error: str | None = None
        self._dropped: dict[tuple[str, Signal], StepCounter] = {}
        # Of records that are not in ``collected``.
        self._rejected: dict[tuple[str, Signal], StepCounter] = {}
        #: Attributes, since to look one up by its signal is a call.
        self.lost_spans = self._losses_of(Signal.TRACES)
        self.lost_logs = self._losses_of(Signal.LOGS)
        self.lost_points = self._losses_of(Signal.METRICS)
        self._stored = dict.fromkeys(Signal, 0)
        self._points = 0
        self._accepted = 0
        self._accepting = threading.Lock()
        self._recovered = 0

    def _losses_of(self, signal: Signal) -> Losses:
        """Make the counters of what nothing can be called for any more when it happens."""
        pairs: list[Loss] = []
        for counters in (self._rejected, self._dropped):
            recursion, memory = StepCounter(), StepCounter()
            counters["recursion", signal], counters["memory", signal] = recursion, memory
            pairs.append((recursion.steps, memory.steps))
        return pairs[0], pairs[1]

    def collect_points(self, points: int, unencoded: int = 0) -> None:
        """Count data points of OpenTelemetry's instruments, and those that cannot be encoded."""
        self._points += points + unencoded
        self.drop("encoding", Signal.METRICS, unencoded)

    def accept(self, records: int) -> None:
        """Count records that were collected by another program, and arrived together; a number
        below 0 takes back what was counted. Safe from any thread, but from no signal handler."""
        with self._accepting:
            self._accepted += records

    def recover(self, signal: Signal, records: int, damaged: int) -> None:
        """Count records that an earlier process left, readable and damaged."""
        self._recovered += records + damaged
        self.drop("damaged", signal, damaged)

    def store(self, data: TelemetryData) -> None:
        """Count a batch as stored, except for the records in it that could not be encoded."""
        for signal in Signal:
            skipped = skipped_count(data, signal)
            self._stored[signal] += data.count_of(signal) - skipped
            self.drop("encoding", signal, skipped)

    def drop_batch(self, reason: str, data: TelemetryData) -> None:
        """Count a batch as lost."""
        for signal in Signal:
            self.drop(reason, signal, data.count_of(signal))

    def drop(self, reason: str, signal: Signal, records: int = 1) -> None:
        """Count records as lost."""
        if not records:
            return
        # setdefault is one call into C: two threads get the same counter.
        steps = self._dropped.setdefault((reason, signal), StepCounter()).steps
        for _ in range(records):
            for _ in steps:
                break

    def reject(self, reason: str, signal: Signal) -> None:
        """Count one record as collected, and as lost."""
        for _ in self._rejected.setdefault((reason, signal), StepCounter()).steps:
            break

    def stats(self) -> CollectorStats:
        """Return the counts over all signals."""
        # In this order: a record that arrives meanwhile shows as pending, never as negative.
        stored = sum(self._stored.values())
        dropped: dict[str, int] = {}
        for (reason, _), counter in list(self._dropped.items()):
            _add(dropped, reason, counter.value)
        rejected = 0
        for (reason, _), counter in list(self._rejected.items()):
            records = counter.value
            rejected += records
            _add(dropped, reason, records)
        recovered = self._recovered
        collected = self.collected.value + self._points + self._accepted + recovered + rejected
        pending = collected - stored - sum(dropped.values())
        errors = self.listener_errors.value
        last = self.last_listener_error
        return CollectorStats(collected, stored, pending, dropped, errors, recovered, last)

    def of_signal(self, signal: Signal) -> tuple[int, dict[str, int]]:
        """Return how many records of one signal were stored, and how many dropped, by reason."""
        dropped: dict[str, int] = {}
        for (reason, of), counter in [*self._dropped.items(), *self._rejected.items()]:
            if of is signal:
                _add(dropped, reason, counter.value)
        return self._stored[signal], dropped


def _add(dropped: dict[str, int], reason: str, records: int) -> None:
    if records:
        dropped[reason] = dropped.get(reason, 0) + records


# The SDK's self-observability metrics, of our components.

_METER = "rimp_otel"
_NOUNS = {Signal.TRACES: "span", Signal.LOGS: "log", Signal.METRICS: "metric_data_point"}
_numbers: dict[str, Iterator[int]] = {}


def is_self_observability_enabled() -> bool:
    """Return True if the SDK's switch for them is on."""
    return os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true"


Processor = TypeVar("Processor")


def observe_processor(
    processor: Processor,
    counts: RecordCounts,
    pending_of: Callable[[Processor], int],
    capacity_of: Callable[[Processor], int | None],
    in_memory_of: Callable[[Processor], int],
    meter_provider: MeterProvider | None = None,
) -> None:
    """Record ``otel.sdk.processor.*`` of a collector, as long as it lives.

    Its counts are read when metrics are collected, never pushed.

    Args:
        processor: the collector.
        counts: what becomes of its records.
        pending_of: returns the number of records in its buffer.
        capacity_of: returns the number of records that its buffer can hold; None if it is not bounded
            in records.
        in_memory_of: returns the number of records that a death of the process would lose.
        meter_provider: records them; default: the global one.
    """
    if not is_self_observability_enabled():
        return
    meter = get_meter(_METER, meter_provider=meter_provider)
    alive = weakref.ref(processor)

    def observe(
        read: Callable[[Processor], Iterable[Observation]],
    ) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            found = alive()
            return [] if found is None else read(found)

        return [callback]

    # One component, of whatever signal.
    attributes = _component_attributes(processor)
    meter.create_observable_up_down_counter(
        "rimp.collector.in_memory",
        observe(partial(_observe_value, in_memory_of, attributes)),
        unit="{record}",
        description="The number of records in memory only, where a death of the process loses them.",
    )
    for signal, noun in ((Signal.TRACES, "span"), (Signal.LOGS, "log")):
        prefix = f"otel.sdk.processor.{noun}"
        meter.create_observable_counter(
            f"{prefix}.processed",
            observe(partial(_observe_processed, counts, signal, attributes)),
            unit=f"{{{noun}}}",
            description=f"The number of {noun}s for which the processing has finished.",
        )
        meter.create_observable_up_down_counter(
            f"{prefix}.queue.size",
            observe(partial(_observe_value, pending_of, attributes)),
            unit=f"{{{noun}}}",
            description=f"The number of records in the queue that the {noun}s wait in.",
        )
        meter.create_observable_up_down_counter(
            f"{prefix}.queue.capacity",
            observe(partial(_observe_value, capacity_of, attributes)),
            unit=f"{{{noun}}}",
            description=f"The most records that the queue of the {noun}s can hold.",
        )


def _observe_value(
    value_of: Callable[[Processor], int | None], attributes: dict[str, Any], processor: Processor
) -> Iterator[Observation]:
    value = value_of(processor)
    if value is not None:
        yield Observation(value, attributes)


def _observe_processed(
    counts: RecordCounts, signal: Signal, attributes: dict[str, Any], _processor: object
) -> Iterator[Observation]:
    stored, dropped = counts.of_signal(signal)
    yield Observation(stored, attributes)
    for reason, records in dropped.items():
        kind = "queue_full" if reason in {"buffer_full", "journal_full"} else reason
        yield Observation(records, {**attributes, "error.type": kind})


class ExporterMetrics:
    """Records ``otel.sdk.exporter.*`` of one exporter; does nothing if the switch is off."""

    def __init__(
        self, exporter: object, signal: Signal, meter_provider: MeterProvider | None = None
    ) -> None:
        self._enabled = is_self_observability_enabled()
        if not self._enabled:
            return
        noun = _NOUNS[signal]
        self._attributes = _component_attributes(exporter)
        meter = get_meter(_METER, meter_provider=meter_provider)
        unit = "{data_point}" if signal is Signal.METRICS else f"{{{noun}}}"
        self._inflight = meter.create_up_down_counter(f"otel.sdk.exporter.{noun}.inflight", unit)
        self._exported = meter.create_counter(f"otel.sdk.exporter.{noun}.exported", unit)
        self._duration = meter.create_histogram("otel.sdk.exporter.operation.duration", "s")

    @contextmanager
    def export(self, records: int) -> Iterator[None]:
        """Measure one export; it counts as failed if the ``with`` block raises."""
        if not self._enabled:
            yield
            return
        start, attributes = time.perf_counter(), self._attributes
        self._inflight.add(records, self._attributes)
        try:
            yield
        except BaseException as error:
            attributes = {**attributes, "error.type": type(error).__qualname__}
            raise
        finally:
            self._inflight.add(-records, self._attributes)
            self._exported.add(records, attributes)
            self._duration.record(time.perf_counter() - start, attributes)


def _component_attributes(component: object) -> dict[str, Any]:
    """Return what tells a component from others. Its type is its class's name, as the semantic conventions have
    it for components that they do not name themselves, and the SDK does for those of its users."""
    kind = type(component).__qualname__
    number = next(_numbers.setdefault(kind, count()))
    return {"otel.component.type": kind, "otel.component.name": f"{kind}/{number}"}
