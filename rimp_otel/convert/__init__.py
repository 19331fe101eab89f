"""Conversions between our records and the OpenTelemetry SDK's, in both directions.

With them any OpenTelemetry exporter can be a consumer, and a stored window can be replayed. Spans
need none: they are the SDK's ``ReadableSpan`` everywhere.

Imports ``models`` and ``otlp`` (for attribute values and their repairs). Public are the names below,
each loaded when it is first asked for, since reading a recording needs neither the SDK's logs nor
its metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord as ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData as MetricsData

    from rimp_otel.convert.logs import event_from_log_record as event_from_log_record
    from rimp_otel.convert.logs import log_record_from_event as log_record_from_event
    from rimp_otel.convert.metrics import metrics_from_sdk as metrics_from_sdk
    from rimp_otel.convert.metrics import metrics_to_sdk as metrics_to_sdk
    from rimp_otel.convert.resources import resource_from_sdk as resource_from_sdk
    from rimp_otel.convert.resources import resource_to_sdk as resource_to_sdk
    from rimp_otel.convert.resources import scope_from_sdk as scope_from_sdk
    from rimp_otel.convert.resources import scope_to_sdk as scope_to_sdk
    from rimp_otel.convert.resources import text_of_body as text_of_body

export_lazily(
    __name__,
    {
        "MetricsData": "opentelemetry.sdk.metrics.export",
        "ReadableLogRecord": "opentelemetry.sdk._logs",
        "event_from_log_record": "rimp_otel.convert.logs",
        "log_record_from_event": "rimp_otel.convert.logs",
        "metrics_from_sdk": "rimp_otel.convert.metrics",
        "metrics_to_sdk": "rimp_otel.convert.metrics",
        "resource_from_sdk": "rimp_otel.convert.resources",
        "resource_to_sdk": "rimp_otel.convert.resources",
        "scope_from_sdk": "rimp_otel.convert.resources",
        "scope_to_sdk": "rimp_otel.convert.resources",
        "text_of_body": "rimp_otel.convert.resources",
    },
)
