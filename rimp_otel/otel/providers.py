"""OpenTelemetry's global providers: a recorder joins those that are set, before it or after it.

The API keeps the provider that was set first, and refuses another. A provider that a recorder had to make
must not keep out the one that the application sets later: that one becomes the global one, and the
recorder records it too. Tracers that were handed out before then make their spans with the new provider,
so that the application's exporters get them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel.collector.collector import TelemetryCollector
from rimp_otel.process import Reporter
from rimp_otel.streaming.stream import TelemetryStream, reader_for

__all__ = ["join_meters", "join_providers", "watch_providers"]

_TRACER, _LOGGER, _METER = "TRACER", "LOGGER", "METER"
_MODULES: dict[str, tuple[ModuleType, ...]] = {
    # The module that keeps the provider first, then others that export its functions.
    _TRACER: (trace,),
    _LOGGER: (logs_internal, _logs),
    _METER: (metrics_internal, metrics),
}


def join_providers(
    collector: TelemetryCollector, stream: TelemetryStream, resource: Resource
) -> Resource:
    """Have the global providers record into a collector and a stream; make the providers that are missing.

    Args:
        collector: collects spans and log records.
        stream: reads metrics.
        resource: of the providers that are made.

    Returns:
        The resource of the tracer provider that was there before, else of another provider; ``resource``
        if there was none.
    """
    tracers: Any = trace.get_tracer_provider()
    loggers: Any = _logs.get_logger_provider()
    meters: Any = metrics.get_meter_provider()
    found = resource
    for provider in (meters, loggers, tracers):
        theirs = getattr(provider, "resource", None)
        found = theirs if isinstance(theirs, Resource) else found
    made = []
    if not _add_collector(tracers, collector):
        tracers = TracerProvider(resource=resource)
        _add_collector(tracers, collector)
        trace.set_tracer_provider(tracers)
        made.append(tracers)
    if not _add_collector(loggers, collector):
        loggers = LoggerProvider(resource=resource)
        _add_collector(loggers, collector)
        _logs.set_logger_provider(loggers)
        made.append(loggers)
    if not isinstance(meters, MeterProvider):
        meters = MeterProvider(metric_readers=[stream], resource=resource)
        metrics.set_meter_provider(meters)
        made.append(meters)
    else:
        join_meters(meters, stream)
    watch_providers(collector, stream, made)
    return found


def watch_providers(
    collector: TelemetryCollector, stream: TelemetryStream, made: list[Any]
) -> None:
    """Record the providers, too, that the application sets from now on in place of ours.

    Does nothing if this version of the API cannot be made to take another provider.

    Args:
        collector: collects spans and log records.
        stream: reads metrics.
        made: the providers that were made for this recorder.
    """
    watched = _ProviderWatch(collector, stream, made)
    for kind, modules in _MODULES.items():
        home = modules[0]
        if not hasattr(home, f"_{kind}_PROVIDER") or not hasattr(
            home, f"_{kind}_PROVIDER_SET_ONCE"
        ):
            continue
        name = f"set_{kind.lower()}_provider"
        replacement = watched.setter(kind, getattr(home, name))
        for module in modules:
            setattr(module, name, replacement)


class _ProviderWatch:
    """Lets the application set providers in place of those that were made for one recorder."""

    def __init__(
        self, collector: TelemetryCollector, stream: TelemetryStream, made: list[Any]
    ) -> None:
        self._collector = collector
        self._stream = stream
        self._made = made
        # The tracers that were handed out, with the arguments of their get_tracer.
        self._tracers: list[tuple[weakref.ref[Any], tuple[Any, ...], dict[str, Any]]] = []
        for provider in made:
            if isinstance(provider, TracerProvider):
                self._remember_tracers(provider)

    def _remember_tracers(self, provider: Any) -> None:
        get_tracer = provider.get_tracer

        @wraps(get_tracer)
        def remember(*args: Any, **kwargs: Any) -> Any:
            tracer = get_tracer(*args, **kwargs)
            self._tracers = [kept for kept in self._tracers if kept[0]() is not None]
            self._tracers.append((weakref.ref(tracer), args, kwargs))
            return tracer

        provider.get_tracer = remember

    def setter(self, kind: str, set_provider: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return the function that replaces the API's ``set_provider`` of one kind."""
        home = _MODULES[kind][0]

        @wraps(set_provider)
        def set_or_join(provider: Any) -> None:
            current = getattr(home, f"_{kind}_PROVIDER")
            ours = next((one for one in self._made if one is current), None)
            if ours is not None and provider is not ours:
                # Also one that cannot be joined, which says so: what the application sets is its choice.
                self._join(kind, provider)
                self._made.remove(ours)
                once = f"_{kind}_PROVIDER_SET_ONCE"
                setattr(home, once, type(getattr(home, once))())
            set_provider(provider)

        return set_or_join

    def _join(self, kind: str, provider: Any) -> None:
        if kind == _METER:
            join_meters(provider, self._stream)
            return
        if _add_collector(provider, self._collector) and kind == _TRACER:
            for reference, args, kwargs in self._tracers:
                tracer = reference()
                if tracer is not None:
                    theirs = provider.get_tracer(*args, **kwargs)
                    tracer.start_span = theirs.start_span
                    tracer.start_as_current_span = theirs.start_as_current_span
            self._tracers.clear()


def _add_collector(provider: Any, collector: TelemetryCollector) -> bool:
    """Add a collector to a provider of spans or log records; return False if that takes none."""
    for name in ("add_span_processor", "add_log_record_processor"):
        if add := getattr(provider, name, None):
            add(collector)
            return True
    return False


def join_meters(provider: Any, stream: TelemetryStream) -> None:
    """Have a stream read the metrics of a provider; say so if it takes no reader."""
    if not hasattr(provider, "add_metric_reader"):
        Reporter().warn(
            "metrics",
            "this SDK's MeterProvider takes no reader once it is made, so its metrics are not recorded:"
            " give it rimp_otel's stream, MeterProvider(metric_readers=[telemetry.stream])",
        )
        return
    provider.add_metric_reader(reader_for(stream))
