"""Add the parts of rimp-otel to an OpenTelemetry SDK that is already set up."""

from __future__ import annotations

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

collector = TelemetryCollector(TelemetryConfig())
stream = TelemetryStream(collector, FileStorage("telemetry"))
stream.start()

resource = Resource.create({"service.name": "shop"})
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(collector)
logger_provider = LoggerProvider(resource=resource)
logger_provider.add_log_record_processor(collector)
meter_provider = MeterProvider(metric_readers=[stream], resource=resource)

with tracer_provider.get_tracer("shop").start_as_current_span("checkout"):
    meter_provider.get_meter("shop").create_counter("orders").add(2)
    logger = logger_provider.get_logger("shop")
    logger.emit(LogRecord(body="order paid", severity_number=SeverityNumber.INFO))

meter_provider.shutdown()
logger_provider.shutdown()
tracer_provider.shutdown()
stream.stop()

data = stream.storage.retrieve()
span, event, metric = data.spans[0], data.events[0], data.metrics[0]
print(f"span {span.name}, log {event.message}, metric {metric.name} {metric.value}")
print("the log record belongs to the span:", event.span_id == span.context.span_id)
print("service:", span.resource.attributes["service.name"])
