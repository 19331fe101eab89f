"""Send every batch to several consumers. One that fails or is slow does not affect the others."""

from __future__ import annotations

from rimp_otel import (
    EventType,
    MemoryStorage,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryStream,
)

monitoring: list[float | int] = []
errors: list[str] = []


def send_to_monitoring(data: TelemetryData) -> None:
    monitoring.extend(metric.value for metric in data.metrics)


def send_to_chat(data: TelemetryData) -> None:
    errors.extend(e.message for e in data.events if e.event_type == EventType.ERROR)


def send_to_a_system_that_is_down(data: TelemetryData) -> None:
    raise ConnectionError("nobody there")


collector = TelemetryCollector(TelemetryConfig())
stream = TelemetryStream(collector, MemoryStorage())
stream.add_consumer(lambda d: send_to_monitoring(d))
stream.add_consumer(lambda d: send_to_chat(d))
stream.add_consumer(send_to_a_system_that_is_down)

with stream:
    collector.collect_metric("cpu", 45.2, "percent")
    collector.collect_event("app", "Started", EventType.INFO)
    collector.collect_event("app", "Disk full", EventType.ERROR)

print("monitoring", monitoring)
print("chat", errors)
print("failed", [consumer.failed for consumer in stream.stats().consumers])
