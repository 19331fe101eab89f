"""Replay a time range of a recording through another exporter, such as one that sends OTLP."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rimp_otel import FileStorage, RimpSpanExporter

# A recording: three requests, twenty minutes apart.
noon = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
storage = FileStorage("telemetry")
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(RimpSpanExporter(storage)))
tracer = provider.get_tracer("shop")
for number in range(3):
    start = int((noon + timedelta(minutes=20 * number)).timestamp()) * 1_000_000_000
    span = tracer.start_span(f"request {number}", start_time=start)
    span.set_attribute("order", number)
    span.end(start + 5_000_000)

# From 12:10 to 12:50. Times can be ISO 8601 or a datetime.
window = storage.retrieve("2026-11-23T12:10:00Z", noon + timedelta(minutes=50))
exporter = InMemorySpanExporter()
exporter.export(window.spans)

for replayed in exporter.get_finished_spans():
    print(replayed.name, dict(replayed.attributes or {}))
