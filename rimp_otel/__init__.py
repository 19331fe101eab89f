"""A flight recorder for Python services, as an OpenTelemetry plug-in.

The public names, nothing else. Each is loaded when it is first asked for (PEP 562), so that a
program that merely imports the package, or one part of it, does not wait for all of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData
    from rimp_otel.collector import CollectorStats, TelemetryCollector
    from rimp_otel.config import TelemetryConfig
    from rimp_otel.errors import (
        ConfigurationError,
        DecodeError,
        MissingExtraError,
        RimpError,
        StorageError,
    )
    from rimp_otel.models.records import EventType, TelemetryEvent, TelemetryMetric
    from rimp_otel.otel.exporters import RimpLogRecordExporter, RimpMetricExporter, RimpSpanExporter
    from rimp_otel.otel.install import Telemetry, install
    from rimp_otel.storage import FileStorage, MemoryStorage, SQLiteStorage, TelemetryStorage
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
    "SQLiteStorage",
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

_MODULES = {
    "batch": ("TelemetryData",),
    "collector": ("CollectorStats", "TelemetryCollector"),
    "config": ("TelemetryConfig",),
    "errors": (
        "ConfigurationError",
        "DecodeError",
        "MissingExtraError",
        "RimpError",
        "StorageError",
    ),
    "models.records": ("EventType", "TelemetryEvent", "TelemetryMetric"),
    "otel.exporters": ("RimpLogRecordExporter", "RimpMetricExporter", "RimpSpanExporter"),
    "otel.install": ("Telemetry", "install"),
    "storage": ("FileStorage", "MemoryStorage", "SQLiteStorage", "TelemetryStorage"),
    "streaming": ("TelemetryStream",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
