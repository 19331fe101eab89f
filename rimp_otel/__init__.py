"""A flight recorder for Python services, as an OpenTelemetry plug-in.

The public names, nothing else. Each is loaded when it is first asked for (PEP 562), so that a program
that merely imports the package, or one part of it, does not wait for all of it.

The folders follow the data: ``otel`` and ``collector`` take records in, ``journal`` keeps them safe,
``streaming`` moves them into a ``storage``; ``sql``, ``analysis`` and ``cli`` read them. ``models``,
``otlp``, ``convert`` and ``render`` are what records are, and are turned into. docs/architecture.md has
the picture.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData as TelemetryData
    from rimp_otel.collector.collector import TelemetryCollector as TelemetryCollector
    from rimp_otel.collector.stats import CollectorStats as CollectorStats
    from rimp_otel.config import TelemetryConfig as TelemetryConfig
    from rimp_otel.errors import ConfigurationError as ConfigurationError
    from rimp_otel.errors import DecodeError as DecodeError
    from rimp_otel.errors import MissingExtraError as MissingExtraError
    from rimp_otel.errors import NoRecordingError as NoRecordingError
    from rimp_otel.errors import QueryError as QueryError
    from rimp_otel.errors import RimpError as RimpError
    from rimp_otel.errors import StorageError as StorageError
    from rimp_otel.models.filters import Filter as Filter
    from rimp_otel.models.records import EventType as EventType
    from rimp_otel.models.records import HistogramPoint as HistogramPoint
    from rimp_otel.models.records import MetricKind as MetricKind
    from rimp_otel.models.records import ResourceInfo as ResourceInfo
    from rimp_otel.models.records import ScopeInfo as ScopeInfo
    from rimp_otel.models.records import Signal as Signal
    from rimp_otel.models.records import TelemetryEvent as TelemetryEvent
    from rimp_otel.models.records import TelemetryMetric as TelemetryMetric
    from rimp_otel.otel.exporters import RimpLogRecordExporter as RimpLogRecordExporter
    from rimp_otel.otel.exporters import RimpMetricExporter as RimpMetricExporter
    from rimp_otel.otel.exporters import RimpSpanExporter as RimpSpanExporter
    from rimp_otel.otel.install import Telemetry as Telemetry
    from rimp_otel.otel.install import install as install
    from rimp_otel.sql import connect as connect
    from rimp_otel.storage.base import TelemetryStorage as TelemetryStorage
    from rimp_otel.storage.base import select as select
    from rimp_otel.storage.clickhouse.storage import ClickHouseStorage as ClickHouseStorage
    from rimp_otel.storage.files.policy import FileStats as FileStats
    from rimp_otel.storage.files.storage import FileStorage as FileStorage
    from rimp_otel.storage.memory import MemoryStorage as MemoryStorage
    from rimp_otel.storage.recording import open_recording as open_recording
    from rimp_otel.storage.sqlite.storage import SQLiteStorage as SQLiteStorage
    from rimp_otel.storage.sqlite.writer import SQLiteStats as SQLiteStats
    from rimp_otel.streaming.stream import StreamStats as StreamStats
    from rimp_otel.streaming.stream import TelemetryStream as TelemetryStream
    from rimp_otel.trace import Trace as Trace

    __version__: str

_MODULES = {
    "ClickHouseStorage": "rimp_otel.storage.clickhouse.storage",
    "CollectorStats": "rimp_otel.collector.stats",
    "ConfigurationError": "rimp_otel.errors",
    "DecodeError": "rimp_otel.errors",
    "EventType": "rimp_otel.models.records",
    "FileStats": "rimp_otel.storage.files.policy",
    "FileStorage": "rimp_otel.storage.files.storage",
    "Filter": "rimp_otel.models.filters",
    "HistogramPoint": "rimp_otel.models.records",
    "MemoryStorage": "rimp_otel.storage.memory",
    "MetricKind": "rimp_otel.models.records",
    "MissingExtraError": "rimp_otel.errors",
    "NoRecordingError": "rimp_otel.errors",
    "QueryError": "rimp_otel.errors",
    "ResourceInfo": "rimp_otel.models.records",
    "RimpError": "rimp_otel.errors",
    "RimpLogRecordExporter": "rimp_otel.otel.exporters",
    "RimpMetricExporter": "rimp_otel.otel.exporters",
    "RimpSpanExporter": "rimp_otel.otel.exporters",
    "SQLiteStats": "rimp_otel.storage.sqlite.writer",
    "SQLiteStorage": "rimp_otel.storage.sqlite.storage",
    "ScopeInfo": "rimp_otel.models.records",
    "Signal": "rimp_otel.models.records",
    "StorageError": "rimp_otel.errors",
    "StreamStats": "rimp_otel.streaming.stream",
    "Telemetry": "rimp_otel.otel.install",
    "TelemetryCollector": "rimp_otel.collector.collector",
    "TelemetryConfig": "rimp_otel.config",
    "TelemetryData": "rimp_otel.batch",
    "TelemetryEvent": "rimp_otel.models.records",
    "TelemetryMetric": "rimp_otel.models.records",
    "TelemetryStorage": "rimp_otel.storage.base",
    "TelemetryStream": "rimp_otel.streaming.stream",
    "Trace": "rimp_otel.trace",
    "connect": "rimp_otel.sql",
    "install": "rimp_otel.otel.install",
    "open_recording": "rimp_otel.storage.recording",
    "select": "rimp_otel.storage.base",
}
"""The module that defines each public name. The packages within pass theirs to ``lazy_exports``; this
one does the same by itself, since importing it loads no module at all."""

if not TYPE_CHECKING:
    __all__ = list(_MODULES)

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            value: Any = version("rimp-otel")
        elif name in _MODULES:
            value = getattr(import_module(_MODULES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value  # found at once from now on
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, "__version__"})
