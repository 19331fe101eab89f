"""Our records and the OpenTelemetry SDK's, each made from the other.

So any OpenTelemetry exporter is a consumer, and can replay a stored window. Spans need nothing
of it: they are the SDK's ``ReadableSpan`` everywhere.
"""

from __future__ import annotations

from rimp_otel.convert.from_metrics import metrics_from_sdk
from rimp_otel.convert.logs import event_from_log_record, log_record_from_event
from rimp_otel.convert.origins import (
    resource_from_sdk,
    resource_to_sdk,
    scope_from_sdk,
    scope_to_sdk,
)
from rimp_otel.convert.to_metrics import metrics_to_sdk
from rimp_otel.convert.values import body_text

__all__ = [
    "body_text",
    "event_from_log_record",
    "log_record_from_event",
    "metrics_from_sdk",
    "metrics_to_sdk",
    "resource_from_sdk",
    "resource_to_sdk",
    "scope_from_sdk",
    "scope_to_sdk",
]
