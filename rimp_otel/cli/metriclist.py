"""The list that ``rimp metrics`` prints: one line for each metric."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rimp_otel.cli.render import Style, format_time, format_utc
from rimp_otel.cli.tables import Column, format_table
from rimp_otel.models import TelemetryMetric
from rimp_otel.records import service_of

__all__ = ["MetricSummary", "format_metrics", "summarize_metrics"]

_COLUMNS = (
    Column("NAME", looks="bold"),
    Column("KIND"),
    Column("UNIT"),
    Column("SERIES", is_number=True),
    Column("POINTS", is_number=True),
    Column("LAST", looks="dim"),
    Column("SERVICES"),
)


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


def format_metrics(metrics: list[MetricSummary], width: int, style: Style) -> list[str]:
    """The metrics as a table."""
    if not metrics:
        return ["no metrics"]
    rows = [
        (
            style.clean(metric.name) or "(no name)",
            metric.kind.replace("_", " "),
            style.clean(metric.unit),
            f"{len(metric.series):,}",
            f"{metric.points:,}",
            format_time(metric.last, "%m-%d %H:%M:%S"),
            ", ".join(style.clean(service) or "(no service)" for service in metric.services),
        )
        for metric in metrics
    ]
    return format_table(_COLUMNS, rows, width, style)
