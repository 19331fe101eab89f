"""OTLP JSON: records to text, and text to records.

Specification: opentelemetry-proto 1.x and its JSON mapping
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).

The two names are loaded when they are first asked for (PEP 562): encoding metrics takes the SDK's
metrics, which who only reads a recording does not wait for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rimp_otel.otlp.metrics import metric_fragment, metrics_data_fragments

__all__ = ["metric_fragment", "metrics_data_fragments"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.metrics"), name)
    return value
