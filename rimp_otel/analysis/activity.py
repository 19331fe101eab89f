"""What went on in a recording, by operation: how long, how often it failed, what it called.

Memory has a bound, however many spans there are: durations are sampled, and calls are told from
spans that were recorded not too far from each other.
"""

from __future__ import annotations

import heapq
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

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

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Activity", "Failure", "Live", "Load", "Operation", "Picture", "Work", "quantile"]


# --- What went on in a recording, by operation: how long, how often it failed, what it called.

_SAMPLE = 5_000
_REMEMBERED = 500_000
_MOST_FAILURES = 10_000
_VARYING = re.compile(
    r"0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|\b(?=[0-9a-f]*[0-9])[0-9a-f]{12,}\b|\d+(?:\.\d+)*"
)
_LONGEST_FAILURE = 200


class Operation(NamedTuple):
    """What is compared: spans of one name in one service."""

    service: str
    name: str


class Failure(NamedTuple):
    """A kind of error: where it was, and its text, with ``#`` for what varies."""

    service: str
    #: The span's name, or the log record's source.
    name: str
    text: str


class _Seen(NamedTuple):
    number: int
    trace_id: int


@dataclass
class Work:
    """What is known of one operation."""

    count: int = 0
    errors: int = 0
    #: Start and duration of spans, in nanoseconds: all, or so many drawn by lot.
    sample: list[tuple[int, int]] = field(default_factory=list)
    timed: int = 0

    @property
    def durations(self) -> list[int]:
        """Sampled durations in nanoseconds, in the order of the spans' starts."""
        return [duration for _, duration in sorted(self.sample)]


class Activity:
    """All that went on, counted from spans and log records in any order."""

    def __init__(self) -> None:
        self.spans = 0
        self.first = 0
        self.last = 0
        self.operations: dict[Operation, Work] = {}
        #: How often an operation called another; the caller of what begins a trace is None.
        self.calls: Counter[tuple[Operation | None, Operation]] = Counter()
        #: Of each kind of error, how often, and a trace where it happened (0 for none).
        self.failures: dict[Failure, _Seen] = {}
        self._known: dict[tuple[int, int], Operation] = {}
        self._waiting: dict[tuple[int, int], list[Operation]] = {}
        # The same spans give the same sample.
        self._random = random.Random(7)

    def add_span(self, span: ReadableSpan) -> None:
        """Counts a span."""
        operation = Operation(service_of(span), span.name)
        work = self.operations.setdefault(operation, Work())
        self.spans += 1
        work.count += 1
        self._widen(start_of(span), end_of(span) or 0)
        self._sample(work, span)
        self._link(span, operation)
        if has_failed(span):
            work.errors += 1
            self._fail(operation, _why(span), trace_id_of(span))

    def add_event(self, event: TelemetryEvent) -> None:
        """Counts a log record, if it is an error."""
        self._widen(time_of(event), time_of(event))
        if event.event_type is EventType.ERROR:
            where = Operation(service_of(event), event.source)
            text = exception_text(event.metadata) or event.message or event.event_name
            self._fail(where, text, event.trace_id)

    def _widen(self, first: int, last: int) -> None:
        if first:
            self.first = min(self.first or first, first)
        self.last = max(self.last, last)

    def _sample(self, work: Work, span: ReadableSpan) -> None:
        duration = duration_of(span)
        if duration is None:
            return
        work.timed += 1
        if len(work.sample) < _SAMPLE:
            work.sample.append((start_of(span), duration))
            return
        place = self._random.randrange(work.timed)
        if place < _SAMPLE:
            work.sample[place] = (start_of(span), duration)

    def _link(self, span: ReadableSpan, operation: Operation) -> None:
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
        _forget(self._known)
        _forget(self._waiting)

    def _fail(self, where: Operation, text: str, trace_id: int) -> None:
        failure = Failure(
            *where, _VARYING.sub("#", text[: 4 * _LONGEST_FAILURE])[:_LONGEST_FAILURE]
        )
        seen = self.failures.get(failure)
        if seen is None and len(self.failures) >= _MOST_FAILURES:
            return  # texts that are all different are no kinds
        number, known = seen or (0, 0)
        self.failures[failure] = _Seen(number + 1, known or trace_id)


def _forget(remembered: dict[tuple[int, int], Any]) -> None:
    """Lets go of the oldest half, once there is too much."""
    if len(remembered) > _REMEMBERED:
        for key in list(islice(remembered, _REMEMBERED // 2)):
            del remembered[key]


def _why(span: ReadableSpan) -> str:
    raised = (exception_text(event.attributes or {}) for event in span.events)
    return next(filter(None, raised), span.status.description or "error")


def quantile(values: Iterable[int], share: float) -> int:
    """The value that a share (0 to 1) of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


# --- What goes on now: spans and log records of the last minute, by service and operation.

_MOST = 500_000
_PARTS = 30


class Load(NamedTuple):
    """What one operation, or one service, did. Durations in nanoseconds, None where none is known."""

    service: str
    #: None of a service as a whole.
    name: str | None
    spans: int
    errors: int
    p50: int | None
    p95: int | None
    p99: int | None


@dataclass
class Picture:
    """All that went on in the window that ended at ``now``, in nanoseconds."""

    now: int
    window: int
    total: Load
    services: list[Load] = field(default_factory=list)
    operations: list[Load] = field(default_factory=list)
    #: Spans that ended in each of equal parts of the window.
    course: list[int] = field(default_factory=list)
    logs: Counter[EventType] = field(default_factory=Counter)

    def rate(self, count: int) -> float:
        """So many in the window, in a second."""
        return count * 10**9 / self.window


class _Ended(NamedTuple):
    time: int
    ids: tuple[int, int]
    operation: Operation
    duration: int | None
    has_failed: bool


class Live:
    """Spans and log records of a window that moves. A span belongs to the time of its end; one that
    comes twice counts once. Of more than half a million, the newest are kept."""

    def __init__(self, window: int) -> None:
        self.window = window
        self._spans: list[_Ended] = []
        self._ids: set[tuple[int, int]] = set()
        self._logs: list[tuple[int, str]] = []

    def add(self, spans: Iterable[ReadableSpan], events: Iterable[TelemetryEvent]) -> None:
        """Takes in what was recorded."""
        for span in spans:
            ids = (trace_id_of(span), span_id_of(span))
            if ids not in self._ids:
                self._ids.add(ids)
                operation = Operation(service_of(span), span.name)
                ended = _Ended(time_of(span), ids, operation, duration_of(span), has_failed(span))
                heapq.heappush(self._spans, ended)
        for event in events:
            heapq.heappush(self._logs, (time_of(event), event.event_type.value))
        while len(self._spans) > _MOST:
            self._ids.discard(heapq.heappop(self._spans).ids)
        while len(self._logs) > _MOST:
            heapq.heappop(self._logs)

    def picture(self, now: int) -> Picture:
        """What went on in the window until ``now``; what is older is forgotten."""
        first = now - self.window
        while self._spans and self._spans[0].time <= first:
            self._ids.discard(heapq.heappop(self._spans).ids)
        while self._logs and self._logs[0][0] <= first:
            heapq.heappop(self._logs)
        spans = [span for span in self._spans if span.time <= now]
        picture = Picture(now, self.window, _load("", None, spans))
        picture.logs = Counter(EventType(kind) for time, kind in self._logs if time <= now)
        picture.course = _course(spans, first, self.window)
        self._divide(spans, picture)
        return picture

    def _divide(self, spans: Iterable[_Ended], picture: Picture) -> None:
        operations: dict[Operation, list[_Ended]] = {}
        services: dict[str, list[_Ended]] = {}
        for span in spans:
            operations.setdefault(span.operation, []).append(span)
            services.setdefault(span.operation.service, []).append(span)
        picture.services = [_load(service, None, of) for service, of in services.items()]
        picture.operations = [_load(*operation, of) for operation, of in operations.items()]


def _load(service: str, name: str | None, spans: list[_Ended]) -> Load:
    durations = sorted(span.duration for span in spans if span.duration is not None)
    shares = [quantile(durations, share) if durations else None for share in (0.5, 0.95, 0.99)]
    return Load(service, name, len(spans), sum(span.has_failed for span in spans), *shares)


def _course(spans: Iterable[_Ended], first: int, window: int) -> list[int]:
    counts = [0] * _PARTS
    for span in spans:
        counts[min((span.time - first - 1) * _PARTS // window, _PARTS - 1)] += 1
    return counts
