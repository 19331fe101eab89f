"""The span that the calling code runs in."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import SpanContext

__all__ = ["current_span_context"]


def _read_public() -> SpanContext | None:
    context = trace.get_current_span().get_span_context()
    return context if context.trace_id else None


def _make_fast() -> Callable[[], SpanContext | None] | None:
    """A reader that goes to the context variable itself: 0.05 µs instead of 0.25.

    None, where this SDK keeps its context in another way.
    """
    variable = getattr(getattr(context_api, "_RUNTIME_CONTEXT", None), "_current_context", None)
    key = getattr(trace.propagation, "_SPAN_KEY", None)
    if not isinstance(variable, ContextVar) or not isinstance(key, str):
        return None
    get = variable.get

    def read() -> SpanContext | None:
        span = get().get(key)
        if span is None:
            return None
        context: SpanContext = span.get_span_context()
        return context if context.trace_id else None

    return read if _agrees(read) else None


def _agrees(read: Callable[[], SpanContext | None]) -> bool:
    expected = SpanContext(trace_id=1, span_id=2, is_remote=False)
    token = context_api.attach(trace.set_span_in_context(trace.NonRecordingSpan(expected)))
    try:
        return read() is expected
    except Exception:
        return False
    finally:
        context_api.detach(token)


current_span_context: Callable[[], SpanContext | None] = _make_fast() or _read_public
"""The context of the current span; None outside of one."""
