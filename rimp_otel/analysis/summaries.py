"""What spans make together: traces, as trees and as lines of ``rimp traces``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rimp_otel.models.accessors import (
    end_of,
    has_failed,
    parent_id_of,
    service_of,
    start_of,
    trace_id_of,
)
from rimp_otel.models.records import TelemetryMetric
from rimp_otel.render.format import format_utc

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


__all__ = ["MetricSummary", "TraceSummary", "summarize", "summarize_metrics", "unique_digits"]


# --- What spans make together: traces, as trees and as lines of ``rimp traces``.


@dataclass
class TraceSummary:
    """What a line about a trace says. Times are in nanoseconds since the epoch."""

    trace_id: int
    start: int = 0
    end: int = 0
    name: str = ""
    service: str = ""
    spans: int = 0
    errors: int = 0
    #: Whether one of its spans was looked for.
    is_chosen: bool = False
    _root: tuple[bool, int] = (True, 0)

    @property
    def has_root(self) -> bool:
        """Whether the span that began the trace was among those counted."""
        return not self._root[0]

    def add(self, span: ReadableSpan) -> None:
        """Count one more span of the trace."""
        start = start_of(span)
        # The root is the earliest span without a parent; where none is recorded, the earliest.
        root = (bool(parent_id_of(span)), start)
        if not self.spans or root < self._root:
            self._root, self.name, self.service = root, span.name, service_of(span)
        self.start = min(self.start or start, start or self.start)
        self.end = max(self.end, end_of(span) or 0, start)
        self.spans += 1
        self.errors += has_failed(span)

    def as_json(self) -> dict[str, Any]:
        """The trace as ``rimp traces --json`` prints it."""
        return {
            "trace_id": f"{self.trace_id:032x}",
            "start": format_utc(self.start),
            "duration_ns": self.end - self.start,
            "name": self.name,
            "service": self.service,
            "spans": self.spans,
            "errors": self.errors,
        }


def summarize(
    spans: Iterable[ReadableSpan], choose: Callable[[ReadableSpan], bool] = lambda _: True
) -> list[TraceSummary]:
    """The traces that the spans make, in the order in which they were first met; a trace is chosen
    by one of its spans."""
    traces: dict[int, TraceSummary] = {}
    for span in spans:
        trace_id = trace_id_of(span)
        trace = traces.get(trace_id)
        if trace is None:
            trace = traces[trace_id] = TraceSummary(trace_id)
        trace.add(span)
        trace.is_chosen = trace.is_chosen or choose(span)
    return list(traces.values())


def unique_digits(trace_ids: Iterable[int]) -> int:
    """How many leading digits tell the ids apart; 8 at least."""
    pairs = pairwise(sorted(trace_ids))
    first_different = ((128 - (left ^ right).bit_length()) // 4 for left, right in pairs)
    return max(8, 1 + max(first_different, default=0))


# --- The list that ``rimp metrics`` prints: one line for each metric.


@dataclass
class MetricSummary:
    """What a line about a metric says. Times are in nanoseconds since the epoch."""

    name: str
    kind: str
    unit: str
    description: str = ""
    points: int = 0
    first: int = 0
    last: int = 0
    services: dict[str, None] = field(default_factory=dict)
    #: Hashes of resources and attributes: there may be a million of them.
    series: set[int] = field(default_factory=set)

    def add(self, point: TelemetryMetric) -> None:
        """Count one more point."""
        self.points += 1
        self.description = self.description or point.description
        self.first = min(self.first or point.time_unix_nano, point.time_unix_nano)
        self.last = max(self.last, point.time_unix_nano)
        self.services[service_of(point)] = None
        resource = point.resource.attributes if point.resource else {}
        self.series.add(hash((repr(sorted(point.tags.items(), key=_key)), repr(resource))))

    def as_json(self) -> dict[str, Any]:
        """The metric as ``rimp metrics --json`` prints it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "description": self.description,
            "series": len(self.series),
            "points": self.points,
            "first": format_utc(self.first),
            "last": format_utc(self.last),
            "services": list(self.services),
        }


def _key(item: tuple[str, Any]) -> str:
    return item[0]


def summarize_metrics(points: Iterable[TelemetryMetric]) -> list[MetricSummary]:
    """The metrics that the points belong to, by name."""
    found: dict[tuple[str, str, str], MetricSummary] = {}
    for point in points:
        key = (point.name, point.kind.value, point.unit)
        found.setdefault(key, MetricSummary(*key)).add(point)
    return [found[key] for key in sorted(found)]
