"""Collector to storage: the stream, its background thread, and the consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import on_demand

if TYPE_CHECKING:
    from rimp_otel.streaming.stream import StreamStats, TelemetryStream

__all__ = ["StreamStats", "TelemetryStream"]

_HOMES = {"StreamStats": "stream", "TelemetryStream": "stream"}

__getattr__, __dir__ = on_demand(__name__, _HOMES)
