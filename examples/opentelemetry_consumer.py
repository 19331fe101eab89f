"""Use OpenTelemetry exporters as consumers: here the SDK's console exporters."""

from __future__ import annotations

from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream

spans = ConsoleSpanExporter(
    formatter=lambda span: f"span {span.name} {dict(span.attributes or {})}\n"
)
logs = ConsoleLogRecordExporter(formatter=lambda record: f"log {record.log_record.body}\n")

collector = TelemetryCollector(TelemetryConfig())
stream = TelemetryStream(collector)
stream.add_consumer(lambda data: spans.export(data.spans))
stream.add_consumer(lambda data: logs.export(data.log_records))

provider = TracerProvider()
provider.add_span_processor(collector)
tracer = provider.get_tracer("shop")

stream.start()
with tracer.start_as_current_span("checkout", attributes={"cart.items": 3}):
    pass
collector.flush()  # wait for the consumers, which run in parallel
collector.collect_event("shop", "order paid")
stream.stop()
