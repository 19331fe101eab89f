"""A configuration for development: small batches in memory, printed at once."""

from __future__ import annotations

from rimp_otel import EventType, TelemetryCollector, TelemetryConfig, TelemetryStream

config = TelemetryConfig(
    enabled=True,
    buffer_size=5,
    flush_interval=1.0,
    realtime_mode=True,
    storage_backend="memory",
)
collector = TelemetryCollector(config)
stream = TelemetryStream(collector)

with stream:
    collector.collect_event("test", "first step", EventType.DEBUG)
    collector.collect_event("test", "second step", EventType.DEBUG, {"took_ms": 3})

for event in stream.storage.retrieve().events:
    print(event.event_type.name, event.message, event.metadata)
