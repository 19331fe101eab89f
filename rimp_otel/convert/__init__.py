"""Our records and the OpenTelemetry SDK's, each made from the other.

So any OpenTelemetry exporter is a consumer, and can replay a stored window. Spans need nothing
of it: they are the SDK's ``ReadableSpan`` everywhere. Each name is loaded when it is first asked for
(PEP 562): who only reads a recording needs neither the SDK's logs nor its metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import on_demand

if TYPE_CHECKING:
    from rimp_otel.convert.logs import event_from_log_record, log_record_from_event
    from rimp_otel.convert.metrics import metrics_from_sdk, metrics_to_sdk
    from rimp_otel.convert.resources import (
        resource_from_sdk,
        resource_to_sdk,
        scope_from_sdk,
        scope_to_sdk,
        text_of_body,
    )

__all__ = [
    "event_from_log_record",
    "log_record_from_event",
    "metrics_from_sdk",
    "metrics_to_sdk",
    "resource_from_sdk",
    "resource_to_sdk",
    "scope_from_sdk",
    "scope_to_sdk",
    "text_of_body",
]

_MODULES = {
    "metrics": ("metrics_from_sdk", "metrics_to_sdk"),
    "logs": ("event_from_log_record", "log_record_from_event"),
    "resources": (
        "text_of_body",
        "resource_from_sdk",
        "resource_to_sdk",
        "scope_from_sdk",
        "scope_to_sdk",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__getattr__, __dir__ = on_demand(__name__, _HOMES)
