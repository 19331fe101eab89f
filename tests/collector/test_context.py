"""The current span of the calling code."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext

from rimp_otel.collector import context


@pytest.fixture(params=["fast", "public"])
def read(request, monkeypatch):
    """Read the span by the context variable and by the public API."""
    if request.param == "public":
        monkeypatch.setattr(context, "current_context", context._read_by_public_api)
    return context.current_span_context


def test_outside_of_a_span(read):
    """There is no span context, nor inside of an invalid span."""
    assert read() is None
    with trace.use_span(trace.INVALID_SPAN):
        assert read() is None


def test_inside_of_a_span(read):
    """The innermost span's context is returned."""
    tracer = TracerProvider().get_tracer("t")
    with tracer.start_as_current_span("outer") as outer:
        with tracer.start_as_current_span("inner") as inner:
            assert read() == inner.get_span_context()
        assert read() == outer.get_span_context()
    assert read() is None


def test_inside_of_a_remote_span(read):
    """A propagated context counts."""
    remote = SpanContext(1, 2, is_remote=True)
    with trace.use_span(NonRecordingSpan(remote)):
        assert read() is remote


def test_a_foreign_span_that_gives_no_context(read):
    """It counts as none, and nothing is raised."""

    class Foreign(NonRecordingSpan):
        def get_span_context(self):
            raise RuntimeError("no")

    with trace.use_span(Foreign(SpanContext(1, 2, False))):
        assert read() is None


def test_this_sdk_has_the_fast_way():
    """Without the context variable, collecting would be slower than the documented figures."""
    assert context._choose_reader() is not context._read_by_public_api


def test_an_sdk_that_keeps_it_elsewhere(monkeypatch):
    """The public API is used instead."""
    monkeypatch.setattr(context_api, "_RUNTIME_CONTEXT", object())
    assert context._choose_reader() is context._read_by_public_api


def test_a_variable_of_another_kind_is_not_trusted(monkeypatch):
    """A variable that does not hold what OpenTelemetry attaches is not read."""

    class Runtime:
        _current_context = ContextVar("other", default=None)
        attach, detach = staticmethod(lambda _: None), staticmethod(lambda _: None)

    monkeypatch.setattr(context_api, "_RUNTIME_CONTEXT", Runtime())
    assert context._choose_reader() is context._read_by_public_api
