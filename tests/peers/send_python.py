"""Sends all signals with the official exporters, and prints what it sent; run by the peers' interpreter.

Arguments: ``http`` or ``grpc``, the port, ``gzip`` or ``none``. Printed: a line of JSON, by signal the
requests in base64.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

protocol, port, compression = sys.argv[1:]
package = f"opentelemetry.exporter.otlp.proto.{protocol}"
sent: dict[str, list[str]] = {"traces": [], "logs": [], "metrics": []}


def exporter(signal: str, module: str, name: str, encode):
    """Return the official exporter of a signal, which notes what it sends."""
    base = getattr(importlib.import_module(f"{package}.{module}"), name)

    class Noting(base):
        def export(self, batch, *args, **kwargs):
            sent[signal].append(base64.b64encode(encode(batch).SerializeToString()).decode())
            return super().export(batch, *args, **kwargs)

    if protocol == "grpc":
        from grpc import Compression

        return Noting(
            endpoint=f"http://127.0.0.1:{port}",
            insecure=True,
            compression=getattr(
                Compression, compression.capitalize().replace("None", "NoCompression")
            ),
        )
    common = importlib.import_module("opentelemetry.exporter.otlp.proto.http")
    return Noting(
        endpoint=f"http://127.0.0.1:{port}/v1/{signal}",
        compression=common.Compression(compression),
    )


resource = Resource({"service.name": "billing", "numbers": [1, 2], "on": True, "share": 0.25})
spans = TracerProvider(resource=resource)
spans.add_span_processor(
    BatchSpanProcessor(exporter("traces", "trace_exporter", "OTLPSpanExporter", encode_spans))
)
tracer = spans.get_tracer("peer", "1.2", schema_url="https://example.com/schema")
with tracer.start_as_current_span("bill", kind=SpanKind.SERVER) as outer:
    outer.set_attributes(
        {"größe": "5 µm", "items": ["tea", "milk"], "total": 12.5, "id": 2**53 + 1}
    )
    with tracer.start_as_current_span(
        "charge", kind=SpanKind.CLIENT, links=[Link(outer.get_span_context(), {"why": "retry"})]
    ) as inner:
        inner.add_event("declined", {"code": 51})
        inner.set_status(Status(StatusCode.ERROR, "declined"))
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(exporter("logs", "_log_exporter", "OTLPLogExporter", encode_logs))
    )
    logger = logging.getLogger("peer")
    logger.propagate = False
    logger.addHandler(LoggingHandler(logger_provider=logs))
    logger.warning("declined by %s", "the bank", extra={"code": 51})
    try:
        raise ValueError("no card")
    except ValueError:
        logger.exception("failed")
for kind in SpanKind:
    tracer.start_span(f"kind {kind.name}", kind=kind).end()

metrics = MeterProvider(
    resource=resource,
    metric_readers=[
        PeriodicExportingMetricReader(
            exporter("metrics", "metric_exporter", "OTLPMetricExporter", encode_metrics), 3_600_000
        )
    ],
)
meter = metrics.get_meter("peer")
with trace.use_span(outer):
    meter.create_counter("bills", "1", "bills sent").add(3, {"to": "post"})
    meter.create_up_down_counter("open").add(-2)
    meter.create_gauge("level").set(0.5)
    for value in (0.1, 7, 30_000):
        meter.create_histogram("size", "By").record(value)
metrics.shutdown()
logs.shutdown()
spans.shutdown()
print(json.dumps(sent))
