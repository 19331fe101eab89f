"""Collector to storage: the stream, its background thread, and the consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.streaming.stream import StreamStats as StreamStats
    from rimp_otel.streaming.stream import TelemetryStream as TelemetryStream

export_lazily(
    __name__,
    {
        "StreamStats": "rimp_otel.streaming.stream",
        "TelemetryStream": "rimp_otel.streaming.stream",
    },
)
