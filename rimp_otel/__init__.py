"""A flight recorder for Python services, as an OpenTelemetry plug-in.

The public names, nothing else.
"""

from __future__ import annotations

from rimp_otel.collector import CollectorStats, TelemetryCollector
from rimp_otel.config import TelemetryConfig
from rimp_otel.data import TelemetryData
from rimp_otel.errors import (
    ConfigurationError,
    DecodeError,
    MissingExtraError,
    RimpError,
    StorageError,
)
from rimp_otel.exporters import RimpLogRecordExporter, RimpMetricExporter, RimpSpanExporter
from rimp_otel.models import EventType, TelemetryEvent, TelemetryMetric
from rimp_otel.pipeline import Telemetry, install
from rimp_otel.storage import FileStorage, MemoryStorage, TelemetryStorage
from rimp_otel.streaming import TelemetryStream

__all__ = [
    "CollectorStats",
    "ConfigurationError",
    "DecodeError",
    "EventType",
    "FileStorage",
    "MemoryStorage",
    "MissingExtraError",
    "RimpError",
    "RimpLogRecordExporter",
    "RimpMetricExporter",
    "RimpSpanExporter",
    "StorageError",
    "Telemetry",
    "TelemetryCollector",
    "TelemetryConfig",
    "TelemetryData",
    "TelemetryEvent",
    "TelemetryMetric",
    "TelemetryStorage",
    "TelemetryStream",
    "install",
]
