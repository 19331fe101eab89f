"""The records, and what can be asked of them: time, service, ids, filters, trees of spans.

Imports nothing of the package but ``errors`` and ``process``. Public are the names below;
``TelemetryData``, the batch of records, lives in ``rimp_otel.batch``, and spans are the SDK's
``ReadableSpan`` everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan as ReadableSpan

    from rimp_otel.batch import TelemetryData as TelemetryData
    from rimp_otel.models.filters import Filter as Filter
    from rimp_otel.models.records import Buckets as Buckets
    from rimp_otel.models.records import EventType as EventType
    from rimp_otel.models.records import Exemplar as Exemplar
    from rimp_otel.models.records import ExponentialHistogramPoint as ExponentialHistogramPoint
    from rimp_otel.models.records import HistogramPoint as HistogramPoint
    from rimp_otel.models.records import MetricKind as MetricKind
    from rimp_otel.models.records import ResourceInfo as ResourceInfo
    from rimp_otel.models.records import ScopeInfo as ScopeInfo
    from rimp_otel.models.records import Signal as Signal
    from rimp_otel.models.records import SummaryPoint as SummaryPoint
    from rimp_otel.models.records import TelemetryEvent as TelemetryEvent
    from rimp_otel.models.records import TelemetryMetric as TelemetryMetric
    from rimp_otel.models.records import Temporality as Temporality
    from rimp_otel.trace import Trace as Trace

export_lazily(
    __name__,
    {
        "Buckets": "rimp_otel.models.records",
        "EventType": "rimp_otel.models.records",
        "Exemplar": "rimp_otel.models.records",
        "ExponentialHistogramPoint": "rimp_otel.models.records",
        "Filter": "rimp_otel.models.filters",
        "HistogramPoint": "rimp_otel.models.records",
        "MetricKind": "rimp_otel.models.records",
        "ReadableSpan": "opentelemetry.sdk.trace",
        "ResourceInfo": "rimp_otel.models.records",
        "ScopeInfo": "rimp_otel.models.records",
        "Signal": "rimp_otel.models.records",
        "SummaryPoint": "rimp_otel.models.records",
        "TelemetryData": "rimp_otel.batch",
        "TelemetryEvent": "rimp_otel.models.records",
        "TelemetryMetric": "rimp_otel.models.records",
        "Temporality": "rimp_otel.models.records",
        "Trace": "rimp_otel.trace",
    },
)
