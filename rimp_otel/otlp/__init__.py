"""OTLP JSON: records to text, and text to records.

Specification: opentelemetry-proto 1.x and its JSON mapping
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).

The two names are loaded when they are first asked for (PEP 562): encoding metrics takes the SDK's
metrics, which who only reads a recording does not wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import on_demand

if TYPE_CHECKING:
    from rimp_otel.otlp.encode_metrics import encode_metric, encode_metrics_data

__all__ = ["encode_metric", "encode_metrics_data"]

_HOMES = dict.fromkeys(__all__, "encode_metrics")

__getattr__, __dir__ = on_demand(__name__, _HOMES)
