"""The SDK configurator that records a program which the environment alone sets up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk import _configuration as sdk
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.util._importlib_metadata import entry_points

from rimp_otel.collector.collector import (
    TelemetryCollector,
    adopt_resource,
    resource_from_config,
)
from rimp_otel.otel.install import Telemetry, make_config, set_recorder
from rimp_otel.otel.providers import join_meters, watch_providers
from rimp_otel.otel.run_report import ROOT_SPAN_VARIABLE
from rimp_otel.process import Reporter
from rimp_otel.streaming.stream import TelemetryStream

__all__ = ["RimpConfigurator"]


class RimpConfigurator(_OTelSDKConfigurator):
    """Configures the SDK from the environment, with a collector as its processor.

    Selected by OTEL_PYTHON_CONFIGURATOR=rimp. Exporters that OTEL_*_EXPORTER name are set up
    beside it. If it is not the one selected, is switched off, or fails to start, it does what the SDK's
    own configurator does: the application then has the OpenTelemetry that it has without us.
    """

    def _configure(self, **kwargs: Any) -> None:
        selected = os.environ.get("OTEL_PYTHON_CONFIGURATOR") == "rimp"
        telemetry = None
        if selected and not os.environ.get("OTEL_CONFIG_FILE"):
            telemetry = _make_recorder()
        if telemetry is None:
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]
            return
        collector, stream = telemetry.collector, telemetry.stream
        named = resource_from_config(collector.config).attributes["service.name"]
        attributes = {
            **(kwargs.pop("resource_attributes", None) or {}),
            **collector.config.resource_attributes,
            "service.name": named,
        }
        with _other_exporters_only(), _reading_with(stream):
            super()._configure(  # type: ignore[no-untyped-call]
                **kwargs,
                resource_attributes=attributes,
                span_processors=[collector],
                log_record_processors=[collector],
            )
        tracers: Any = trace.get_tracer_provider()
        made = [tracers, _logs.get_logger_provider(), metrics.get_meter_provider()]
        watch_providers(collector, stream, made)
        adopt_resource(collector, tracers.resource)
        set_recorder(telemetry)
        stream.start()
        telemetry._capture_logging(tracers.resource)
        # Not for the processes that this one starts, too.
        if os.environ.pop(ROOT_SPAN_VARIABLE, None):
            telemetry._start_root_span()


def _make_recorder() -> Telemetry | None:
    """Return a recorder that the environment configures; None if it is switched off or fails."""
    try:
        config = make_config()
        if not config.enabled:
            return None
        collector = TelemetryCollector(config)
        return Telemetry(collector, TelemetryStream(collector))
    except Exception as error:
        Reporter().warn("start", f"nothing is recorded: {error}")
        return None


@contextmanager
def _reading_with(stream: TelemetryStream) -> Iterator[None]:
    """Give a stream to the MeterProvider that the SDK makes meanwhile."""
    if hasattr(MeterProvider, "add_metric_reader"):
        yield
        join_meters(metrics.get_meter_provider(), stream)
        return
    # Until 1.44 a provider has the readers that it is made with, and the SDK makes those itself, of classes.
    configuration: Any = sdk
    init_metrics = configuration._init_metrics

    class Passed(TelemetryStream):
        def __new__(cls, *_: object, **__: object) -> Any:
            return stream

    @wraps(init_metrics)
    def init(*args: Any, **kwargs: Any) -> None:
        bound = signature(init_metrics).bind(*args, **kwargs)
        first = next(iter(bound.arguments))
        bound.arguments[first] = {**bound.arguments[first], "rimp": Passed}
        init_metrics(*bound.args, **bound.kwargs)

    configuration._init_metrics = init
    try:
        yield
    finally:
        configuration._init_metrics = init_metrics


@contextmanager
def _other_exporters_only() -> Iterator[None]:
    """Hide the exporters in OTEL_*_EXPORTER that would record twice, or are not installed.

    ``opentelemetry-distro`` names OTLP there, whether its exporter is installed or not.
    """
    before = {}
    for signal in ("traces", "metrics", "logs"):
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        before[variable] = names = os.environ.get(variable)
        listed = [name.strip() for name in (names or "").split(",")]
        kept = [name for name in listed if _is_usable_exporter(signal, name)]
        os.environ[variable] = ",".join(kept) or "none"
    try:
        yield
    finally:
        for variable, names in before.items():
            if names is None:
                del os.environ[variable]
            else:
                os.environ[variable] = names


def _is_usable_exporter(signal: str, name: str) -> bool:
    if name in {"", "none", "rimp"} or (signal, name) == ("metrics", "prometheus"):
        return False  # the recorder itself serves Prometheus, for all processes
    if name != "otlp":
        return True
    protocol = (
        os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "grpc"
    )
    kind = protocol.strip().partition("/")[0]  # of grpc and http/protobuf
    return bool(entry_points(group=f"opentelemetry_{signal}_exporter", name=f"otlp_proto_{kind}"))
