"""Records in: the collector, its buffer in memory, and the counts of what becomes of records.

Imports ``journal``, ``batch`` and what is below them. Public are the names below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.collector.collector import TelemetryCollector as TelemetryCollector
    from rimp_otel.collector.stats import CollectorStats as CollectorStats

export_lazily(
    __name__,
    {
        "CollectorStats": "rimp_otel.collector.stats",
        "TelemetryCollector": "rimp_otel.collector.collector",
    },
)
