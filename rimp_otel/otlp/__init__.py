"""OTLP JSON: encoding records, decoding lines, summaries of lines, files of other tools.

Specification: opentelemetry-proto 1.x and its JSON mapping
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding). Each encoder has a fast path for
records as the SDK makes them, and a careful one that repairs whatever an application has put into
a record; both give the same text.

Imports ``models`` and the layer below it. Public are the names below: decoding a line, and encoding
metrics for exporters. Encoding metrics needs the SDK's metrics, which reading does not load.
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
    from rimp_otel.otlp.lines import EncodedRecord as EncodedRecord

export_lazily(
    __name__,
    {
        "Decoded": "rimp_otel.otlp.decode",
        "EncodedRecord": "rimp_otel.otlp.lines",
        "Signal": "rimp_otel.models.records",
        "decode_line": "rimp_otel.otlp.decode",
        "encode_metric": "rimp_otel.otlp.encode_metrics",
        "encode_metrics_data": "rimp_otel.otlp.encode_metrics",
    },
)
