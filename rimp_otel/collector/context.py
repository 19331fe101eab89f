"""The span that the calling code runs in."""

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
"""Under which a context has its span."""


captured_log = local()
"""Its ``time`` is that of the log record which this thread hands to its handlers, in nanoseconds, where the
record has been captured already; None otherwise."""


def span_context_of(span: Any) -> SpanContext | None:
    """The span's context; None for an invalid one, or where a foreign span gives none."""
    try:
        context: SpanContext = span.get_span_context()
        return context if context.trace_id else None
    except Exception:  # whatever an object of the application's raises
        return None


def _read_public() -> Mapping[str, object]:
    return context_api.get_current()


def _choose() -> Callable[[], Mapping[str, object]]:
    """The context variable itself, where this SDK keeps its context in one: 0.03 µs, not 0.15."""
    variable = getattr(getattr(context_api, "_RUNTIME_CONTEXT", None), "_current_context", None)
    if not isinstance(variable, ContextVar):
        return _read_public
    read: Callable[[], Mapping[str, object]] = variable.get
    return read if _agrees(read) else _read_public


def _agrees(read: Callable[[], Mapping[str, object]]) -> bool:
    token = context_api.attach(context_api.Context({"rimp.probe": 1}))
    try:
        return read().get("rimp.probe") == 1
    except Exception:
        return False
    finally:
        context_api.detach(token)


current_context: Callable[[], Mapping[str, object]] = _choose()
"""What OpenTelemetry keeps of the calling code."""


def current_span_context() -> SpanContext | None:
    """The context of the current span; None outside of one."""
    span = current_context().get(SPAN_KEY)
    return None if span is None else span_context_of(span)
