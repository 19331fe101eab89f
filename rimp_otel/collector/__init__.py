"""Records in: the collector, its buffer in memory, and the counts of what becomes of records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import on_demand

if TYPE_CHECKING:
    from rimp_otel.collector.collector import TelemetryCollector
    from rimp_otel.collector.stats import CollectorStats

__all__ = ["CollectorStats", "TelemetryCollector"]

_HOMES = {"CollectorStats": "stats", "TelemetryCollector": "collector"}

__getattr__, __dir__ = on_demand(__name__, _HOMES)
