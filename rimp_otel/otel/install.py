"""``install()``: a collector and its stream, set up as parts of the SDK's global providers."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel.collector.collector import TelemetryCollector, resource_from_config
from rimp_otel.config import TelemetryConfig
from rimp_otel.otel.logging_bridge import record_logging
from rimp_otel.process import Reporter
from rimp_otel.storage.base import TelemetryStorage
from rimp_otel.streaming.stream import TelemetryStream

__all__ = ["Telemetry", "install"]


class Telemetry:
    """The parts that ``install`` has set up. A context manager that shuts down at its end.

    Thread-safe.
    """

    def __init__(self, collector: TelemetryCollector, stream: TelemetryStream) -> None:
        #: Collects records; use it for the native API.
        self.collector = collector
        #: Moves records into the storage; use it to add consumers.
        self.stream = stream

    @property
    def storage(self) -> TelemetryStorage:
        """The storage; use it to read the records."""
        return self.stream.storage

    def shutdown(self, timeout: float | None = None) -> bool:
        """Store all that was collected, and end the thread. May be called more than once.

        Args:
            timeout: seconds that this may take; default: the configuration's ``flush_timeout``.

        Returns:
            True if all of it was stored in that time.
        """
        return self.stream.stop(timeout)

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()


def install(
    config: TelemetryConfig | None = None,
    *,
    storage: TelemetryStorage | None = None,
    resource: Resource | None = None,
    capture_logging: bool = True,
) -> Telemetry:
    """Record all three signals of this process from now on.

    Global providers that the application has set already get our components in addition; if there are
    none, the SDK's are made and set. Each call adds a recorder: two record everything twice.

    Args:
        config: how to behave; default: what the environment says, with files as the storage.
        storage: where to store records; default: the storage that the configuration names.
        resource: of the providers that are made, and of native records; default: made from the
            configuration and the environment.
        capture_logging: also record the standard library's logging, at the levels that its loggers
            let through. Needs opentelemetry-instrumentation-logging (extra ``run``), and does
            nothing without it.

    Raises:
        ConfigurationError: the environment has a value that is not allowed.
    """
    if config is None:
        config = TelemetryConfig.from_env(storage_backend="file")
    if resource is None:
        resource = resource_from_config(config)
    collector = TelemetryCollector(config, resource)
    telemetry = Telemetry(collector, TelemetryStream(collector, storage))
    if config.enabled:
        _install_traces(collector, resource)
        _install_logs(collector, resource)
        _install_metrics(telemetry.stream, resource)
        telemetry.stream.start()
        if capture_logging:
            record_logging()
    return telemetry


def _install_traces(collector: TelemetryCollector, resource: Resource) -> None:
    provider: Any = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        provider = TracerProvider(resource=resource)
        trace.set_tracer_provider(provider)
    provider.add_span_processor(collector)


def _install_logs(collector: TelemetryCollector, resource: Resource) -> None:
    provider: Any = _logs.get_logger_provider()
    if not hasattr(provider, "add_log_record_processor"):
        provider = LoggerProvider(resource=resource)
        _logs.set_logger_provider(provider)
    provider.add_log_record_processor(collector)


def _install_metrics(stream: TelemetryStream, resource: Resource) -> None:
    provider: Any = metrics.get_meter_provider()
    if not isinstance(provider, MeterProvider):
        metrics.set_meter_provider(MeterProvider(metric_readers=[stream], resource=resource))
    elif hasattr(provider, "add_metric_reader"):
        provider.add_metric_reader(stream)
    else:
        Reporter().warn(
            "metrics",
            "this SDK's MeterProvider takes no reader once it is made, so metrics are not recorded:"
            " call rimp_otel.install() before a MeterProvider is set",
        )


class _StreamReader(TelemetryStream):
    """Passes the stream that there is already to the SDK, which makes its readers itself.

    An entry point of the package: its name stays.
    """

    def __new__(cls, stream: TelemetryStream) -> Any:
        return stream

    def __init__(self, stream: TelemetryStream) -> None:
        raise AssertionError("the stream is passed on, not made")
