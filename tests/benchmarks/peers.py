"""The peers, set up as their documentation says, with queues that drop nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

JSON_FILE = "opentelemetry-exporter-otlp-json-file"
PROTO_HTTP = "opentelemetry-exporter-otlp-proto-http"
LOGGING = "opentelemetry-instrumentation-logging"

PLENTY = 10_000_000
_DELAY = 1_000


def span_file(path: Path) -> Any:
    """Return the official JSON file exporter of spans."""
    from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter

    return FileSpanExporter(path)


def log_file(path: Path) -> Any:
    """Return the official JSON file exporter of log records."""
    from opentelemetry.exporter.otlp.json.file._log_exporter import FileLogExporter

    return FileLogExporter(path)


def metric_file(**target: Any) -> Any:
    """Return the official JSON file exporter of metrics for ``path`` or ``stream``."""
    from opentelemetry.exporter.otlp.json.file.metric_exporter import FileMetricExporter

    return FileMetricExporter(**target)


def span_http(url: str) -> Any:
    """Return the official OTLP/HTTP exporter of spans, in protobuf."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=url)


def batch_spans(exporter: Any) -> Any:
    """Return the SDK's batching processor of spans, with a queue that holds everything."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(exporter, max_queue_size=PLENTY, schedule_delay_millis=_DELAY)


def batch_logs(exporter: Any) -> Any:
    """Return the SDK's batching processor of log records, with a queue that holds everything."""
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    return BatchLogRecordProcessor(exporter, max_queue_size=PLENTY, schedule_delay_millis=_DELAY)


def count_text(path: Path, text: bytes) -> int:
    """Return how often a text is in a file."""
    found = 0
    with path.open("rb") as lines:
        for line in lines:
            found += line.count(text)
    return found
