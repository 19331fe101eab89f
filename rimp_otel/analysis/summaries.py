"""Summaries of traces and metrics, one for each, and the digits that tell trace ids apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import Any

# A lazy package: it loads the SDK only for `typing.get_type_hints`.
import rimp_otel.models as models
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

__all__ = [
    "MetricSummary",
    "TraceSummary",
    "count_unique_digits",
    "summarize_metrics",
    "summarize_traces",
]


@dataclass
class TraceSummary:
    """A trace in a few words. Times are in nanoseconds since the epoch.

    Name and service are those of the root: the earliest span without a parent, or the earliest of
    all if no root is recorded.
    """

    trace_id: int
    start: int = 0
    end: int = 0
    name: str = ""
    service: str = ""
    spans: int = 0
    errors: int = 0
    #: True if one of its spans meets the condition; see `summarize_traces`.
    is_chosen: bool = False
    #: Of the root so far: whether it has a parent, and its start.
    _root: tuple[bool, int] = field(default=(True, 0), init=False, repr=False)

    @property
    def has_root(self) -> bool:
        """True if a span without a parent was counted."""
        return not self._root[0]

    def add(self, span: models.ReadableSpan) -> None:
        """Count one more span of the trace."""
        start = start_of(span)
        root = (bool(parent_id_of(span)), start)
        if not self.spans or root < self._root:
            self._root, self.name, self.service = root, span.name, service_of(span)
        self.start = min(self.start or start, start or self.start)
        self.end = max(self.end, end_of(span) or 0, start)
        self.spans += 1
        self.errors += has_failed(span)

    def as_json(self) -> dict[str, Any]:
        """Return the trace as ``rimp traces --json`` prints it."""
        return {
            "trace_id": f"{self.trace_id:032x}",
            "start": format_utc(self.start),
            "duration_ns": self.end - self.start,
            "name": self.name,
            "service": self.service,
            "spans": self.spans,
            "errors": self.errors,
        }


def summarize_traces(
    spans: Iterable[models.ReadableSpan],
    is_chosen: Callable[[models.ReadableSpan], bool] | None = None,
) -> list[TraceSummary]:
    """Return the traces of the spans, in the order of the first span of each.

    Args:
        spans: in any order.
        is_chosen: a trace is chosen if this is true of one of its spans; None for all traces.
    """
    traces: dict[int, TraceSummary] = {}
    for span in spans:
        trace_id = trace_id_of(span)
        trace = traces.get(trace_id)
        if trace is None:
            trace = traces[trace_id] = TraceSummary(trace_id)
        trace.add(span)
        trace.is_chosen = trace.is_chosen or is_chosen is None or is_chosen(span)
    return list(traces.values())


def count_unique_digits(trace_ids: Iterable[int]) -> int:
    """Return how many leading hexadecimal digits tell the ids apart; 8 at least."""
    pairs = pairwise(sorted(trace_ids))
    first_different = ((128 - (left ^ right).bit_length()) // 4 for left, right in pairs)
    return max(8, 1 + max(first_different, default=0))


@dataclass
class MetricSummary:
    """A metric in a few words. Times are in nanoseconds since the epoch."""

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
        tags = sorted(point.tags.items(), key=itemgetter(0))
        self.series.add(hash((repr(tags), repr(resource))))

    def as_json(self) -> dict[str, Any]:
        """Return the metric as ``rimp metrics --json`` prints it."""
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


def summarize_metrics(points: Iterable[TelemetryMetric]) -> list[MetricSummary]:
    """Return the metrics of the points, in the order of their names."""
    found: dict[tuple[str, str, str], MetricSummary] = {}
    for point in points:
        key = (point.name, point.kind.value, point.unit)
        found.setdefault(key, MetricSummary(*key)).add(point)
    return [found[key] for key in sorted(found)]
