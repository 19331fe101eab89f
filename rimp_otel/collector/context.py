"""The current span of the calling code, read the quick way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from threading import local
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import SpanContext

__all__ = ["SPAN_KEY", "captured_log", "current_context", "current_span_context", "span_context_of"]

SPAN_KEY = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, context_api.Context())))
"""The key of the span in an OpenTelemetry context."""


class _CapturedLog(local):
    time: int | None = None
    depth = 0


captured_log = _CapturedLog()
"""The log record that this thread is handing to its handlers and that has been captured already: its
time in nanoseconds, None outside of a log call; and how many are being read, one within another."""


def span_context_of(span: Any) -> SpanContext | None:
    """Return the span's context; None for an invalid one, or if a foreign span has none."""
    try:
        context: SpanContext = span.get_span_context()
        return context if context.trace_id else None
    except Exception:  # whatever an object of the application's raises
        return None


def _read_by_public_api() -> Mapping[str, object]:
    return context_api.get_current()


def _choose_reader() -> Callable[[], Mapping[str, object]]:
    """Return what reads the context: its variable, if the SDK has one (0.03 µs, not 0.15)."""
    variable = getattr(getattr(context_api, "_RUNTIME_CONTEXT", None), "_current_context", None)
    if not isinstance(variable, ContextVar):
        return _read_by_public_api
    read: Callable[[], Mapping[str, object]] = variable.get
    return read if _reads_context(read) else _read_by_public_api


def _reads_context(read: Callable[[], Mapping[str, object]]) -> bool:
    token = context_api.attach(context_api.Context({"rimp.probe": 1}))
    try:
        return read().get("rimp.probe") == 1
    except Exception:
        return False
    finally:
        context_api.detach(token)


current_context: Callable[[], Mapping[str, object]] = _choose_reader()
"""Return the current OpenTelemetry context."""


def current_span_context() -> SpanContext | None:
    """Return the context of the current span; None outside of a span."""
    span = current_context().get(SPAN_KEY)
    return None if span is None else span_context_of(span)
