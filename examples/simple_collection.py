"""Collect events and metrics, and print them."""

from __future__ import annotations

from rimp_otel import EventType, TelemetryCollector, TelemetryConfig

collector = TelemetryCollector(TelemetryConfig())
collector.collect_event("app", "Started", EventType.INFO)
collector.collect_event("db", "Slow query", EventType.WARNING, {"seconds": 2.5})
collector.collect_metric("cpu", 45.2, "percent")

data = collector.flush()
for event in data.events:
    print(event.event_type.value, event.source, event.message, event.metadata)
for metric in data.metrics:
    print(metric.name, metric.value, metric.unit)
