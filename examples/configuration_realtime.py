"""A configuration for real time: listeners are called at once, consumers within half a second."""

from __future__ import annotations

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream

config = TelemetryConfig(
    enabled=True,
    buffer_size=10,
    flush_interval=0.5,
    realtime_mode=True,
    storage_backend="memory",
)
collector = TelemetryCollector(config)
collector.add_listener(lambda data: print("at once:", data.events[0].message))
shown: list[str] = []

with TelemetryStream(collector) as stream:
    stream.add_consumer(lambda data: shown.extend(event.message for event in data.events))
    collector.collect_event("door", "opened")
    collector.collect_event("door", "closed")
    collector.flush()  # or wait for half a second

print("in batches:", shown)
