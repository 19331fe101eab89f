"""OTLP JSON: records to text, and text to records.

Specification: opentelemetry-proto 1.x and its JSON mapping
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).

The two names are loaded when they are first asked for (PEP 562): encoding metrics takes the SDK's
metrics, which who only reads a recording does not wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.models.records import Signal as Signal
    from rimp_otel.otlp.decode import Decoded as Decoded
    from rimp_otel.otlp.decode import decode_line as decode_line
    from rimp_otel.otlp.encode_metrics import encode_metric as encode_metric
    from rimp_otel.otlp.encode_metrics import encode_metrics_data as encode_metrics_data

export_lazily(
    __name__,
    {
        "Decoded": "rimp_otel.otlp.decode",
        "Signal": "rimp_otel.models.records",
        "decode_line": "rimp_otel.otlp.decode",
        "encode_metric": "rimp_otel.otlp.encode_metrics",
        "encode_metrics_data": "rimp_otel.otlp.encode_metrics",
    },
)
