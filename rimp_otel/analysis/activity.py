"""Activity by operation: counts, errors, durations and calls of a recording, or of the last minute.

Memory is bounded, however many spans there are: durations are sampled, and a call is recognized if
its two spans were recorded not too far from each other.
"""

from __future__ import annotations

import heapq
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

# A lazy package: it loads the SDK only for `typing.get_type_hints`.
import rimp_otel.models as models
from rimp_otel.models.accessors import (
    duration_of,
    end_of,
    exception_text,
    has_failed,
    parent_id_of,
    service_of,
    span_id_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import EventType, TelemetryEvent

__all__ = [
    "Activity",
    "ActivityLimits",
    "ActivitySnapshot",
    "Failure",
    "FailureCount",
    "LiveActivity",
    "LoadStats",
    "Operation",
    "OperationStats",
    "quantile",
]

_VARYING = re.compile(
    r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|\b(?=[0-9a-f]*[0-9])[0-9a-f]{12,}\b|\d+(?:\.\d+)*"
)
_MAX_FAILURE_LENGTH = 200


class Operation(NamedTuple):
    """The spans of one name in one service."""

    service: str
    name: str


class Failure(NamedTuple):
    """A kind of error: its place, and its text with ``#`` for numbers and ids."""

    service: str
    #: The span's name, or the log record's source.
    name: str
    text: str


class FailureCount(NamedTuple):
    """The frequency of a kind of error."""

    times: int
    #: A trace in which it happened; 0 if it happened outside of any.
    trace_id: int


@dataclass
class OperationStats:
    """Counts and durations of one operation."""

    count: int = 0
    errors: int = 0
    #: Start and duration of spans, in nanoseconds: of all of them, or of a random sample.
    sample: list[tuple[int, int]] = field(default_factory=list)
    #: Spans that have a duration.
    timed: int = 0

    @property
    def durations(self) -> list[int]:
        """Sampled durations in nanoseconds, in the order of the spans' starts."""
        return [duration for _, duration in sorted(self.sample)]


class ActivityLimits(NamedTuple):
    """The bounds of what an `Activity` keeps in memory."""

    #: Durations of an operation.
    durations: int = 5_000
    #: Spans by which callers and called are recognized.
    spans: int = 500_000
    failures: int = 10_000


class Activity:
    """Operations, calls and errors, counted from spans and log records in any order.

    Use it in one thread.

    Args:
        limits: how much it keeps in memory.
    """

    def __init__(self, limits: ActivityLimits = ActivityLimits()) -> None:  # noqa: B008 (immutable)
        self._limits = limits
        self.spans = 0
        self.first = 0
        self.last = 0
        self.operations: dict[Operation, OperationStats] = {}
        #: By caller and called; the caller is None if the span is the root of a trace.
        self.calls: Counter[tuple[Operation | None, Operation]] = Counter()
        self.failures: dict[Failure, FailureCount] = {}
        self._known: dict[tuple[int, int], Operation] = {}
        self._waiting: dict[tuple[int, int], list[Operation]] = {}
        # Seeded, so that equal spans make equal samples.
        self._random = random.Random(7)

    def add_span(self, span: models.ReadableSpan) -> None:
        """Count the span."""
        operation = Operation(service_of(span), span.name)
        stats = self.operations.setdefault(operation, OperationStats())
        self.spans += 1
        stats.count += 1
        self._extend_time(start_of(span), end_of(span) or 0)
        self._sample_duration(stats, span)
        self._count_calls(span, operation)
        if has_failed(span):
            stats.errors += 1
            self._count_failure(operation, _failure_text(span), trace_id_of(span))

    def add_event(self, event: TelemetryEvent) -> None:
        """Count the log record, if it is an error."""
        self._extend_time(time_of(event), time_of(event))
        if event.event_type is EventType.ERROR:
            place = Operation(service_of(event), event.source)
            text = exception_text(event.metadata) or event.message or event.event_name
            self._count_failure(place, text, event.trace_id)

    def _extend_time(self, first: int, last: int) -> None:
        if first:
            self.first = min(self.first or first, first)
        self.last = max(self.last, last)

    def _sample_duration(self, stats: OperationStats, span: models.ReadableSpan) -> None:
        duration, most = duration_of(span), self._limits.durations
        if duration is None:
            return
        stats.timed += 1
        if len(stats.sample) < most:
            stats.sample.append((start_of(span), duration))
            return
        # Reservoir sampling: each span so far is in the sample with the same probability.
        index = self._random.randrange(stats.timed)
        if index < most:
            stats.sample[index] = (start_of(span), duration)

    def _count_calls(self, span: models.ReadableSpan, operation: Operation) -> None:
        own = (trace_id_of(span), span_id_of(span))
        parent = (own[0], parent_id_of(span))
        if not parent[1]:
            self.calls[None, operation] += 1
        elif parent in self._known:
            self.calls[self._known[parent], operation] += 1
        else:
            self._waiting.setdefault(parent, []).append(operation)
        self._known[own] = operation
        for called in self._waiting.pop(own, ()):
            self.calls[operation, called] += 1
        _drop_oldest(self._known, self._limits.spans)
        _drop_oldest(self._waiting, self._limits.spans)

    def _count_failure(self, place: Operation, text: str, trace_id: int) -> None:
        text = _VARYING.sub("#", text[: 4 * _MAX_FAILURE_LENGTH])[:_MAX_FAILURE_LENGTH]
        failure = Failure(*place, text)
        known = self.failures.get(failure)
        if known is None and len(self.failures) >= self._limits.failures:
            return  # texts that all differ are no kinds of error
        times, known_trace_id = known or (0, 0)
        self.failures[failure] = FailureCount(times + 1, known_trace_id or trace_id)


def _drop_oldest(spans: dict[tuple[int, int], Any], most: int) -> None:
    """Drop the oldest half if there are more than ``most``."""
    if len(spans) > most:
        for key in list(islice(spans, most // 2)):
            del spans[key]


def _failure_text(span: models.ReadableSpan) -> str:
    raised = (exception_text(event.attributes or {}) for event in span.events)
    return next(filter(None, raised), span.status.description or "error")


def quantile(values: Iterable[int], share: float) -> int:
    """Return the value that a share (0 to 1) of the values do not exceed; 0 if there are none."""
    ordered = sorted(values)
    if not ordered:
        return 0
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


# Activity of a moving window.

_MAX_RECORDS = 500_000
_PARTS = 30


class LoadStats(NamedTuple):
    """Spans of an operation or a service within a window, with percentiles of their durations in
    nanoseconds; None if no duration is known."""

    service: str
    #: None for a service as a whole.
    name: str | None
    spans: int
    errors: int
    p50: int | None
    p95: int | None
    p99: int | None


@dataclass
class ActivitySnapshot:
    """The activity of the window that ended at ``now``, in nanoseconds."""

    now: int
    window: int
    total: LoadStats
    services: list[LoadStats] = field(default_factory=list)
    operations: list[LoadStats] = field(default_factory=list)
    #: How many spans ended in each of 30 equal parts of the window.
    spans_over_time: list[int] = field(default_factory=list)
    logs: Counter[EventType] = field(default_factory=Counter)

    def rate(self, count: int) -> float:
        """Return ``count`` records of the window as records per second."""
        return count * 10**9 / self.window


class _EndedSpan(NamedTuple):
    time: int
    ids: tuple[int, int]
    operation: Operation
    duration: int | None
    has_failed: bool


class LiveActivity:
    """Spans and log records of a moving window.

    A span belongs to the time of its end; one that is added twice counts once. Use it in one thread.

    Args:
        window: its length in nanoseconds.
        max_records: how many spans, and how many log records, are kept: the newest.
    """

    def __init__(self, window: int, max_records: int = _MAX_RECORDS) -> None:
        self.window = window
        self._max_records = max_records
        self._spans: list[_EndedSpan] = []
        self._ids: set[tuple[int, int]] = set()
        self._logs: list[tuple[int, str]] = []

    def add(self, spans: Iterable[models.ReadableSpan], events: Iterable[TelemetryEvent]) -> None:
        """Add spans and log records, in any order."""
        for span in spans:
            ids = (trace_id_of(span), span_id_of(span))
            if ids not in self._ids:
                self._ids.add(ids)
                operation = Operation(service_of(span), span.name)
                ended = _EndedSpan(
                    time_of(span), ids, operation, duration_of(span), has_failed(span)
                )
                heapq.heappush(self._spans, ended)
        for event in events:
            heapq.heappush(self._logs, (time_of(event), event.event_type.value))
        while len(self._spans) > self._max_records:
            self._ids.discard(heapq.heappop(self._spans).ids)
        while len(self._logs) > self._max_records:
            heapq.heappop(self._logs)

    def snapshot(self, now: int) -> ActivitySnapshot:
        """Return the activity of the window that ends at ``now``; older records are dropped."""
        first = now - self.window
        while self._spans and self._spans[0].time <= first:
            self._ids.discard(heapq.heappop(self._spans).ids)
        while self._logs and self._logs[0][0] <= first:
            heapq.heappop(self._logs)
        spans = [span for span in self._spans if span.time <= now]
        operations: dict[Operation, list[_EndedSpan]] = {}
        services: dict[str, list[_EndedSpan]] = {}
        for span in spans:
            operations.setdefault(span.operation, []).append(span)
            services.setdefault(span.operation.service, []).append(span)
        return ActivitySnapshot(
            now,
            self.window,
            total=_load_of("", None, spans),
            services=[_load_of(service, None, own) for service, own in services.items()],
            operations=[_load_of(*operation, own) for operation, own in operations.items()],
            spans_over_time=_count_over_time(spans, first, self.window),
            logs=Counter(EventType(kind) for time, kind in self._logs if time <= now),
        )


def _load_of(service: str, name: str | None, spans: list[_EndedSpan]) -> LoadStats:
    durations = sorted(span.duration for span in spans if span.duration is not None)
    shares = [quantile(durations, share) if durations else None for share in (0.5, 0.95, 0.99)]
    return LoadStats(service, name, len(spans), sum(span.has_failed for span in spans), *shares)


def _count_over_time(spans: Iterable[_EndedSpan], first: int, window: int) -> list[int]:
    counts = [0] * _PARTS
    for span in spans:
        counts[min((span.time - first - 1) * _PARTS // window, _PARTS - 1)] += 1
    return counts
