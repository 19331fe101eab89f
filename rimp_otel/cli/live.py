"""What goes on now: spans and log records of the last minute, by service and operation."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rimp_otel.cli.operations import Operation, quantile
from rimp_otel.models import EventType, TelemetryEvent
from rimp_otel.records import (
    duration_of,
    has_failed,
    service_of,
    span_id_of,
    time_of,
    trace_id_of,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Live", "Load", "Picture"]

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
