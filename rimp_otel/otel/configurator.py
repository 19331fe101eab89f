"""The SDK configurator that records a program which the environment alone sets up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.util._importlib_metadata import entry_points

from rimp_otel.collector.collector import TelemetryCollector, adopt_resource
from rimp_otel.config import TelemetryConfig
from rimp_otel.otel.install import _StreamReader
from rimp_otel.streaming.stream import TelemetryStream

__all__ = ["RimpConfigurator"]

_READER = "rimp_stream"


class RimpConfigurator(_OTelSDKConfigurator):
    """Configures the SDK from the environment, with a collector as its processor.

    Selected by OTEL_PYTHON_CONFIGURATOR=rimp. Exporters that OTEL_*_EXPORTER name are set up beside
    it. If another configurator is selected, it does what the SDK's own one does: an application that
    merely has this package installed is not recorded.
    """

    def _configure(self, **kwargs: Any) -> None:
        selected = os.environ.get("OTEL_PYTHON_CONFIGURATOR") == "rimp"
        if not selected or os.environ.get("OTEL_CONFIG_FILE"):
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]
            return
        config = TelemetryConfig.from_env(storage_backend="file")
        if config.enabled:
            self._configure_recorder(config, kwargs)

    def _configure_recorder(self, config: TelemetryConfig, kwargs: dict[str, Any]) -> None:
        collector = TelemetryCollector(config)
        stream = TelemetryStream(collector)
        with _other_exporters_only():
            super()._configure(  # type: ignore[no-untyped-call]
                **kwargs,
                span_processors=[collector],
                log_record_processors=[collector],
                metric_exporter_names=[_READER],
                exporter_args_map={_StreamReader: {"stream": stream}},
            )
        provider: Any = trace.get_tracer_provider()
        adopt_resource(collector, provider.resource)
        stream.start()


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
    if name in {"", "none", "rimp"}:
        return False
    if name != "otlp":
        return True
    protocol = (
        os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "grpc"
    )
    kind = protocol.strip().partition("/")[0]  # of grpc and http/protobuf
    return bool(entry_points(group=f"opentelemetry_{signal}_exporter", name=f"otlp_proto_{kind}"))
