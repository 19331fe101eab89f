"""Store records in files, and read them back."""

from __future__ import annotations

from rimp_otel import EventType, FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

collector = TelemetryCollector(TelemetryConfig())
storage = FileStorage("log/telemetry.jsonl")
stream = TelemetryStream(collector, storage)
stream.start()

collector.collect_event("app", "Started", EventType.INFO)
collector.collect_event("app", "Disk full", EventType.ERROR, {"free_bytes": 0})
collector.collect_metric("cpu", 45.2, "percent")
stream.stop()

# Any program can read the files at any time, such as `rimp tail --path log/telemetry.jsonl`.
for event in FileStorage("log/telemetry.jsonl").retrieve(limit=10).events:
    if event.event_type == EventType.ERROR:
        print(event.timestamp.isoformat(), event.message, event.metadata)
print(f"{collector.stats().stored} records stored")
