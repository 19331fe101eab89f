"""A configuration for high volume in production: large, infrequent batches in files."""

from __future__ import annotations

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream

config = TelemetryConfig(
    enabled=True,
    buffer_size=1000,
    flush_interval=10.0,
    realtime_mode=False,
    storage_backend="file",
    storage_path="log/data.jsonl",
)
collector = TelemetryCollector(config)

with TelemetryStream(collector) as stream:
    for number in range(50_000):
        collector.collect_metric("queue.length", number % 100, "{job}", {"queue": "mail"})

stats = collector.stats()
print(f"collected {stats.collected}, stored {stats.stored}, dropped {sum(stats.dropped.values())}")
print(f"{stream.storage.retrieve(limit=1).metrics[0].value} jobs in the queue at the end")
