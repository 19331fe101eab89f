"""The SDK's three exporters, into a storage."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from rimp_otel.batch import TelemetryData
from rimp_otel.collector.stats import ExporterMetrics
from rimp_otel.config import TelemetryConfig
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter
from rimp_otel.storage.base import TelemetryStorage
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.storage.sqlite.storage import SQLiteStorage
from rimp_otel.streaming.stream import storage_for

__all__ = ["RimpLogRecordExporter", "RimpMetricExporter", "RimpSpanExporter"]


class _StorageExport:
    """The part that the three share: a storage, and an export that never raises.

    A record is in the storage, durable without any flush, when ``export`` returns success.
    """

    def __init__(
        self,
        exporter: object,
        signal: Signal,
        storage: TelemetryStorage | None,
        path: str | os.PathLike[str] | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        if storage is not None and path is not None:
            raise ConfigurationError(
                f"expected a storage or a path, got both: storage={storage!r}, path={path!r}"
            )
        config = TelemetryConfig.from_env(storage_backend="file")
        self.enabled = config.enabled
        if storage is not None:
            self.storage = storage
        else:
            make = SQLiteStorage if config.storage_backend == "sqlite" else FileStorage
            self.storage = make(path) if path is not None else storage_for(config)
        self._metrics = ExporterMetrics(exporter, signal, meter_provider)
        self._reporter = Reporter()
        self._ended = False

    def __call__(self, batch: Callable[[], TelemetryData]) -> bool:
        """Store the batch that ``batch`` makes; return True if that succeeded."""
        if self._ended:
            self._reporter.warn("ended", "an exporter was given records after its shutdown")
            return False
        what = "what was exported"
        try:
            data = batch()
            if self.enabled and data:
                what = f"{len(data)} record{'s' * (len(data) != 1)}"
                with self._metrics.export(len(data)):
                    self.storage.store(data)
        except Exception as error:
            self._reporter.warn("store", f"{what} could not be stored: {error}")
            return False
        return True

    def shutdown(self) -> None:
        """Close the storage; what is exported afterwards is refused."""
        self._ended = True
        try:
            self.storage.close()
        except Exception as error:
            self._reporter.warn("close", f"the storage could not be closed: {error}")


class RimpSpanExporter(SpanExporter):
    """Exports spans into a storage. Thread-safe if the storage is, as this package's are.

    Args:
        storage: where to store them.
        path: the path of a recording instead of a storage, as FileStorage takes it, or SQLiteStorage if
            RIMP_STORAGE_BACKEND is "sqlite". With neither, the storage that the environment names:
            files at RIMP_STORAGE_PATH, or in ``telemetry``.
        meter_provider: for the exporter's own metrics; default: the global one.

    Raises:
        ConfigurationError: both ``storage`` and ``path`` are given.
    """

    def __init__(
        self,
        storage: TelemetryStorage | None = None,
        path: str | os.PathLike[str] | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._export = _StorageExport(self, Signal.TRACES, storage, path, meter_provider)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Store the spans; return FAILURE if that is not possible. Never raises."""
        done = self._export(lambda: TelemetryData(spans=spans))
        return SpanExportResult.SUCCESS if done else SpanExportResult.FAILURE

    def shutdown(self, *_: Any, **__: Any) -> None:
        """Close the storage; what is exported afterwards is refused."""
        self._export.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: what was exported is stored."""
        return True


class RimpLogRecordExporter(LogRecordExporter):
    """Exports log records into a storage; arguments as for RimpSpanExporter."""

    def __init__(
        self,
        storage: TelemetryStorage | None = None,
        path: str | os.PathLike[str] | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._export = _StorageExport(self, Signal.LOGS, storage, path, meter_provider)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Store the log records; return FAILURE if that is not possible. Never raises."""
        done = self._export(lambda: TelemetryData.from_log_records(batch))
        return LogRecordExportResult.SUCCESS if done else LogRecordExportResult.FAILURE

    def shutdown(self, *_: Any, **__: Any) -> None:
        """Close the storage; what is exported afterwards is refused."""
        self._export.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: what was exported is stored."""
        return True


class RimpMetricExporter(MetricExporter):
    """Exports metrics into a storage; arguments as for RimpSpanExporter.

    ``preferred_temporality`` and ``preferred_aggregation`` are as for every MetricExporter.
    """

    def __init__(
        self,
        storage: TelemetryStorage | None = None,
        path: str | os.PathLike[str] | None = None,
        meter_provider: MeterProvider | None = None,
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Aggregation] | None = None,
    ) -> None:
        super().__init__(
            preferred_temporality=preferred_temporality,
            preferred_aggregation=preferred_aggregation,
        )
        self._export = _StorageExport(self, Signal.METRICS, storage, path, meter_provider)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Store the data points; return FAILURE if that is not possible. Never raises."""
        done = self._export(lambda: TelemetryData.from_metrics_data(metrics_data))
        return MetricExportResult.SUCCESS if done else MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the storage; what is exported afterwards is refused."""
        self._export.shutdown()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Return True: what was exported is stored."""
        return True
