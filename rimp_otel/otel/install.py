"""``install()``: a collector and its stream, set up as parts of the SDK's global providers."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from opentelemetry.sdk.resources import Resource

from rimp_otel.collector.collector import (
    TelemetryCollector,
    adopt_resource,
    resource_from_config,
    retire_collector,
)
from rimp_otel.collector.service_name import name_of_process
from rimp_otel.config import TelemetryConfig
from rimp_otel.errors import ConfigurationError
from rimp_otel.otel.logging_capture import LoggingCapture, capture_logging
from rimp_otel.otel.program_ends import call_at_program_ends
from rimp_otel.otel.providers import join_providers
from rimp_otel.otel.uncaught import RootSpan, record_uncaught
from rimp_otel.process import Reporter
from rimp_otel.storage.base import TelemetryStorage
from rimp_otel.streaming.stream import TelemetryStream

__all__ = ["Telemetry", "install", "installed_recorder", "make_config", "set_recorder"]


class Telemetry:
    """The parts that ``install`` has set up. A context manager that shuts down at its end.

    Thread-safe.
    """

    def __init__(self, collector: TelemetryCollector, stream: TelemetryStream) -> None:
        #: Collects records; use it for the native API.
        self.collector = collector
        #: Moves records into the storage; use it to add consumers.
        self.stream = stream
        self._capture: LoggingCapture | None = None
        self._settings: Mapping[str, Any] = {}
        self._is_shut_down = False

    @property
    def storage(self) -> TelemetryStorage:
        """The storage; use it to read the records."""
        return self.stream.storage

    def loguru_sink(self, message: Any) -> None:
        """Record a message of loguru with its fields: ``logger.add(telemetry.loguru_sink)``."""
        self._make_capture().record_loguru(message)

    def structlog_processor(
        self, logger: Any, method: str, event_dict: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Record an event of structlog with its fields, and return it as it is.

        Put it into ``structlog.configure(processors=[…])`` before the renderer.
        """
        self._make_capture().record_structlog(logger, method, event_dict)
        return event_dict

    def shutdown(self, timeout: float | None = None) -> bool:
        """Store all that was collected, and end the thread. May be called more than once.

        Args:
            timeout: seconds that this may take; default: the configuration's ``flush_timeout``.

        Returns:
            True if all of it was stored in that time.
        """
        self._is_shut_down = True
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

    def _make_capture(self, resource: Resource | None = None) -> LoggingCapture:
        if self._capture is None:
            if resource is None:
                resource = resource_from_config(self.collector.config)
            self._capture = LoggingCapture(
                self.collector,
                resource,
                _level_from_env(os.environ),
                os.environ.get("OTEL_PYTHON_LOG_CODE_ATTRIBUTES", "").strip().lower() == "true",
            )
        return self._capture

    def _capture_logging(self, resource: Resource) -> None:
        """Record the standard library's logging, unless the environment says not to."""
        switch = os.environ.get("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION", "true").strip().lower()
        disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
        if switch != "false" and "logging" not in {name.strip() for name in disabled}:
            capture = self._make_capture(resource)
            capture_logging(capture)
            record_uncaught(capture, lambda: not self._is_shut_down)

    def _start_root_span(self) -> None:
        """Start a span around the program, which ends with it."""
        RootSpan(self.collector, name_of_process() or "python")


def _level_from_env(environ: Mapping[str, str]) -> int:
    """Return the level that OTEL_PYTHON_LOG_HANDLER_LEVEL names; NOTSET if it names none."""
    level = logging.getLevelName(environ.get("OTEL_PYTHON_LOG_HANDLER_LEVEL", "").strip().upper())
    return level if isinstance(level, int) else logging.NOTSET


_installing = threading.RLock()
_recorder: Telemetry | None = None


def installed_recorder() -> Telemetry | None:
    """Return the recorder of this process; None if there is none, or it has been shut down."""
    return None if _recorder is None or _recorder._is_shut_down else _recorder


def set_recorder(telemetry: Telemetry) -> None:
    """Make ``telemetry`` the recorder of this process; the one before it collects nothing more."""
    global _recorder
    if _recorder is not None:
        retire_collector(_recorder.collector)
    _recorder = telemetry
    call_at_program_ends(_store_everything)


def _store_everything() -> None:
    """Store what was measured and collected, and wait for it as long as ``flush_timeout`` says."""
    telemetry = installed_recorder()
    if telemetry is not None:
        telemetry.stream.force_flush(telemetry.collector.config.flush_timeout * 1_000)


def install(
    config: TelemetryConfig | None = None,
    *,
    storage: TelemetryStorage | None = None,
    resource: Resource | None = None,
    capture_logging: bool = True,
    root_span: bool = False,
    quiet: bool = False,
    path: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Telemetry:
    """Record all three signals of this process from now on.

    Global providers that the application has set get our components in addition, those that it sets
    later too; where there are none, the SDK's are made and set. A process has one recorder: a second call
    returns the first one, until that has been shut down. May be called from any thread.

    Args:
        config: how to behave; default: what the environment says.
        storage: where to store records; default: what the configuration names, else files in
            ``telemetry/``.
        resource: of the providers that are made, and of native records; default: that of the
            application's provider, else made from the configuration and the environment.
        capture_logging: also record the standard library's logging, at the levels that its loggers
            let through.
        root_span: have one span around a script: all that its main thread does from now on is one trace.
            Not around a server, whose requests are traces of their own.
        quiet: do not print on standard error where it records.
        path: ``storage_path`` of the configuration.
        settings: other fields of the configuration; they override ``config`` and the environment.

    Raises:
        ConfigurationError: a setting is unknown or not allowed.
    """
    if path is not None:
        settings["storage_path"] = path
    with _installing:
        existing = installed_recorder()
        given = {"config": config, "storage": storage, "resource": resource, **settings}
        if existing is not None:
            _warn_ignored_arguments(existing, given)
            return existing
        config = make_config(config, settings, needs_storage=storage is None)
        collector = TelemetryCollector(config, resource)
        telemetry = Telemetry(collector, TelemetryStream(collector, storage))
        telemetry._settings = given
        set_recorder(telemetry)
        if not config.enabled:
            return telemetry
        found = join_providers(
            collector, telemetry.stream, resource or resource_from_config(config)
        )
        if resource is None and not config.service_name:
            adopt_resource(collector, found)
        telemetry.stream.start()
        if capture_logging:
            telemetry._capture_logging(found if resource is None else resource)
        if root_span:
            telemetry._start_root_span()
        if not quiet:
            _report_location(telemetry, is_custom=storage is not None)
        return telemetry


def make_config(
    config: TelemetryConfig | None = None,
    settings: Mapping[str, Any] | None = None,
    needs_storage: bool = True,
) -> TelemetryConfig:
    """Return a recorder's configuration: ``settings`` over ``config``, or over the environment.

    Args:
        config: what ``settings`` override; default: what the environment says.
        settings: fields of the configuration.
        needs_storage: record into files if neither names a storage.

    Raises:
        ConfigurationError: a setting, or a variable of the environment, is unknown or not allowed.
    """
    settings = settings or {}
    unknown = settings.keys() - {field.name for field in dataclasses.fields(TelemetryConfig)}
    if unknown:
        name = sorted(unknown)[0]
        raise ConfigurationError(
            f"unknown setting {name!r}: see TelemetryConfig for the fields there are"
        )
    base = TelemetryConfig.from_env() if config is None else config
    merged = dataclasses.replace(base, **settings) if settings else base
    if merged.names_storage or not needs_storage:
        return merged
    return dataclasses.replace(merged, storage_backend="file")


def _warn_ignored_arguments(existing: Telemetry, given: Mapping[str, Any]) -> None:
    ignored = sorted(
        name
        for name, value in given.items()
        if value is not None and existing._settings.get(name) != value
    )
    if ignored:
        Reporter().warn(
            "install",
            f"install() was called before, so this call's {', '.join(ignored)} is ignored; "
            "shut the first recorder down before you install another",
        )


def _report_location(telemetry: Telemetry, is_custom: bool) -> None:
    config = telemetry.collector.config
    if is_custom:
        where = f"with {type(telemetry.storage).__name__}"
    elif config.storage_backend == "memory":
        where = "in memory only: nothing is left when this process ends"
    else:
        where = f"in {config.path}"
    if config.storage_backend == "clickhouse" and not is_custom:
        where = f"with {telemetry.storage!r}"
    Reporter().warn("where", f"recording {where}")
